"""Whether Kubernetes can read the pods and containers that KServe's definitions leave open."""

from __future__ import annotations

from mlk8s.sim.addons.base import denied
from mlk8s.sim.api import Api
from mlk8s.sim.status import Object, StatusError


def check_pod(api: Api, webhook: str, path: str, spec: Object) -> None:
    """Refuse what is not the spec of a pod, unknown fields included.

    Args:
        api: knows the types of Kubernetes.
        webhook: who refuses.
        path: where the spec stands in the object.
        spec: it; containers may be left out.

    Raises:
        StatusError: 403.
    """
    _check(api, webhook, path, spec, "spec")


def check_container(api: Api, webhook: str, path: str, container: Object) -> None:
    """Refuse what is not a container, unknown fields included.

    Args:
        api: knows the types of Kubernetes.
        webhook: who refuses.
        path: where the container stands in the object.
        container: it; may have no name.

    Raises:
        StatusError: 403.
    """
    _check(api, webhook, path, {"containers": [container]}, "spec.containers[0]")


def _check(api: Api, webhook: str, path: str, spec: Object, place: str) -> None:
    body: Object = {"apiVersion": "v1", "kind": "Pod", "spec": spec}
    try:
        api.schemas.decode(api.registry.of_key("pods"), body, "Strict", [])
    except StatusError as error:
        raise denied(webhook, f"{path}: {error.message.replace(place, path)}") from error
