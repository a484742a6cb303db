"""What the reader says will run is what runs when the other team's pods end."""

from __future__ import annotations

from mlk8s.cluster import Manifest, gpu_pod
from mlk8s.course.exercises import Work, Wrong

IMAGE = "registry.k8s.io/pause:3.10"
HELD = {"other-team-gpu": "nvidia.com/gpu", "other-team-slice": "nvidia.com/mig-2g.12gb"}


def waiting() -> dict[str, Manifest]:
    """The five pods."""
    return {
        "one": gpu_pod("one", IMAGE),
        "two": gpu_pod("two", IMAGE, gpus=2),
        "blackwell": gpu_pod("blackwell", IMAGE, product="NVIDIA-B200"),
        "slice": gpu_pod("slice", IMAGE, resource="nvidia.com/mig-2g.12gb"),
        "quarter": gpu_pod("quarter", IMAGE, resource="nvidia.com/mig-4g.24gb"),
    }


def prepare(work: Work) -> None:
    """The other team first, then those who wait for it."""
    for name in (*HELD, *waiting()):
        work.remove("pod", name)
    for name, resource in HELD.items():
        work.k.apply(gpu_pod(name, IMAGE, resource=resource))
    work.all_settled(*HELD)
    for body in waiting().values():
        work.k.apply(body)
    work.all_settled(*waiting())


def check(work: Work) -> str:
    """End the other team's pods, and see."""
    said = work.answer("runs")
    names = ", ".join(waiting())
    if not isinstance(said, list) or not set(map(str, said)) <= set(waiting()):
        raise Wrong(f"answer.yaml: runs is {said!r}; write a list of these names: {names}.")
    prepare(work)
    before = {name: found.says for name, found in work.all_settled(*waiting()).items()}
    for name in HELD:
        work.remove("pod", name)
    after = work.all_settled(*waiting())
    runs = [name for name, found in after.items() if found.state == "runs"]
    for name in waiting():
        if name in said and name not in runs:
            raise Wrong(
                f"The other team has gone, and {name} still waits. Its message was: "
                f"{before[name]} What does the part after 'preemption:' say?"
            )
        if name not in said and name in runs:
            raise Wrong(
                f"The other team has gone, and {name} runs, which is not in your list. Its message "
                f"was: {before[name]} What does the part after 'preemption:' say?"
            )
    return f"When the other team's pods had ended, {' and '.join(runs)} ran, and no other."
