"""Which GPU answers: this machine's (*live*) or a recorded one, as ``MLK8S_GPU`` says.

``auto`` (the default) is live where NVML finds a device, else recorded; ``live`` insists;
``recorded`` reads the recording that the chapter was written with (:func:`origin`); the name of a
recording reads that one. :func:`measured` is the one door between code and numbers: live it runs
the code, recorded it returns what the same code returned on the recorded machine, and it refuses
when the code has changed since.
"""

from __future__ import annotations

import ast
import dis
import functools
import hashlib
import inspect
import json
import os
import textwrap
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path
from types import CodeType
from typing import Any, ParamSpec, TypeVar

from mlk8s import recordings
from mlk8s.errors import GpuUnavailable, NotRecorded, UnknownGpu
from mlk8s.gpu import catalogue, nvml
from mlk8s.provenance import Device, Kind, Provenance, Table

P = ParamSpec("P")
T = TypeVar("T")

#: Set by ``mlk8s record``: a folder into which every live measurement is written as well.
RECORD_VARIABLE = "MLK8S_RECORD_TO"
# The recording behind auto and recorded; a chapter that was recorded elsewhere changes it.
_own = recordings.DEFAULT


def recording() -> recordings.Recording | None:
    """The recording that answers, or ``None`` where this machine's own GPU does.

    Raises:
        GpuUnavailable: ``live`` was asked for and there is no usable GPU, or ``auto`` met a
            driver that is installed and broken.
        RecordingError: the variable names no recording.
    """
    wanted = os.environ.get("MLK8S_GPU", "auto")
    if wanted not in ("auto", "live"):
        return recordings.load(_own if wanted == "recorded" else wanted)
    try:
        nvml.open_nvml()
    except nvml.NoGpu:
        if wanted == "live":
            raise
        return recordings.load(_own)
    return None


def recorded_by(machine: str, call: Callable[[], T]) -> T | None:
    """What ``call`` gives on a recorded machine, to compare with; ``None`` if it was not recorded.

    Args:
        machine: the name of a recording, such as ``h200-sxm``.
        call: asks for measurements, by the code that this run uses.

    Raises:
        RecordingError: there is no such recording, or it is damaged.
    """
    recordings.load(machine)
    before = os.environ.get("MLK8S_GPU")
    os.environ["MLK8S_GPU"] = machine
    try:
        return call()
    except NotRecorded:
        return None
    finally:
        if before is None:
            del os.environ["MLK8S_GPU"]
        else:
            os.environ["MLK8S_GPU"] = before


def is_live() -> bool:
    """Whether numbers come from this machine's GPU."""
    return recording() is None


@functools.cache
def device(index: int = 0) -> Device:
    """This machine's GPU as provenance records it (live only)."""
    pynvml = nvml.open_nvml()
    handle = nvml.handle(index)
    name = nvml.read(pynvml.nvmlDeviceGetName, handle)
    try:
        part = catalogue.find(name=name).id
    except UnknownGpu:
        part = "unknown"
    clock = nvml.read(pynvml.nvmlDeviceGetMaxClockInfo, handle, pynvml.NVML_CLOCK_SM)
    limit = nvml.read(pynvml.nvmlDeviceGetEnforcedPowerLimit, handle)
    mig = nvml.read(pynvml.nvmlDeviceGetMigMode, handle)
    return Device(
        name=name,
        part=part,
        driver=nvml.read(pynvml.nvmlSystemGetDriverVersion),
        cuda=nvml.highest_cuda(),
        max_sm_clock_mhz=clock if isinstance(clock, int) else None,
        power_limit_w=limit / 1000 if isinstance(limit, int) else None,
        mig_mode=mig if isinstance(mig, str) else ("enabled" if mig[0] else "disabled"),
    )


