"""What became of a pod that has a node: running, starting, failing, ended."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

from mlk8s.cluster.connection import Connection
from mlk8s.cluster.wire import path

Object = dict[str, Any]


class Found(NamedTuple):
    """What is said about a pod; ``verdict`` is a value of :class:`mlk8s.cluster.why.Verdict`."""

    verdict: str
    because: str
    next_step: str
    evidence: tuple[tuple[str, str], ...] = ()


_ENDED = {
    "UnexpectedAdmissionError": "delete it and create it again (a controller does that): the "
    "kubelet took it before the device plugin had healthy devices to give.",
    "Evicted": "see the node's conditions; bring the pod back when the pressure is gone.",
    "Preempting": "create it again, or give it a higher priority.",
    "DeadlineExceeded": "raise activeDeadlineSeconds, or make the work shorter.",
    "NodeShutdown": "create it again once the node is back.",
    "Terminated": "create it again once the node is back.",
    "NodeAffinity": "create it again: the node's labels are no longer those that it selects.",
    "TaintToleration": "create it again: the node has a taint that it does not tolerate.",
}
_OUT_OF = re.compile(r"OutOf(?P<what>.+)")

# Reasons of a waiting container (kubelet and container runtime): (what it is, next step).
_WAITING: dict[str, tuple[str, str]] = {
    "ErrImagePull": ("its image cannot be pulled", ""),
    "ImagePullBackOff": ("its image cannot be pulled", ""),
    "ErrImageNeverPull": (
        "its image is not on the node, and imagePullPolicy is Never",
        "load the image onto the node, or change imagePullPolicy.",
    ),
    "InvalidImageName": (
        "the name of its image is not one that a registry can have",
        "correct the name: lower case, REGISTRY/NAME:TAG.",
    ),
    "CreateContainerConfigError": (
        "something that it refers to does not exist",
        "create what the message names: a ConfigMap, a Secret or a key in one.",
    ),
    "CreateContainerError": ("the container runtime cannot make it", ""),
    "RunContainerError": ("the container runtime cannot start it", ""),
    "CrashLoopBackOff": ("it starts and ends, again and again", ""),
}
_PULL = "check the image's name and tag, and that the node reaches the registry."
# What the messages of containers and events mean; the first match counts.
_CAUSES: tuple[tuple[str, str], ...] = (
    (
        r"no runtime for \"?nvidia\"? is configured",
        "configure containerd for NVIDIA's runtime: see the container toolkit's pod, and restart "
        "containerd.",
    ),
    (
        r"Driver/library version mismatch",
        "reboot the node: its NVIDIA libraries are newer than the loaded kernel module.",
    ),
    (r"x509|certificate", "give the node the registry's certificate."),
    (r"unauthorized|authentication required|denied", "give the pod an imagePullSecret that may."),
    (r"manifest unknown|: not found", "correct the tag: the registry answers and has none such."),
    (
        r"no such host|i/o timeout|connection refused|dial tcp",
        "correct the registry's name, or give the node a way to it.",
    ),
    (
        r"executable file not found|no such file or directory",
        "correct the command: the image has no such program.",
    ),
    (
        r"(configmap|secret) \"[^\"]+\" not found|couldn't find key",
        "create what the message names, or mark it optional.",
    ),
    (r"MountVolume|FailedMount", "see the volume: kubectl get pvc,pv."),
)


def explain(pod: Object, connection: Connection) -> Found:
    """What is to be said about a pod that is on a node or has ended."""
    phase = pod["status"].get("phase")
    if phase == "Succeeded":
        return Found("done", "its containers ended well.", f"read its log: {_logs(pod)}.")
    if phase == "Failed":
        return _failed(pod)
    if pod["metadata"].get("deletionTimestamp"):
        return _ending(pod)
    for container in containers(pod):
        if found := _waiting(pod, container):
            return found
    if phase == "Running":
        return _running(pod)
    return _starting(pod, connection)


def containers(pod: Object) -> Iterator[Object]:
    """The states of a pod's containers, those that run first before the others."""
    status = pod["status"]
    yield from status.get("initContainerStatuses") or ()
    yield from status.get("containerStatuses") or ()


def _logs(pod: Object, container: str = "", previous: bool = False) -> str:
    metadata = pod["metadata"]
    several = len(pod["spec"]["containers"]) > 1 or container not in (
        "",
        pod["spec"]["containers"][0]["name"],
    )
    which = f" -c {container}" if several and container else ""
    before = " --previous" if previous else ""
    return f"kubectl logs {metadata['name']} -n {metadata['namespace']}{which}{before}"


def disrupted(pod: Object) -> str:
    """Why something took the pod away, as its condition DisruptionTarget says; mostly empty."""
    for condition in pod["status"].get("conditions") or ():
        if condition["type"] == "DisruptionTarget" and condition["status"] == "True":
            if condition.get("reason") == "PreemptionByScheduler":
                return "a pod of higher priority took its place (preemption)"
            return str(condition.get("message") or condition.get("reason") or "")
    return ""


def _failed(pod: Object) -> Found:
    status = pod["status"]
    reason, message = status.get("reason") or "", status.get("message") or ""
    where = f"node {pod['spec'].get('nodeName')}"
    if taken := disrupted(pod):
        return Found("fails", f"{taken}.", "create it again, or give it a higher priority.")
    if reason:
        step = _ENDED.get(reason, "correct what the message names, and create the pod again.")
        if out := _OUT_OF.fullmatch(reason):
            step = f"create it again: {where} had no {out['what']} left when it came."
        text = f"{where} turned it down or ended it with {reason}: {message}".strip(": .")
        return Found("fails", f"{text}.", step, (("status", f"{reason}: {message}".strip(": ")),))
    for container in containers(pod):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("exitCode"):
            because, step = _exit(pod, container["name"], ended, previous=False)
            message = ended.get("message", "")
            evidence = ((ended.get("reason", "message"), message),) if message else ()
            return Found("fails", f"container {container['name']!r} {because}.", step, evidence)
    return Found("fails", "it ended, and the node says no reason.", "see its events.")


