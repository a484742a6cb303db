"""Services that KubeRay and the reader make, and what the Ray containers are told of a token."""

from __future__ import annotations

from typing import Any

from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

NAME, SERVICE, DASHBOARD = "shared", "shared-dashboard", 8265
HEAD_SERVICE = f"{NAME}-head-svc"
CLUSTERS = "ray.io/v1/rayclusters"
INSIDE = "ClusterIP"


def check(work: Work) -> str:
    """Apply it, and look at what is there then."""
    work.remove("raycluster", NAME)
    work.until("the pods of the last cluster to be gone", lambda: not _pods(work))
    work.until("its Service to be gone", lambda: HEAD_SERVICE not in _services(work))
    bodies = {
        (each["kind"], each["metadata"]["name"]): each
        for each in work.objects("cluster.yaml", "RayCluster", "Service", "NetworkPolicy")
    }
    if ("RayCluster", NAME) not in bodies:
        raise Wrong(f"cluster.yaml is to hold the RayCluster {NAME}.")
    work.apply("cluster.yaml", "RayCluster", "Service", "NetworkPolicy")
    work.until("KubeRay", lambda: len(_pods(work)) == 2 or _mistake(work))
    if said := _mistake(work):
        raise Wrong(f"KubeRay does not take it, and says so in an event: {said}")
    found = _pods(work)
    if len(found) != 2:
        raise Wrong(f"Head and worker do not come. Look at: kubectl describe raycluster {NAME}")
    _judge_services(work)
    for pod in found:
        _judge_token(pod)
    _judge_dashboard(bodies[("RayCluster", NAME)])
    return "The head is reached from inside only, asks for a token, and the token is in no file."


def _judge_services(work: Work) -> None:
    found = _services(work)
    for name, service in found.items():
        spec = service["spec"]
        if spec.get("type", INSIDE) != INSIDE or spec.get("externalIPs"):
            raise Wrong(
                f"The Service {name} has the type {spec.get('type')}, and leads to the head from "
                "outside. Where does its type come from?"
            )
    ports = [each["port"] for each in found.get(SERVICE, {"spec": {}})["spec"].get("ports", ())]
    if DASHBOARD not in ports:
        raise Wrong(f"No Service {SERVICE} leads to port {DASHBOARD} of the head any more.")


def _judge_token(pod: dict[str, Any]) -> None:
    kind = pod["metadata"]["labels"]["ray.io/node-type"]
    variables = {each["name"]: each for each in pod["spec"]["containers"][0].get("env") or ()}
    token = variables.get("RAY_AUTH_TOKEN")
    if token is not None and token.get("value"):
        raise Wrong(
            f"The token of the {kind} is readable in the file, and so for all who read the "
            "repository. What could make one that nobody has to write down?"
        )
    if variables.get("RAY_AUTH_MODE", {}).get("value") != "token" or token is None:
        raise Wrong(
            f"Ray in the {kind} asks for no token: every pod of this Kubernetes cluster may submit "
            "a job. Which field of the RayCluster is about that?"
        )


def _judge_dashboard(body: dict[str, Any]) -> None:
    params = body["spec"]["headGroupSpec"].get("rayStartParams") or {}
    if str(params.get("include-dashboard", "true")).lower() == "false":
        raise Wrong("include-dashboard is false: then there is no job API either.")
    host = params.get("dashboard-host", "0.0.0.0")
    if host not in ("0.0.0.0", "::"):
        raise Wrong(f"dashboard-host is {host}: no Service and not even KubeRay come to it.")


def _pods(work: Work) -> list[dict[str, Any]]:
    label = f"ray.io/cluster={NAME}"
    return list(work.k.items(path("pods", namespace=work.namespace), labelSelector=label))


def _services(work: Work) -> dict[str, dict[str, Any]]:
    found = work.k.items(path("services", namespace=work.namespace))
    return {each["metadata"]["name"]: each for each in found}


def _mistake(work: Work) -> str:
    """What KubeRay says of this cluster that it does not like."""
    cluster = work.k.request("GET", path(CLUSTERS, NAME, work.namespace))
    where = path("events", namespace=work.namespace)
    events = work.k.items(where, fieldSelector="reason=InvalidRayClusterSpec")
    uid = cluster["metadata"]["uid"]
    told = [str(each["message"]) for each in events if each["involvedObject"].get("uid") == uid]
    return told[-1] if told else ""
