"""KubeRay's own rule for each change, and the GPUs of the one that needs a second cluster."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong

WAYS = ("in_place", "new_cluster", "nothing")
RIGHT = {
    "a": "in_place",
    "b": "in_place",
    "c": "new_cluster",
    "d": "nothing",
    "e": "nothing",
    "f": "in_place",
    "g": "new_cluster",
}
LOOK = {
    "a": "Which of the two parts of the spec is it in?",
    "b": "Which of the two parts of the spec is it in?",
    "c": "Can a running pod take another image?",
    "d": "Who else changes this number, and would KubeRay want a new cluster each time?",
    "e": "What of the ConfigMap is in the spec that KubeRay compares?",
    "f": "Does anything that runs have to be another one?",
    "g": "Can a running pod of the cluster be like that?",
}
EACH, QUOTA = 2, 3
FIGURES = {
    "wants": (2 * EACH, "Both clusters are there until the new one answers."),
    "gets": (QUOTA - EACH, "What does the quota leave beside the old cluster?"),
    "serves": (1.4, "When does KubeRay switch, and does that happen?"),
}


def check(work: Work) -> str:
    """The letters, then the numbers; the first wrong one is named."""
    work.judge(RIGHT, WAYS, LOOK)
    for key, (right, look) in FIGURES.items():
        number = work.number(key, "GPUs" if key != "serves" else "a version")
        if number != right:
            raise Wrong(f"{key}: {number:g} is not right. {look}")
    return "Two of seven changes cost a second cluster, and the quota has no room for it."
