"""podman gives each container one board, and only what belongs to it."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.podman import in_container
from mlk8s.errors import UsageError
from mlk8s.gpu import cdi

FILE = "acme.json"
INSIDE = "/opt/acme/calibration"
BOARDS = {"board-a": "/dev/nvidia0", "board-b": "/dev/nvidia1"}
LOOK = (
    "echo nodes $(ls -d /dev/nvidia*); echo license $ACME_LICENSE; "
    f"echo file $(test -f {INSIDE} && echo there); "
    f"echo mount $(while read -r a b c d where options rest; do "
    f"test $where = {INSIDE} && echo $options; done < /proc/self/mountinfo)"
)


def check(work: Work) -> str:
    """Hold the file to the rules, then look into a container of each board."""
    try:
        cdi.check(work.documents(FILE)[0], newest="0.5.0")
    except UsageError as error:
        raise Wrong(f"{FILE}: {error.problem}") from error
    for board, node in BOARDS.items():
        device = f"acme.com/accelerator={board}"
        ran, said = in_container(device, LOOK, work.file(FILE))
        if not ran:
            raise Wrong(f"No container starts with {device}. podman says: {said}")
        lines = (line.partition(" ") for line in said.splitlines())
        found = {key: value.split() for key, _, value in lines}
        if set(found["nodes"]) != {node, "/dev/nvidiactl"}:
            raise Wrong(
                f"A container with {board} has {', '.join(found['nodes']) or 'no node'}; it is to "
                f"have {node} and /dev/nvidiactl. Whose edits are those?"
            )
        if found["license"] != ["floating"]:
            raise Wrong(f"A container with {board} has no ACME_LICENSE=floating.")
        if bool(found["file"]) != (board == "board-b"):
            raise Wrong(f"{INSIDE} belongs to board-b alone; look at a container with {board}.")
        if found["mount"] and "ro" not in found["mount"][0].split(","):
            raise Wrong(f"{INSIDE} in a container with {board} is not read-only.")
    return "podman gave each container one board, and the calibration to board-b alone."
