"""What kr8s gets from a cluster: 15 calls, and what each gave, as JSON.

usage: python kr8s_client.py KUBECONFIG NODE IMAGE

NODE is a node with a kubelet, labeled ``nvidia.com/gpu.present``; IMAGE prints something and runs
on. A call that does not end is the caller's to stop.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import kr8s
from kr8s.objects import Pod

KUBECONFIG, NODE, IMAGE = sys.argv[1:]
api = kr8s.api(kubeconfig=KUBECONFIG)


def a_pod(name: str, limits: dict[str, str]) -> Pod:
    """A pod, not created yet."""
    return Pod(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {
                "terminationGracePeriodSeconds": 1,
                "containers": [{"name": "c", "image": IMAGE, "resources": {"limits": limits}}],
            },
        },
        api=api,
    )


pod = a_pod("kr", {"nvidia.com/gpu": "1"})


def names(kind: str, **selection: Any) -> list[str]:
    """Names of what is there."""
    return [one.name for one in kr8s.get(kind, api=api, **selection)]


def phase() -> str:
    """The phase after a refresh."""
    pod.refresh()
    return str(pod.status.phase)


def wait_ready() -> bool:
    """Wait, then ask again."""
    pod.wait("condition=Ready", timeout=20)
    return bool(pod.ready())


def label() -> str:
    """A label, set and read."""
    pod.label({"a": "b"})
    return str(pod.labels["a"])


def cordon() -> list[bool]:
    """A node, cordoned and back."""
    (node,) = kr8s.get("nodes", NODE, api=api)
    node.cordon()
    cordoned = bool(node.unschedulable)
    node.uncordon()
    return [cordoned, bool(node.unschedulable)]


def watch() -> list[str]:
    """The first event after a pod was created."""
    a_pod("watched", {}).create()
    for event, one in api.watch(
        "pods", namespace="default", field_selector="metadata.name=watched"
    ):
        return [event, one.name]
    return []


CALLS: tuple[tuple[str, Callable[[], Any], Any], ...] = (
    ("version", lambda: api.version()["major"], "1"),
    ("nodes", lambda: NODE in names("nodes"), True),
    (
        "nodes selector",
        lambda: names("nodes", label_selector={"nvidia.com/gpu.present": "true"}),
        [NODE],
    ),
    ("namespaces", lambda: "kube-system" in names("namespaces"), True),
    ("pod create", pod.create, None),
    ("pod refresh phase", lambda: phase() in ("Pending", "Running"), True),
    ("pod wait Ready", wait_ready, True),
    ("pod ready()", pod.ready, True),
    ("pod label", label, "b"),
    ("pod logs", lambda: len(list(pod.logs())) > 0, True),
    ("pod exists", pod.exists, True),
    ("node cordon/uncordon", cordon, [True, False]),
    ("pod delete", pod.delete, None),
    ("resourceslices", lambda: names("resourceslices.resource.k8s.io"), []),
    ("watch", watch, ["ADDED", "watched"]),
)


def outcome(make: Callable[[], Any], wanted: Any) -> dict[str, Any]:
    """Whether a call gave what is wanted."""
    try:
        got = make()
    except Exception as error:  # noqa: BLE001 - which one it is, is what is noted
        return {"raised": f"{type(error).__name__}: {error}"[:300]}
    return {"ok": got} if got == wanted else {"wrong": got}


print(json.dumps({"calls": {name: outcome(make, wanted) for name, make, wanted in CALLS}}))
