"""CDI specifications: what a container needs to use the GPUs of a machine, as data.

For study, and for a machine without NVIDIA's container toolkit: in production ``nvidia-ctk cdi
generate`` writes the file, with hooks that this module replaces by mounts and one variable.
:func:`check` knows the rules of the versions 0.3.0 to 1.0.0, from the schema and the validation
code of https://github.com/cncf-tags/container-device-interface, read 2026-11-30.
"""

from __future__ import annotations

import ctypes
import json
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from mlk8s.errors import GpuUnavailable, UsageError

#: Versions of the specification, oldest first; no program reads a later one than it was built with.
VERSIONS = ("0.3.0", "0.4.0", "0.5.0", "0.6.0", "0.7.0", "0.8.0", "1.0.0")
#: Where the driver's libraries appear in the container.
INSIDE = "/usr/local/nvidia/lib64"
# Of the driver's libraries, those that a program that computes may load.
_COMPUTE = re.compile(r"lib(cuda|cudadebugger|nvidia-(ml|ptxjitcompiler|nvvm\d*|gpucomp))")
_COMMON = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
_OPTIONS = ["ro", "nosuid", "nodev", "bind"]
_LABEL = "[A-Za-z]([A-Za-z0-9_.-]*[A-Za-z0-9])?"
_KIND, _VARIABLE, _RIGHTS = f"^{_LABEL}/{_LABEL}$", "^[^=]+=", "^[rwm]*$"
_DEVICE = "^[A-Za-z0-9]([A-Za-z0-9_.:-]*[A-Za-z0-9])?$"
_PATTERNS = {
    _KIND: "vendor/class, as in nvidia.com/gpu",
    _VARIABLE: "NAME=VALUE",
    _RIGHTS: "letters out of rwm",
    _DEVICE: "letters, digits and _.:- between them",
}


@dataclass(frozen=True)
class Machine:
    """What a machine has for containers.

    Attributes:
        gpus: device node of each GPU, by its name in the specification.
        common: device nodes that every GPU program opens.
        libraries: files of the driver, each with the names by which programs ask for it.
        programs: such as ``nvidia-smi``.
    """

    gpus: Mapping[str, Path]
    common: tuple[Path, ...]
    libraries: Mapping[Path, tuple[str, ...]]
    programs: tuple[Path, ...] = ()


def find() -> Machine:
    """What this machine has: the nodes in ``/dev``, and the driver that the loader finds.

    Raises:
        GpuUnavailable: there is no device node or no ``libcuda.so.1``.
    """
    nodes = sorted(Path("/dev").glob("nvidia[0-9]*"))
    if not nodes:
        raise GpuUnavailable(
            "There is no /dev/nvidia0 on this machine.",
            "load the driver (chapter 1), or describe a machine with cdi.Machine(...).",
        )
    smi = shutil.which("nvidia-smi")
    return Machine(
        gpus={node.name.removeprefix("nvidia"): node for node in nodes},
        common=tuple(node for name in _COMMON if (node := Path("/dev", name)).exists()),
        libraries={file: _names(file) for file in _driver_libraries()},
        programs=(Path(smi),) if smi else (),
    )


def _driver_libraries() -> list[Path]:
    """The driver's libraries, from the folder and of the version of ``libcuda.so.1``."""
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError as error:
        raise GpuUnavailable(
            f"The driver's library cannot be loaded: {error}.",
            "install the driver's libraries (package libnvidia-compute-<branch>-server).",
        ) from error
    loaded = re.search(r"/\S*/libcuda\.so\.\S+", Path("/proc/self/maps").read_text())
    assert loaded is not None  # it was loaded a moment ago
    libcuda = Path(loaded[0])
    version = libcuda.name.removeprefix("libcuda.so.")
    found = libcuda.parent.glob(f"lib*.so.{version}")
    return sorted(file for file in found if _COMPUTE.fullmatch(file.name.partition(".so.")[0]))


