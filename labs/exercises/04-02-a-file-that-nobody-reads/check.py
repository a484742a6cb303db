"""podman gives a container the GPU that was asked for, by the reader's CDI specification."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.podman import in_container
from mlk8s.errors import UsageError
from mlk8s.gpu import cdi

FILE = "nvidia.yaml"
COMMON = {"/dev/nvidiactl", "/dev/nvidia-uvm"}
LOOK = "echo $NVIDIA_VISIBLE_DEVICES; ls -d /dev/nvidia*"


def check(work: Work) -> str:
    """Hold the file to the rules, then run a container with each device."""
    try:
        cdi.check(work.documents(FILE)[0], newest="0.5.0")
    except UsageError as error:
        raise Wrong(f"{FILE}: {error.problem}") from error
    for number in ("0", "1"):
        device = f"nvidia.com/gpu={number}"
        ran, said = in_container(device, LOOK, work.file(FILE))
        if not ran:
            raise Wrong(f"No container starts with {device}. podman says: {said}")
        variable, *nodes = said.splitlines()
        wanted = {f"/dev/nvidia{number}", *COMMON}
        if set(nodes) != wanted:
            raise Wrong(
                f"A container with {device} has {', '.join(sorted(nodes)) or 'no node'}; wanted "
                f"are {', '.join(sorted(wanted))}. Which edits apply to every device of the file?"
            )
        if variable != "void":
            raise Wrong(f"A container with {device} has NVIDIA_VISIBLE_DEVICES={variable!r}.")
    return "podman gave each of two containers its own GPU, and both the common nodes."
