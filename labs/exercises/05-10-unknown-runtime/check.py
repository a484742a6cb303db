"""The toolkit is told of MicroK8s' containerd, so a sandbox with the runtime nvidia is made."""

from __future__ import annotations

from mlk8s.cluster import gpu_pod
from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.repairs import OPERANDS, TOOLKIT, rolled

IMAGE, NODE = "registry.k8s.io/pause:3.10", "h100-0"
# The kubelet tries a failed sandbox again after ten seconds.
AGAIN_S = 30.0


def prepare(work: Work) -> None:
    """The pod that cannot start; the fault is on already."""
    work.k.apply(gpu_pod("train", IMAGE))
    work.until("the kubelet to try", lambda: _said(work, "train"))


def check(work: Work) -> str:
    """A fresh pod shows at once whether the runtime is known; then train must run."""
    train = work.pod("train")
    if not train or train["spec"].get("runtimeClassName") != "nvidia":
        raise Wrong(
            "Pod train is not the pod that it was: it has to have the RuntimeClass nvidia. Have it "
            "made again by the exercise's reset and start."
        )
    work.until("the toolkit's DaemonSet to roll", lambda: rolled(work.k, TOOLKIT))
    probe = gpu_pod("probe", IMAGE, gpus=0, node_selector={"kubernetes.io/hostname": NODE})
    work.remove("pod", "probe")
    work.k.apply({**probe, "spec": {**probe["spec"], "runtimeClassName": "nvidia"}})
    work.until("the kubelet to try", lambda: _said(work, "probe") or _runs(work, "probe"))
    if not _runs(work, "probe"):
        told = ", ".join(f"{name}={value}" for name, value in _told(work).items())
        raise Wrong(
            f"A new pod with the RuntimeClass nvidia does not start on {NODE} either: "
            f"{_said(work, 'probe')}. The toolkit there was told: {told or 'nothing'}. Which file "
            "does the containerd of MicroK8s read, and where does it listen?"
        )
    work.remove("pod", "probe")
    policy = work.k.request("GET", path("nvidia.com/v1/clusterpolicies", "cluster-policy"))
    listed = policy["spec"]["toolkit"].get("env") or []
    if {each["name"]: each.get("value") for each in listed} != _told(work):
        raise Wrong(
            "Pods start, and the toolkit's DaemonSet says something else than the ClusterPolicy. "
            "The operator writes the one from the other at its next change; put it there."
        )
    work.running("train", AGAIN_S)
    return f"containerd on {NODE} knows the runtime nvidia again, and train runs with it."


def _runs(work: Work, pod: str) -> bool:
    return bool(work.pod(pod)["status"]["phase"] == "Running")


def _said(work: Work, pod: str) -> str:
    """The kubelet's last complaint about a pod."""
    where = path("events", namespace=work.namespace)
    found = work.k.items(where, fieldSelector=f"involvedObject.name={pod}")
    return next((each["message"] for each in found if each["type"] == "Warning"), "")


def _told(work: Work) -> dict[str, str]:
    """The environment of the toolkit."""
    found = work.k.request("GET", path("apps/v1/daemonsets", TOOLKIT, OPERANDS))
    (container,) = found["spec"]["template"]["spec"]["containers"]
    return {each["name"]: each.get("value", "") for each in container.get("env") or ()}