def _names(file: Path) -> tuple[str, ...]:
    """A library's file name, and those of the links to it: programs ask for ``libcuda.so.1``."""
    beside = file.parent.glob(f"{file.name.partition('.so.')[0]}.so.*")
    return tuple(sorted(each.name for each in beside if each.resolve() == file.resolve()))


def specification(machine: Machine, kind: str = "nvidia.com/gpu") -> dict[str, Any]:
    """The specification of a machine: a device for each GPU, and ``all``.

    Args:
        machine: from :func:`find`, or described.
        kind: vendor and class, the part of a device's name before ``=``.

    Returns:
        The document, in the oldest version that has its fields, as old runtimes refuse later ones.

    Raises:
        UsageError: it would not be valid.
    """
    devices = {name: [node] for name, node in machine.gpus.items()}
    devices["all"] = list(machine.gpus.values())
    # The toolkit mounts each library where the host has it, and calls ldconfig in a hook. A folder
    # of our own and a variable need no program of ours on the host.
    mounts = [
        (file, f"{INSIDE}/{name}") for file, names in machine.libraries.items() for name in names
    ]
    mounts += [(file, f"/usr/bin/{file.name}") for file in machine.programs]
    spec = {
        "cdiVersion": "",
        "kind": kind,
        "devices": [
            {"name": name, "containerEdits": {"deviceNodes": [{"path": str(n)} for n in nodes]}}
            for name, nodes in devices.items()
        ],
        "containerEdits": {
            # Where NVIDIA's own runtime is the default, it must not add devices a second time.
            "env": ["NVIDIA_VISIBLE_DEVICES=void", f"LD_LIBRARY_PATH={INSIDE}"],
            "deviceNodes": [{"path": str(node)} for node in machine.common],
            "mounts": [
                {"hostPath": str(host), "containerPath": inside, "options": _OPTIONS}
                for host, inside in mounts
            ],
        },
    }
    spec["cdiVersion"] = oldest_version(spec)
    check(spec)
    return spec


def oldest_version(spec: Mapping[str, Any]) -> str:
    """The first version that has all the fields of a specification.

    Args:
        spec: the document; its own ``cdiVersion`` does not count.
    """
    edits = list(_edits(spec))
    needs = {
        "0.4.0": any("type" in mount for e in edits for mount in e.get("mounts", ())),
        "0.5.0": any("hostPath" in node for e in edits for node in e.get("deviceNodes", ()))
        or any(device["name"][:1].isdigit() for device in spec["devices"]),
        "0.6.0": "annotations" in spec
        or any("annotations" in device for device in spec["devices"])
        or "." in spec["kind"].partition("/")[2],
        "0.7.0": any("intelRdt" in e or "additionalGids" in e for e in edits),
    }
    return max([VERSIONS[0], *(version for version, used in needs.items() if used)])


def check(spec: Any, newest: str = VERSIONS[-1]) -> None:
    """Hold a specification to the rules, as a runtime does before it uses it.

    Args:
        spec: the document.
        newest: the latest version that the runtime knows; podman 4.3 ends at 0.5.0.

    Raises:
        UsageError: a rule is broken; the message names the place.
    """
    import fastjsonschema

    try:
        _schema()(spec)
    except fastjsonschema.JsonSchemaValueException as error:
        raise _broken(_in_words(error)) from error
    names = [device["name"] for device in spec["devices"]]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise _broken(f"devices has the name {twice[0]!r} twice")
    for device in spec["devices"]:
        if not any(device["containerEdits"].values()):
            raise _broken(f"device {device['name']!r} has no edits, so it would do nothing")
    version, oldest = spec["cdiVersion"], oldest_version(spec)
    if version not in VERSIONS:
        raise _broken(f"cdiVersion {version!r} is none of {', '.join(VERSIONS)}")
    if VERSIONS.index(version) < VERSIONS.index(oldest):
        raise _broken(f"it says cdiVersion {version} and uses what came with {oldest}")
    if VERSIONS.index(version) > VERSIONS.index(newest):
        raise _broken(f"it says cdiVersion {version}, and the runtime knows up to {newest}")


