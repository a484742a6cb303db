"""The pod tolerates the taint of the GPU node, and nothing beyond it."""

from __future__ import annotations

from typing import Any

from mlk8s.course.exercises import Work, Wrong

NODE = "h100-0"
TAINT = {"key": "nvidia.com/gpu", "value": "present", "effect": "NoSchedule"}


def prepare(work: Work) -> None:
    """The administrator taints the node."""
    work.k.patch("nodes", NODE, {"spec": {"taints": [*_others(work), TAINT]}})


def clean(work: Work) -> None:
    """Take the taint away again, and only it."""
    work.k.patch("nodes", NODE, {"spec": {"taints": _others(work) or None}})


def check(work: Work) -> str:
    """Apply the reader's pod to the node, which must still be tainted."""
    if TAINT not in _taints(work):
        raise Wrong(
            f"The taint {TAINT['key']} is gone from node {NODE}, or is another one now: every pod "
            "may go there. Put it back: kubectl taint node --overwrite "
            f"{NODE} {TAINT['key']}={TAINT['value']}:{TAINT['effect']}"
        )
    (body,) = work.objects("pod.yaml", "Pod")[:1]
    spec = body.get("spec") or {}
    if spec.get("nodeName"):
        raise Wrong(
            f"nodeName puts pod train on {spec['nodeName']} without asking the scheduler, which is "
            "the one that looks at taints. Let the scheduler decide, and look at what it needs to "
            "hear from the pod about the taint."
        )
    if any(not each.get("key") for each in spec.get("tolerations") or ()):
        raise Wrong(
            "A toleration without a key accepts every taint, that of a node which is being taken "
            f"out of service too. Name the one that is meant; read it on the node: kubectl "
            f"describe node {NODE}"
        )
    work.apply("pod.yaml", "Pod")
    pod = work.running("train")
    if pod["spec"]["nodeName"] != NODE:
        raise Wrong(f"Pod train runs on {pod['spec']['nodeName']}. The task is about {NODE}.")
    return f"Node {NODE} is tainted, and pod train was scheduled to it and runs."


def _taints(work: Work) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = work.node(NODE)["spec"].get("taints") or []
    return found


def _others(work: Work) -> list[dict[str, Any]]:
    return [each for each in _taints(work) if each["key"] != TAINT["key"]]
