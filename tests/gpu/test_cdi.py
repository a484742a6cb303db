"""CDI specifications: what is written for a machine, and what the rules refuse."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from mlk8s.errors import UsageError
from mlk8s.gpu import cdi

Spec = dict[str, Any]
TWO_GPUS = cdi.Machine(
    gpus={"0": Path("/dev/nvidia0"), "1": Path("/dev/nvidia1")},
    common=(Path("/dev/nvidiactl"),),
    libraries={Path("/usr/lib/libcuda.so.580.1"): ("libcuda.so.1", "libcuda.so.580.1")},
    programs=(Path("/opt/driver/nvidia-smi"),),
)


@pytest.fixture
def spec() -> Spec:
    return cdi.specification(TWO_GPUS)


def nodes(edits: dict[str, Any]) -> list[str]:
    return [each["path"] for each in edits["deviceNodes"]]


def test_each_gpu_is_a_device_and_all_are_one(spec: Spec) -> None:
    devices = {each["name"]: nodes(each["containerEdits"]) for each in spec["devices"]}
    assert devices == {
        "0": ["/dev/nvidia0"],
        "1": ["/dev/nvidia1"],
        "all": ["/dev/nvidia0", "/dev/nvidia1"],
    }
    assert spec["kind"] == "nvidia.com/gpu"


def test_what_every_gpu_program_needs_is_common(spec: Spec) -> None:
    common = spec["containerEdits"]
    assert nodes(common) == ["/dev/nvidiactl"]
    mounts = {each["containerPath"]: each["hostPath"] for each in common["mounts"]}
    assert mounts == {
        f"{cdi.INSIDE}/libcuda.so.1": "/usr/lib/libcuda.so.580.1",
        f"{cdi.INSIDE}/libcuda.so.580.1": "/usr/lib/libcuda.so.580.1",
        "/usr/bin/nvidia-smi": "/opt/driver/nvidia-smi",
    }
    assert all("ro" in each["options"] for each in common["mounts"])
    assert f"LD_LIBRARY_PATH={cdi.INSIDE}" in common["env"]


def test_the_kind_of_another_vendor() -> None:
    assert cdi.specification(TWO_GPUS, "example.com/board")["kind"] == "example.com/board"
    with pytest.raises(UsageError, match="kind is 'board' and has to be vendor/class"):
        cdi.specification(TWO_GPUS, "board")


# --- versions: version.go of the CDI project ----------------------------------------------------


def add(place: str, value: Any) -> Callable[[Spec], None]:
    """A change of the common edits."""
    return lambda spec: spec["containerEdits"].update({place: value})


LETTERS = {"name": "first", "containerEdits": {"deviceNodes": [{"path": "/dev/nvidia0"}]}}


def lettered(**common: Any) -> Callable[[Spec], None]:
    """A device whose name begins with a letter, and other common edits."""
    return lambda spec: spec.update(devices=[LETTERS], containerEdits=common)


MOUNT = {"hostPath": "tmpfs", "containerPath": "/scratch", "type": "tmpfs"}


@pytest.mark.parametrize(
    ("change", "oldest"),
    [
        (lettered(), "0.3.0"),
        (lettered(mounts=[MOUNT]), "0.4.0"),
        (lambda s: None, "0.5.0"),  # names that begin with a digit
        (lettered(deviceNodes=[{"path": "/dev/a", "hostPath": "/dev/null"}]), "0.5.0"),
        (lambda s: s.update(annotations={"made.by": "hand"}), "0.6.0"),
        (lambda s: s["devices"][0].update(annotations={"made.by": "hand"}), "0.6.0"),
        (lambda s: s.update(kind="nvidia.com/gpu.shared"), "0.6.0"),
        (add("intelRdt", {"closID": "one"}), "0.7.0"),
        (add("additionalGids", [44]), "0.7.0"),
    ],
)
def test_the_oldest_version_with_these_fields(
    spec: Spec, change: Callable[[Spec], None], oldest: str
) -> None:
    change(spec)
    assert cdi.oldest_version(spec) == oldest
    cdi.check({**spec, "cdiVersion": oldest})
    before = cdi.VERSIONS[cdi.VERSIONS.index(oldest) - 1]
    if oldest != cdi.VERSIONS[0]:
        with pytest.raises(UsageError, match=f"says cdiVersion {before} and uses what came with"):
            cdi.check({**spec, "cdiVersion": before})


def test_a_version_that_the_runtime_does_not_know(spec: Spec) -> None:
    with pytest.raises(UsageError, match=r"cdiVersion 1\.0\.0, and the runtime knows up to 0\.5"):
        cdi.check({**spec, "cdiVersion": "1.0.0"}, newest="0.5.0")
    with pytest.raises(UsageError, match=r"'1' is none of 0\.3\.0, .*1\.0\.0"):
        cdi.check({**spec, "cdiVersion": "1"})


# --- rules --------------------------------------------------------------------------------------


def first_node(spec: Spec) -> dict[str, Any]:
    found: dict[str, Any] = spec["devices"][0]["containerEdits"]["deviceNodes"][0]
    return found


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda s: s.pop("devices"), "devices"),
        (lambda s: s.update(devices=[]), "devices must contain at least 1 items"),
        (lambda s: s["devices"].append(s["devices"][0]), "devices has the name '0' twice"),
        (lambda s: s["devices"][1].update(name="a b"), r"devices\[1\].name is 'a b'"),
        (lambda s: s["devices"][1].update(name="gpu-"), r"devices\[1\].name is 'gpu-'"),
        (lambda s: s["devices"][1].pop("containerEdits"), r"devices\[1\].*containerEdits"),
        (lambda s: s["devices"][1].update(containerEdits={}), "device '1' has no edits"),
        (lambda s: s["devices"][1].update(containerEdits={"env": []}), "device '1' has no edits"),
        (lambda s: s.update(kind="gpu"), "kind is 'gpu' and has to be vendor/class"),
        (lambda s: s.update(kind="1nvidia.com/gpu"), "kind is '1nvidia.com/gpu'"),
        (add("devicenodes", []), "containerEdits must not contain {'devicenodes'}"),
        (add("env", ["DEBUG"]), r"containerEdits.env\[0\] is 'DEBUG' and has to be NAME=VALUE"),
        (add("env", ["=1"]), r"containerEdits.env\[0\] is '=1'"),
        (lambda s: first_node(s).update(path=""), r"deviceNodes\[0\].path"),
        (lambda s: first_node(s).update(type="x"), r"deviceNodes\[0\].type must be one of"),
        (lambda s: first_node(s).update(major=-1), r"deviceNodes\[0\].major"),
        (lambda s: first_node(s).update(permissions="rx"), "permissions is 'rx' and has to be"),
        (add("mounts", [{"hostPath": "/x"}]), r"mounts\[0\] must contain .*containerPath"),
        (add("hooks", [{"hookName": "before", "path": "/x"}]), r"hooks\[0\].hookName must be one"),
        (add("hooks", [{"hookName": "prestart", "path": ""}]), r"hooks\[0\].path"),
    ],
)
def test_a_broken_rule_is_named_with_its_place(
    spec: Spec, change: Callable[[Spec], None], says: str
) -> None:
    change(spec)
    with pytest.raises(UsageError, match=f"The CDI specification is not valid: .*{says}") as found:
        cdi.check(spec)
    assert found.value.next_step == "correct it; a runtime passes over the whole file."


@pytest.mark.parametrize("document", [None, [], "nvidia", {}])
def test_what_is_no_specification(document: Any) -> None:
    with pytest.raises(UsageError, match="The CDI specification is not valid: it must"):
        cdi.check(document)


def test_all_fields_are_known(spec: Spec) -> None:
    node = {"type": "c", "major": 195, "minor": 0, "fileMode": 438, "permissions": "rwm"}
    first_node(spec).update(node, uid=0, gid=44)
    hook = {"hookName": "createContainer", "path": "/usr/bin/nvidia-cdi-hook", "timeout": 5}
    spec["containerEdits"]["hooks"] = [{**hook, "args": ["a"], "env": ["A=1"]}]
    cdi.check(spec)


# --- the machine --------------------------------------------------------------------------------


def test_what_the_host_lacks(spec: Spec, tmp_path: Path) -> None:
    library = tmp_path / "libcuda.so.580.1"
    library.touch()
    text = json.dumps(spec).replace("/usr/lib/libcuda.so.580.1", str(library))
    there = json.loads(text.replace("/dev/nvidia0", "/dev/null"))
    first_node(there)["hostPath"] = ""
    there["containerEdits"]["mounts"].append(
        {"hostPath": "tmpfs", "containerPath": "/x", "type": "tmpfs"}
    )
    there["containerEdits"]["hooks"] = [{"hookName": "prestart", "path": "/opt/no-hook"}]
    assert cdi.absent(there) == [
        "/dev/nvidia1",
        "/dev/nvidiactl",
        "/opt/driver/nvidia-smi",
        "/opt/no-hook",
    ]


def test_without_a_device_node(process: Callable[..., CompletedProcess[str]]) -> None:
    if list(Path("/dev").glob("nvidia[0-9]*")):
        pytest.skip("this machine has a GPU")
    done = process("-c", "from mlk8s.gpu import cdi; cdi.find()")
    assert "There is no /dev/nvidia0 on this machine. Next: load the driver" in done.stderr


def test_writing(spec: Spec, tmp_path: Path) -> None:
    path = cdi.write(spec, tmp_path / "nvidia.json")
    assert json.loads(path.read_text()) == spec
    with pytest.raises(UsageError, match=r"passes over nvidia\.yml: it reads \*\.json and"):
        cdi.write(spec, tmp_path / "nvidia.yml")
    broken = copy.deepcopy(spec)
    broken["devices"] = []
    with pytest.raises(UsageError, match="not valid"):
        cdi.write(broken, tmp_path / "broken.json")
    assert [each.name for each in tmp_path.iterdir()] == ["nvidia.json"]
