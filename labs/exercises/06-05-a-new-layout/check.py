"""The node has the new layout, and seven notebooks run on it."""

from __future__ import annotations

from mlk8s.cluster import gpu_pod
from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.repairs import label

IMAGE, NODE = "registry.k8s.io/pause:3.10", "h100-mig-0"
CONFIG, STATE = "nvidia.com/mig.config", "nvidia.com/mig.config.state"
FIRST, WANTED = "all-balanced", "all-1g.10gb"
SMALL, LARGE = "nvidia.com/mig-1g.10gb", "nvidia.com/mig-3g.40gb"
OLD, NOTEBOOKS = "old-job", tuple(f"notebook-{number}" for number in range(7))
# From the label to its first effect; the change itself.
NOTICED_S, CHANGED_S = 1.5, 20.0


def prepare(work: Work) -> None:
    """The pod that is in the way."""
    work.remove("pod", OLD)
    work.k.apply(gpu_pod(OLD, IMAGE, resource=LARGE))
    work.running(OLD)


def clean(work: Work) -> None:
    """Cut the GPU as it was."""
    for name in (OLD, *NOTEBOOKS):
        work.remove("pod", name)
    label(work.k, NODE, CONFIG, FIRST)
    work.until("the first layout", lambda: _state(work) == "pending", NOTICED_S)
    work.until("the first layout", lambda: _state(work) == "success" and _offers(work, LARGE))


def check(work: Work) -> str:
    """The label, its state, the seven."""
    asked = work.node(NODE)["metadata"]["labels"][CONFIG]
    if asked != WANTED:
        raise Wrong(
            f"{NODE} has {CONFIG}={asked}. Nobody has asked for the new layout yet; and who has to "
            "go before somebody does?"
        )
    if _offers(work, SMALL) != len(NOTEBOOKS):
        work.until("the MIG manager to begin", lambda: _state(work) == "pending", NOTICED_S)
        work.until("the new layout", lambda: _state(work) != "pending", CHANGED_S)
        if _state(work) == "success":
            work.until("its devices", lambda: _offers(work, SMALL) == len(NOTEBOOKS))
    if _state(work) != "success":
        raise Wrong(
            f"{NODE} has {CONFIG}={WANTED}, and its state is {_state(work)}. The log of the MIG "
            "manager says what it could not destroy. Who uses it, and what makes the manager try "
            "again?"
        )
    for name in NOTEBOOKS:
        work.remove("pod", name)
        work.k.apply(gpu_pod(name, IMAGE, resource=SMALL))
    for name, found in work.all_settled(*NOTEBOOKS).items():
        if found.state != "runs":
            raise Wrong(f"{name} does not run: {found.says}")
    return f"{NODE} is cut as {WANTED}, and seven notebooks run on it."


def _state(work: Work) -> str:
    return str(work.node(NODE)["metadata"]["labels"][STATE])


def _offers(work: Work, resource: str) -> int:
    return int(work.node(NODE)["status"]["allocatable"].get(resource, "0"))
