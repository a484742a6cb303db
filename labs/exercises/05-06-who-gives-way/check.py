"""Serving takes the GPU from training; training takes it from nobody."""

from __future__ import annotations

from mlk8s.cluster import gpu_pod
from mlk8s.course.exercises import Work, Wrong

IMAGE = "registry.k8s.io/pause:3.10"
CLASSES = {"train": "labs-batch", "chat": "labs-serving"}
PODS = ("notebook", *CLASSES)


def check(work: Work) -> str:
    """Let one after the other come."""
    for name in PODS:
        work.remove("pod", name)
    work.apply("classes.yaml", "PriorityClass")
    _come(work, "notebook")
    work.running("notebook")
    if work.pod("notebook")["spec"]["priority"]:
        raise Wrong(
            f"The notebook names no class, and its priority is "
            f"{work.pod('notebook')['spec']['priority']}: one of your classes is everybody's."
        )
    _come(work, "train")
    train = work.settled("train")
    if train.state != "waits" or not work.pod("notebook"):
        raise Wrong(
            "train came while a notebook had the GPU, and ended it. Its class is above a pod "
            "without one. What else does a class say? kubectl explain priorityclass"
        )
    work.remove("pod", "notebook")
    work.running("train")
    _come(work, "chat")
    chat = work.settled("chat")
    if chat.state != "runs":
        raise Wrong(
            f"chat waits while train computes: {chat.says} Compare the two classes: "
            "kubectl get priorityclass"
        )
    _come(work, "train")
    train = work.settled("train")
    if train.state != "waits" or not work.pod("chat"):
        raise Wrong("train came again while chat had the GPU, and ended it.")
    return "chat ended train at once; train waited for the notebook and for chat, and ended none."


def clean(work: Work) -> None:
    """Remove the classes, which belong to no namespace."""
    for name in CLASSES.values():
        work.remove("priorityclass", name)


def _come(work: Work, name: str) -> None:
    work.remove("pod", name)
    work.k.apply(gpu_pod(name, IMAGE, priority_class=CLASSES.get(name)))