def software(*packages: str) -> dict[str, str]:
    """Installed versions of the packages that take part in a measurement."""
    # A tenth of the time that importing this package takes, and needed only where one measures.
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in packages or ("torch", "cupy-cuda12x", "cupy-cuda13x", "numpy", "nvidia-ml-py"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def live_provenance(method: str) -> Provenance:
    """The provenance of something measured now on this machine's GPU."""
    return Provenance(Kind.LIVE, method, date.today().isoformat(), device(), software())


def measured(name: str, method: str = "") -> Callable[[Callable[P, Any]], Callable[P, Table]]:
    """Make a function's result evidence: measured live, or read from the recording.

    The function takes and returns JSON values only (a mapping for one row, a list of mappings for
    several), and imports what needs a GPU inside its body, which a recorded run never enters.

    Args:
        name: ``group/measurement``, unique in the course.
        method: how it measures, one sentence; the first line of the docstring if empty.

    Returns:
        A decorator. The decorated function returns a :class:`~mlk8s.provenance.Table`.

    Raises:
        NotRecorded: on a recorded call that the recording does not hold, or whose code has
            changed since it was recorded.
    """

    def decorate(function: Callable[P, Any]) -> Callable[P, Table]:
        described = method or (inspect.getdoc(function) or name).split("\n")[0]

        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> Table:
            bound = inspect.signature(function).bind(*args, **kwargs)
            bound.apply_defaults()
            params = json.loads(json.dumps(bound.arguments))
            source = fingerprint(function)
            kept = recording()
            if kept is None:
                # The round trip gives a live reader the same types as a recorded one.
                try:
                    value = json.loads(json.dumps(function(*args, **kwargs)))
                except ModuleNotFoundError as error:
                    raise GpuUnavailable(
                        f"{name} runs on the GPU with the package {error.name!r}, which is not "
                        "installed.",
                        "install what the GPU needs with `make setup` on this machine, "
                        + nvml.RECORDED,
                    ) from error
                provenance = live_provenance(described)
                target = os.environ.get(RECORD_VARIABLE)
                if target:
                    entry = recordings.Entry(name, params, described, source, value, provenance)
                    recordings.write(Path(target), [entry])
                return Table(value, provenance)
            entry = kept.get(name, params)
            if entry.source != source:
                raise NotRecorded(
                    f"The code of {name} has changed since {kept.name} was recorded "
                    f"({entry.source} then, {source} now).",
                    f"record it anew on that machine with `mlk8s record --only {name}`, "
                    "or undo the change.",
                )
            return Table(entry.value, entry.provenance)

        return call

    return decorate


def fingerprint(function: Callable[..., Any]) -> str:
    """Hash of a function's code and of the constants and functions that it uses.

    Comments, blank lines and the docstring do not count. Names of the module (or notebook) that
    the function refers to count by value: constants as they are, functions of the notebook and of
    this library by their own code. Modules and functions of other libraries do not; their versions
    are in the provenance.
    """
    digest = hashlib.sha256()
    _feed(digest, function, set())
    return digest.hexdigest()[:16]


def _feed(digest: Any, function: Callable[..., Any], seen: set[str]) -> None:
    function = inspect.unwrap(function)
    source = textwrap.dedent(inspect.getsource(function))
    tree = ast.parse(source)
    definition = tree.body[0]
    assert isinstance(definition, ast.FunctionDef)
    body = definition.body
    if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
        body = body[1:]
    definition.decorator_list = []
    # ast.dump is stable between Python releases where ast.unparse and tokenize are not, once the
    # fields that later releases added are left out by building the text from what all share.
    digest.update(_shape(definition.args).encode())
    for node in body:
        digest.update(_shape(node).encode())
    ours = {function.__module__.split(".")[0], "mlk8s"}
    for name in sorted(_globals(function.__code__)):
        value = function.__globals__.get(name)
        if name in seen or value is None:
            continue
        if isinstance(value, (str, int, float, tuple, list, dict)):
            digest.update(f"{name}={value!r}".encode())
        elif inspect.isfunction(value) and value.__module__.split(".")[0] in ours:
            _feed(digest, value, seen | {name})


def _globals(code: CodeType) -> set[str]:
    """Global names that a code object reads, and those that functions nested in it read.

    Attribute names do not count, which ``co_names`` mixes in: a notebook's later variable may
    happen to be called like one.
    """
    loads = ("LOAD_GLOBAL", "LOAD_NAME")
    names = {i.argval for i in dis.get_instructions(code) if i.opname in loads}
    inner = (c for c in code.co_consts if isinstance(c, CodeType))
    return names.union(*(_globals(c) for c in inner))


def _shape(node: Any) -> str:
    """A syntax tree as text, without positions, empty fields and what only some releases have."""
    if isinstance(node, ast.JoinedStr):
        # Python 3.12 ends a format specification such as {x:{width}} with an empty text.
        node = ast.JoinedStr([v for v in node.values if getattr(v, "value", None) != ""])
    if isinstance(node, ast.AST):
        fields = [
            f"{name}={_shape(value)}"
            for name, value in ast.iter_fields(node)
            if value not in (None, []) and name not in ("type_comment", "type_params", "kind")
        ]
        return f"{type(node).__name__}({','.join(fields)})"
    if isinstance(node, list):
        return f"[{','.join(map(_shape, node))}]"
    return repr(node)


def origin(recorded_on: str = recordings.DEFAULT) -> Table:
    """Where this run's GPU numbers come from: the second cell of every chapter shows it.

    Args:
        recorded_on: the machine that the chapter was recorded on. From here on it answers where
            no live GPU does, unless ``MLK8S_GPU`` names another recording.

    Raises:
        GpuUnavailable: ``live`` was asked for and there is no usable GPU.
        RecordingError: there is no such recording.
    """
    global _own
    recordings.load(recorded_on)
    _own = recorded_on
    kept = recording()
    found = device() if kept is None else kept.device
    rows: Mapping[str, Any] = {
        "GPU": found.name,
        "numbers are": "live" if kept is None else "recorded",
        "driver": found.driver,
        "highest CUDA of the driver": found.cuda,
        "MLK8S_GPU": os.environ.get("MLK8S_GPU", "auto"),
    }
    if kept is None:
        return Table(rows, live_provenance("read through NVML now"))
    return Table(rows, kept.origins[-1])
