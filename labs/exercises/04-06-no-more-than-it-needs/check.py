"""The pod runs with one GPU, and with nothing of the host and no right that it does not need."""

from __future__ import annotations

from typing import Any

from mlk8s.course.exercises import Work, Wrong

IMAGE = "registry.k8s.io/pause:3.10"


def check(work: Work) -> str:
    """Apply the reader's pod, and read the rights that the server keeps."""
    work.apply("pod.yaml", "Pod")
    spec = work.pod("inference").get("spec")
    if spec is None:
        raise Wrong("pod.yaml holds no pod inference.")
    containers = [*spec["containers"], *spec.get("initContainers", ())]
    problems = [*_of_pod(spec)]
    for container in containers:
        problems += _of_container(container, spec)
    if problems:
        raise Wrong("\n".join(problems))
    work.running("inference")
    return "inference runs with one GPU, without root, without privilege, without the host."


def _of_pod(spec: dict[str, Any]) -> list[str]:
    problems = [
        f"{key} gives the pod a namespace of the host."
        for key in ("hostNetwork", "hostPID", "hostIPC")
        if spec.get(key)
    ]
    problems += [
        f"Volume {volume['name']} is a hostPath; no path of the host is needed, not even a node."
        for volume in spec.get("volumes", ())
        if "hostPath" in volume
    ]
    if spec.get("automountServiceAccountToken") is not False:
        problems.append("The pod gets a token for the API server.")
    if [each["image"] for each in spec["containers"]] != [IMAGE]:
        problems.append(f"The pod is to have one container, with the image {IMAGE}.")
    return problems


def _of_container(container: dict[str, Any], spec: dict[str, Any]) -> list[str]:
    # The container's word counts before the pod's.
    rights = {**(spec.get("securityContext") or {}), **(container.get("securityContext") or {})}
    capabilities = rights.get("capabilities") or {}
    variables = {each["name"] for each in container.get("env", ())}
    writable = {m["mountPath"].rstrip("/") for m in container.get("volumeMounts", ())}
    limits = container["resources"].get("limits") or {}
    judged = {
        "It is privileged.": rights.get("privileged"),
        "It may gain privileges by a setuid program.": rights.get("allowPrivilegeEscalation")
        is not False,
        "It keeps capabilities: drop all.": "ALL" not in capabilities.get("drop", ()),
        "It adds capabilities.": capabilities.get("add"),
        "It may be root: say that it must not, and which user it is.": not (
            rights.get("runAsNonRoot") and rights.get("runAsUser")
        ),
        "It has no default filter of system calls.": (rights.get("seccompProfile") or {}).get(
            "type"
        )
        != "RuntimeDefault",
        "Its root file system can be written.": not rights.get("readOnlyRootFilesystem"),
        "It has no /tmp that it may write.": "/tmp" not in writable,
        "It opens a port of the host.": any("hostPort" in p for p in container.get("ports", ())),
        "NVIDIA_VISIBLE_DEVICES takes GPUs that nobody counts.": "NVIDIA_VISIBLE_DEVICES"
        in variables,
        "It has not one nvidia.com/gpu among its limits.": limits.get("nvidia.com/gpu") != "1",
    }
    return [problem for problem, found in judged.items() if found]