def absent(spec: Mapping[str, Any]) -> list[str]:
    """Host paths of a valid specification that this machine does not have.

    Args:
        spec: the document.
    """
    paths = []
    for edits in _edits(spec):
        paths += [node.get("hostPath") or node["path"] for node in edits.get("deviceNodes", ())]
        paths += [mount["hostPath"] for mount in edits.get("mounts", ()) if "type" not in mount]
        paths += [hook["path"] for hook in edits.get("hooks", ())]
    return [path for path in dict.fromkeys(paths) if not Path(path).exists()]


def write(spec: Mapping[str, Any], path: Path) -> Path:
    """Write a specification as JSON.

    Args:
        spec: the document.
        path: where; a runtime reads it if the folder is one of its own.

    Returns:
        The path.

    Raises:
        UsageError: it is not valid, or no runtime would read a file of that name.
    """
    check(spec)
    if path.suffix not in (".json", ".yaml"):
        raise UsageError(
            f"A runtime passes over {path.name}: it reads *.json and *.yaml only.",
            "choose such a name.",
        )
    path.write_text(json.dumps(spec, indent=2) + "\n")
    return path


def _edits(spec: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    yield from (device["containerEdits"] for device in spec["devices"])
    yield spec.get("containerEdits", {})


def _in_words(error: Any) -> str:
    if error.rule == "pattern":
        place = str(error.name).removeprefix("data.")
        return f"{place} is {error.value!r} and has to be {_PATTERNS[error.rule_definition]}"
    message: str = error.message
    return message.removeprefix("data.").replace("data must", "it must")


def _broken(what: str) -> UsageError:
    return UsageError(
        f"The CDI specification is not valid: {what}.",
        "correct it; a runtime passes over the whole file.",
    )


@cache
def _schema() -> Any:
    def closed(required: tuple[str, ...], **properties: Any) -> dict[str, Any]:
        """An object in which a misspelled field is an error, as it is for a runtime."""
        return {
            "type": "object",
            "required": list(required),
            "properties": properties,
            "additionalProperties": False,
        }

    def each(item: Any) -> dict[str, Any]:
        return {"type": "array", "items": item}

    text, path = {"type": "string"}, {"type": "string", "minLength": 1}
    number = {"type": "integer", "minimum": 0}
    variables = each({"type": "string", "pattern": _VARIABLE})
    node = closed(
        ("path",),
        path=path,
        hostPath=text,
        type={"enum": ["", "b", "c", "u", "p"]},
        major=number,
        minor=number,
        fileMode=number,
        permissions={"type": "string", "pattern": _RIGHTS},
        uid=number,
        gid=number,
    )
    mount = closed(
        ("hostPath", "containerPath"),
        hostPath=path,
        containerPath=path,
        options=each(text),
        type=text,
    )
    stages = ("prestart", "createRuntime", "createContainer", "startContainer", "poststart")
    hook = closed(
        ("hookName", "path"),
        hookName={"enum": [*stages, "poststop"]},
        path=path,
        args=each(text),
        env=variables,
        timeout=number,
    )
    edits = closed(
        (),
        env=variables,
        deviceNodes=each(node),
        mounts=each(mount),
        hooks=each(hook),
        intelRdt={"type": "object"},
        additionalGids=each(number),
    )
    annotations = {"type": "object", "additionalProperties": text}
    name = {"type": "string", "pattern": _DEVICE}
    device = closed(
        ("name", "containerEdits"), name=name, annotations=annotations, containerEdits=edits
    )
    import fastjsonschema

    return fastjsonschema.compile(
        closed(
            ("cdiVersion", "kind", "devices"),
            cdiVersion=text,
            kind={"type": "string", "pattern": _KIND},
            annotations=annotations,
            devices={**each(device), "minItems": 1},
            containerEdits=edits,
        )
    )
