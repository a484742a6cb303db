"""Which runtime serves a model: the one that is named, or the best that supports its format.

The rules are those of KServe v0.20.0: ``pkg/apis/serving/v1beta1/predictor_model.go``
(``GetSupportingRuntimes``) and ``reconcileModel`` in
``pkg/controller/v1beta1/inferenceservice/components/predictor.go``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from mlk8s.sim.addons.kserve import names
from mlk8s.sim.api import Api
from mlk8s.sim.status import Object

_DEFAULT_PROTOCOL = "v1"
# pkg/constants: the order of protocols in which runtimes are looked at; none comes last.
_PROTOCOLS = ("v1", "v2", "grpc-v1", "grpc-v2")


@dataclass(frozen=True)
class Runtime:
    """A ServingRuntime, or a ClusterServingRuntime."""

    name: str
    cluster: bool
    annotations: dict[str, str]
    created: str
    spec: Object

    @property
    def server_type(self) -> str:
        """What kind of server it runs, such as ``huggingfaceserver``; may be empty."""
        return self.annotations.get(names.SERVER_TYPE, "")


class Unsuitable(Exception):
    """No runtime can serve the model; the message is the event's.

    Attributes:
        reason: of ``modelStatus.lastFailureInfo``.
        said: its message.
    """

    def __init__(self, message: str, reason: str, said: str) -> None:
        super().__init__(message)
        self.reason = reason
        self.said = said


def choose(api: Api, namespace: str, model: Object) -> Runtime:
    """The runtime of a model.

    Args:
        api: where runtimes are.
        namespace: of the InferenceService.
        model: ``spec.predictor.model``.

    Raises:
        Unsuitable: there is none.
    """
    name = model.get("runtime")
    if name is None:
        return _best(api, namespace, model)
    found = _named(api, namespace, name)
    if found is None:
        message = f"No ServingRuntimes or ClusterServingRuntimes with the name: {name}"
        said = "Waiting for runtime to become available"
        raise Unsuitable(message, "RuntimeNotRecognized", said)
    if found.spec.get("disabled"):
        message = f"specified runtime {name} is disabled"
        raise Unsuitable(message, "RuntimeDisabled", "Specified runtime is disabled")
    protocol = model.get("protocolVersion")
    for fits, what in (
        (protocol is None or _speaks(found, protocol), "protocol version"),
        (_supports(found, model, named=True), "framework/version"),
    ):
        if not fits:
            message = f"specified runtime {name} does not support specified {what}"
            said = f"Specified runtime does not support specified {what}"
            raise Unsuitable(message, "NoSupportingRuntime", said)
    return found


def runtimes(api: Api, namespace: str) -> Iterator[Runtime]:
    """The runtimes of a namespace, or for an empty one those of the cluster."""
    key = names.RUNTIMES if namespace else names.CLUSTER_RUNTIMES
    for each in api.store.items(key):
        if each["metadata"].get("namespace", "") == namespace:
            yield _runtime(each)


def _runtime(obj: Object) -> Runtime:
    metadata = obj["metadata"]
    return Runtime(
        metadata["name"],
        "namespace" not in metadata,
        metadata.get("annotations") or {},
        metadata["creationTimestamp"],
        obj["spec"],
    )


def _named(api: Api, namespace: str, name: str) -> Runtime | None:
    found = api.find(names.RUNTIMES, namespace, name)
    found = found or api.find(names.CLUSTER_RUNTIMES, "", name)
    return None if found is None else _runtime(found)


def _best(api: Api, namespace: str, model: Object) -> Runtime:
    wanted = model["modelFormat"]
    protocol = model.get("protocolVersion") or _DEFAULT_PROTOCOL
    for scope in (namespace, ""):
        fitting = [
            each
            for each in runtimes(api, scope)
            if not each.spec.get("disabled")
            and not each.spec.get("multiModel")
            and not each.spec.get("workerSpec")
            and _supports(each, model, named=False)
            and _speaks(each, protocol)
        ]
        if fitting:
            # Each sort keeps the order of the one before: names, newest first, protocol, priority.
            fitting.sort(key=lambda each: each.name)
            fitting.sort(key=lambda each: each.created, reverse=True)
            fitting.sort(key=_protocol_order)
            fitting.sort(key=lambda each: _priority(each, wanted["name"]), reverse=True)
            return fitting[0]
    # Go prints the struct; of a version it would print the address.
    shown = f"{{{wanted['name']} {wanted.get('version', '<nil>')}}}"
    raise Unsuitable(
        f"no runtime found to support predictor with model type: {shown}",
        "NoSupportingRuntime",
        "No runtime found to support specified framework/version",
    )


def _supports(runtime: Runtime, model: Object, *, named: bool) -> bool:
    wanted = model["modelFormat"]
    return any(
        each["name"] == wanted["name"]
        and ("version" not in wanted or each.get("version") == wanted["version"])
        and (named or each.get("autoSelect"))
        for each in runtime.spec.get("supportedModelFormats") or ()
    )


def _speaks(runtime: Runtime, protocol: str) -> bool:
    spoken = runtime.spec.get("protocolVersions")
    return not spoken or protocol in spoken


def _protocol_order(runtime: Runtime) -> int:
    spoken: list[Any] = runtime.spec.get("protocolVersions") or []
    known = [_PROTOCOLS.index(each) for each in spoken if each in _PROTOCOLS]
    return min(known, default=len(_PROTOCOLS))


def _priority(runtime: Runtime, format: str) -> int:
    """Its priority for a format; one without comes behind those that have one, from 1 on."""
    for each in runtime.spec.get("supportedModelFormats") or ():
        if each["name"] == format:
            return int(each.get("priority") or 0)
    return 0
