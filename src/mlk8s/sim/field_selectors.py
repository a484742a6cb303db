"""Field selectors: ``status.phase=Running,spec.nodeName!=a``.

The grammar is that of ``k8s.io/apimachinery``, ``pkg/fields/selector.go``; which fields can be
selected is what each kind registers in ``pkg/apis/*/v1/conversion.go``, with its message for all
others.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object, bad_request


def _at(obj: Object, path: Sequence[str]) -> Any:
    found: Any = obj
    for step in path:
        if not isinstance(found, dict):
            return None
        found = found.get(step)
    return found


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _plain(label: str) -> Callable[[Object], str]:
    path = label.split(".")
    return lambda obj: _shown(_at(obj, path))


def _flag(label: str) -> Callable[[Object], str]:
    path = label.split(".")
    return lambda obj: "true" if _at(obj, path) else "false"


def _count(label: str) -> Callable[[Object], str]:
    path = label.split(".")
    return lambda obj: str(_at(obj, path) or 0)


def _pod_ip(obj: Object) -> str:
    ips = _at(obj, ("status", "podIPs")) or ()
    return str(ips[0].get("ip", "")) if ips else ""


def _pod_ips(obj: Object) -> str:
    return ",".join(ip.get("ip", "") for ip in _at(obj, ("status", "podIPs")) or ())


def _event_source(obj: Object) -> str:
    return str(_at(obj, ("source", "component")) or obj.get("reportingComponent") or "")


def _getters(*names: str) -> dict[str, Callable[[Object], str]]:
    return {name: _plain(name) for name in names}


_FIELDS: dict[str, dict[str, Callable[[Object], str]]] = {
    "pods": _getters(
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.nominatedNodeName",
    )
    | {
        "spec.hostNetwork": _flag("spec.hostNetwork"),
        "status.podIP": _pod_ip,
        "status.podIPs": _pod_ips,
    },
    "nodes": {"spec.unschedulable": _flag("spec.unschedulable")},
    "replicationcontrollers": {"status.replicas": _count("status.replicas")},
    "events": _getters(
        "involvedObject.kind",
        "involvedObject.namespace",
        "involvedObject.name",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "involvedObject.resourceVersion",
        "involvedObject.fieldPath",
        "reason",
        "reportingComponent",
        "type",
    )
    | {"source": _event_source},
    "namespaces": _getters("status.phase"),
    "replicasets.apps": {"status.replicas": _count("status.replicas")},
    "secrets": _getters("type"),
    "services": _getters("spec.clusterIP", "spec.type"),
    "jobs.batch": {"status.successful": _count("status.succeeded")},
    "resourceslices.resource.k8s.io": _getters("spec.nodeName", "spec.driver"),
}
# Their kinds register no namespace, being without one.
_NO_NAMESPACE = ("nodes", "namespaces", "resourceslices.resource.k8s.io")


@dataclass(frozen=True)
class FieldSelector:
    """Values that fields must have, or must not have.

    Attributes:
        terms: (value of an object, wanted text, whether it must be equal).
        exact: the fields that must be equal, by label; lets a server look an object up by
            ``metadata.name`` instead of searching.
    """

    terms: tuple[tuple[Callable[[Object], str], str, bool], ...] = ()
    exact: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def empty(self) -> bool:
        """Whether it selects everything."""
        return not self.terms

    def matches(self, obj: Object) -> bool:
        """Whether an object is selected."""
        return all((read(obj) == wanted) is equal for read, wanted, equal in self.terms)


def field(text: str, resource: Resource, selectable: Sequence[str] = ()) -> FieldSelector:
    """Parse a field selector for a resource.

    Args:
        text: such as ``status.phase!=Running,spec.nodeName=a``.
        resource: whose objects are selected.
        selectable: for a custom resource, the JSON paths of its ``selectableFields``
            (``.spec.color``).

    Raises:
        StatusError: 400, in the words of the server.
    """
    terms = []
    exact: dict[str, str] = {}
    for term in sorted(_split(text)):
        if not term:
            continue
        found = re.match(r"(.*?)(!=|==|=)(.*)", term, re.DOTALL)
        if not found:
            raise bad_request(f"invalid selector: '{text}'; can't understand '{term}'")
        label, operator, escaped = found.groups()
        value = _unescape(escaped)
        label, read = _reader(label, resource, selectable)
        terms.append((read, value, operator != "!="))
        if operator != "!=":
            exact[label] = value
    return FieldSelector(tuple(terms), exact)


def _split(text: str) -> list[str]:
    return re.findall(r"(?:\\.|[^,\\]|\\$)+", text, re.DOTALL)


def _unescape(text: str) -> str:
    if not re.search(r"[\\,=]", text):
        return text
    out: list[str] = []
    characters = iter(text)
    for character in characters:
        if character == "\\":
            escaped = next(characters, "")
            if not escaped or escaped not in "\\,=":
                raise bad_request(f"invalid field selector: invalid escape sequence: \\{escaped}")
            out.append(escaped)
        elif character in ",=":
            # Go prints a rune as its number.
            raise bad_request(
                f"invalid field selector: unescaped character in value: {ord(character)}"
            )
        else:
            out.append(character)
    return "".join(out)


def _reader(
    label: str, resource: Resource, selectable: Sequence[str]
) -> tuple[str, Callable[[Object], str]]:
    if resource.key == "pods" and label == "spec.host":
        label = "spec.nodeName"
    own = _FIELDS.get(resource.key)
    if label == "metadata.name":
        return label, _plain(label)
    if resource.custom:
        if label == "metadata.namespace" and resource.namespaced:
            return label, _plain(label)
        if f".{label}" in selectable:
            return label, _plain(label)
        raise bad_request(f"field label not supported: {label}")
    if label == "metadata.namespace" and resource.key not in _NO_NAMESPACE:
        return label, _plain(label)
    if own is None or (resource.group == "apps" and label not in own):
        raise bad_request(
            f"{json.dumps(label)} is not a known field selector: only "
            '"metadata.name", "metadata.namespace"'
        )
    if label in own:
        return label, own[label]
    if resource.key == "jobs.batch":
        raise bad_request(f"field label {json.dumps(label)} not supported for batchv1.Job")
    if resource.group:
        raise bad_request(
            f"field label not supported for {resource.group}/{resource.version}, "
            f"Kind={resource.kind}: {label}"
        )
    raise bad_request(f"field label not supported: {label}")
