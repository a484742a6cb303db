"""``status`` of a pod as its kubelet writes it: phase, conditions, and each container.

The rules are those of ``pkg/kubelet/kubelet_pods.go`` (``getPhase``, ``generateAPIPodStatus``) and
``pkg/kubelet/status/generate.go``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mlk8s.sim.clock import stamp
from mlk8s.sim.kubelet.container import Container, Ended
from mlk8s.sim.kubelet.images import InvalidName, image_id, parse
from mlk8s.sim.quantity import canonical
from mlk8s.sim.status import Object

OWN_CONDITIONS = (
    "PodReadyToStartContainers",
    "Initialized",
    "Ready",
    "ContainersReady",
    "PodScheduled",
)


def phase_of(policy: str, containers: Sequence[Container], ending: bool) -> str:
    """The phase of a pod that was admitted.

    Args:
        policy: the pod's ``restartPolicy``.
        containers: all, init containers first.
        ending: whether none of them will be started again.
    """
    init = [each for each in containers if each.role == "init"]
    sidecars = [each for each in containers if each.role == "sidecar"]
    regular = [each for each in containers if each.role == "regular"]
    if ending:
        if any(each.phase == "running" for each in containers):
            return "Running" if any(each.runs for each in regular) else "Pending"
        failed = any(not each.succeeded for each in [*init, *regular])
        return "Failed" if failed else "Succeeded"
    for each in init:
        if not each.succeeded:
            stuck = each.phase == "terminated" and policy == "Never"
            return "Failed" if stuck else "Pending"
    if any(not each.runs for each in sidecars) and not any(each.runs for each in regular):
        return "Pending"
    if any(each.phase == "waiting" and each.last is None for each in regular):
        return "Pending"
    if any(each.phase != "terminated" for each in regular):
        return "Running"
    if any(restarts(each, policy) for each in regular):
        return "Running"
    if any(each.running for each in sidecars):
        return "Running"
    return "Succeeded" if all(each.succeeded for each in regular) else "Failed"


def restarts(container: Container, policy: str) -> bool:
    """Whether a container that has ended is to be started again."""
    if container.ended is None:
        return True
    code = container.ended.code
    for rule in container.spec.get("restartPolicyRules") or ():
        codes = (rule.get("exitCodes") or {}).get("values") or ()
        operator = (rule.get("exitCodes") or {}).get("operator")
        if (code in codes) == (operator == "In"):
            return True
    own = container.spec.get("restartPolicy") or policy
    if container.role == "init":
        return code != 0 and own != "Never"
    return bool(own == "Always" or (own == "OnFailure" and code != 0))


def conditions(
    pod: Object, containers: Sequence[Container], phase: str, sandbox: bool, now: str
) -> list[Object]:
    """The kubelet's conditions; the time of one that did not change stays.

    Args:
        pod: with the conditions that it had.
        containers: all, init containers first.
        phase: the pod's new phase.
        sandbox: whether its network is set up.
        now: as ``metav1.Time``.
    """
    before = {each["type"]: each for each in pod.get("status", {}).get("conditions") or ()}
    generation = pod["metadata"].get("generation", 1)

    def condition(kind: str, yes: bool, reason: str = "", message: str = "") -> Object:
        found: Object = {"type": kind, "status": "True" if yes else "False"}
        old = before.get(kind)
        same = old is not None and old["status"] == found["status"]
        found["lastProbeTime"] = None
        found["lastTransitionTime"] = old["lastTransitionTime"] if same and old else now
        found["observedGeneration"] = generation
        if reason:
            found["reason"] = reason
        if message:
            found["message"] = message
        return found

    init = [each for each in containers if each.role != "regular"]
    regular = [each for each in containers if each.role == "regular"]
    done = {"Succeeded": "PodCompleted", "Failed": "PodFailed"}.get(phase, "")
    incomplete = [
        each.name
        for each in init
        if not (each.succeeded if each.role == "init" else each.started or each.last)
    ]
    if phase == "Succeeded" or not incomplete or any(each.runs for each in regular):
        initialized = condition("Initialized", True, "PodCompleted" if phase == "Succeeded" else "")
    else:
        text = f"containers with incomplete status: [{' '.join(incomplete)}]"
        initialized = condition("Initialized", False, "ContainersNotInitialized", text)
    serving = [*(each for each in init if each.role == "sidecar"), *regular]
    unready = [each.name for each in serving if not each.ready]
    if done:
        ready = condition("Ready", False, done)
        contained = condition("ContainersReady", False, done)
    elif unready:
        text = f"containers with unready status: [{' '.join(unready)}]"
        ready = condition("Ready", False, "ContainersNotReady", text)
        contained = condition("ContainersReady", False, "ContainersNotReady", text)
    else:
        contained = condition("ContainersReady", True)
        faults = []
        for gate in pod["spec"].get("readinessGates") or ():
            kind = gate["conditionType"]
            if kind not in before:
                faults.append(
                    f'corresponding condition of pod readiness gate "{kind}" does not exist.'
                )
            elif before[kind]["status"] != "True":
                faults.append(
                    f'the status of pod readiness gate "{kind}" is not "True", but '
                    f"{before[kind]['status']}"
                )
        if faults:
            ready = condition("Ready", False, "ReadinessGatesNotReady", ", ".join(faults))
        else:
            ready = condition("Ready", True)
    return [
        *(each for each in before.values() if each["type"] not in OWN_CONDITIONS),
        condition("PodReadyToStartContainers", sandbox),
        initialized,
        ready,
        contained,
        condition("PodScheduled", True),
    ]


def container_status(container: Container) -> Object:
    """One entry of ``containerStatuses``."""
    state: Object
    if container.phase == "running":
        state = {"running": {"startedAt": stamp(container.started_at)}}
    elif container.phase == "terminated" and container.ended is not None:
        state = {"terminated": _ended(container.ended)}
    else:
        waiting: Object = {"reason": container.reason}
        if container.message:
            waiting["message"] = container.message
        state = {"waiting": waiting}
    image, identity = container.spec["image"], ""
    if container.container_id or container.ended is not None:
        try:
            image, identity = str(parse(container.spec["image"])), image_id(container.spec["image"])
        except InvalidName:
            identity = ""
    found: Object = {
        "name": container.name,
        "state": state,
        "lastState": {"terminated": _ended(container.last)} if container.last else {},
        "ready": container.ready,
        "restartCount": container.restarts,
        "image": image,
        "imageID": identity,
        "started": container.started,
    }
    if container.container_id:
        found["containerID"] = container.container_id
    if container.running:
        resources = container.spec.get("resources") or {}
        kept = {
            kind: {name: canonical(text) for name, text in resources[kind].items()}
            for kind in ("limits", "requests")
            if resources.get(kind)
        }
        if "requests" in kept:
            found["allocatedResources"] = kept["requests"]
        found["resources"] = kept
        found["user"] = {"linux": _user(container.spec)}
    if mounts := container.spec.get("volumeMounts"):
        found["volumeMounts"] = [_mount(each) for each in mounts]
    return found


def _ended(ended: Ended) -> Object:
    return ended.as_state(stamp(ended.started), stamp(ended.finished))


def _user(spec: Object) -> Object:
    context: dict[str, Any] = spec.get("securityContext") or {}
    group = context.get("runAsGroup", 0)
    return {"uid": context.get("runAsUser", 0), "gid": group, "supplementalGroups": [group]}


def _mount(mount: Object) -> Object:
    found = {"name": mount["name"], "mountPath": mount["mountPath"]}
    if mount.get("readOnly"):
        found |= {"readOnly": True, "recursiveReadOnly": "Disabled"}
    return found