def _exit(pod: Object, container: str, ended: Object, previous: bool) -> tuple[str, str]:
    code, reason = ended["exitCode"], ended.get("reason", "")
    read = f"read its log: {_logs(pod, container, previous)}."
    if reason == "OOMKilled":
        return (
            "used more memory than its limit and was killed (OOMKilled)",
            "raise its memory limit, or let it use less.",
        )
    if reason in ("StartError", "ContainerCannotRun"):
        step = cause(ended.get("message", "")) or "correct what the message names."
        return f"could not be started ({reason})", step
    if code == 127:
        return "ended with exit code 127: its command was not found", "correct the command."
    if code > 128:
        return f"was ended by signal {code - 128} (exit code {code})", read
    return f"ended with exit code {code}", read


def _waiting(pod: Object, container: Object) -> Found | None:
    waiting = (container.get("state") or {}).get("waiting") or {}
    reason, message = waiting.get("reason", ""), waiting.get("message", "")
    if reason not in _WAITING:
        return None
    name, node = container["name"], pod["spec"]["nodeName"]
    what, step = _WAITING[reason]
    evidence = ((reason, message),) if message else ()
    if reason == "CrashLoopBackOff":
        last = (container.get("lastState") or {}).get("terminated") or {"exitCode": 0}
        because, step = _exit(pod, name, last, previous=True)
        times = container.get("restartCount", 0)
        text = f"container {name!r} on node {node} {because}"
        again = f", and has been started again {times} time{'s' if times != 1 else ''}"
        return Found("fails", f"{text}{again} ({reason}).", step, evidence)
    if reason in ("ErrImagePull", "ImagePullBackOff"):
        image = container.get("image") or ""
        what = f"its image {image!r} cannot be pulled" if image else what
        return Found(
            "fails",
            f"{what} on node {node} ({reason}).",
            cause(message) or _PULL,
            evidence,
        )
    return Found(
        "fails",
        f"container {name!r} on node {node}: {what} ({reason}).",
        cause(message) or step or "correct what the message names.",
        evidence,
    )


def cause(message: str) -> str:
    """The next step that a message of the kubelet or the runtime asks for; empty if unknown."""
    for pattern, step in _CAUSES:
        if re.search(pattern, message):
            return step
    return ""


def _ending(pod: Object) -> Found:
    metadata = pod["metadata"]
    why = disrupted(pod) or "it was deleted"
    if finalizers := metadata.get("finalizers"):
        return Found(
            "ending",
            f"{why}, and the finalizer{'s' if len(finalizers) > 1 else ''} "
            f"{', '.join(finalizers)} must be taken off first.",
            "see the controller that set it.",
        )
    seconds = metadata.get("deletionGracePeriodSeconds", 30)
    return Found(
        "ending",
        f"{why}, and it has {seconds} s to end.",
        "wait; if it stays, its node does not answer: kubectl describe pod.",
    )


def _running(pod: Object) -> Found:
    node = pod["spec"]["nodeName"]
    unready = [
        each["name"]
        for each in pod["status"].get("containerStatuses") or ()
        if not each.get("ready", True) and (each.get("state") or {}).get("running")
    ]
    if unready:
        probed = f"container{'s' if len(unready) > 1 else ''} {', '.join(unready)}"
        return Found(
            "runs",
            f"it is on node {node}; {probed} did not pass the readiness probe yet.",
            f"see what the probe says: kubectl describe pod {pod['metadata']['name']} "
            f"-n {pod['metadata']['namespace']}.",
        )
    return Found("runs", f"it is on node {node}.", "nothing.")


def _starting(pod: Object, connection: Connection) -> Found:
    node, metadata = pod["spec"]["nodeName"], pod["metadata"]
    found = connection.find(path("nodes", node))
    if found is None:
        return Found(
            "held back",
            f"it is bound to node {node}, which does not exist.",
            "delete the pod, and take spec.nodeName out.",
        )
    ready: Object = next(
        (c for c in (found.get("status") or {}).get("conditions") or () if c["type"] == "Ready"),
        {},
    )
    if ready.get("status") != "True":
        return Found(
            "held back",
            f"it is bound to node {node}, and that node is not ready.",
            f"see what is wrong with it: kubectl describe node {node}.",
            (("node Ready", ready.get("message", "")),) if ready.get("message") else (),
        )
    warnings = [
        event
        for event in connection.items(
            path("events", namespace=metadata["namespace"]),
            fieldSelector=f"involvedObject.uid={metadata['uid']},type=Warning",
        )
        if event["reason"] != "FailedScheduling"
    ]
    if warnings:
        last = warnings[-1]
        step = cause(last["message"]) or cause(last["reason"])
        return Found(
            "held back",
            f"node {node} cannot start it: {last['message'].rstrip('.')}.",
            step
            or f"see its events: kubectl describe pod {metadata['name']} "
            f"-n {metadata['namespace']}.",
            ((f"event {last['reason']}", last["message"]),),
        )
    return Found(
        "starting",
        f"node {node} has been chosen, and its kubelet is starting it.",
        f"wait; if it lasts, look at the node: kubectl describe node {node}.",
    )
