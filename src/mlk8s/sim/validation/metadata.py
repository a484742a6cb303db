"""Validation of ``metadata``: names by kind, labels, annotations, owners, finalizers.

The rules are those of ``k8s.io/apimachinery/pkg/api/validation/objectmeta.go``; which rule a kind
has for its names comes from its ``ValidateXName`` in ``pkg/apis/*/validation``.
"""

from __future__ import annotations

import json
from typing import Any

from mlk8s.sim.resources import Resource
from mlk8s.sim.status import FieldError, Object, forbidden, invalid, required
from mlk8s.sim.validation import rules

# The sum of the lengths of all keys and values.
MAX_ANNOTATIONS = 256 * 1024
_STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")
# All other kinds have a DNS subdomain as their name.
_NAMES: dict[str, rules.Check] = {
    "namespaces": rules.dns_label,
    # Since 1.34 a label may begin with a digit (RelaxedServiceNameValidation is still off).
    "services": rules.dns_1035_label,
    "clusterroles.rbac.authorization.k8s.io": rules.path_segment,
    "clusterrolebindings.rbac.authorization.k8s.io": rules.path_segment,
    "roles.rbac.authorization.k8s.io": rules.path_segment,
    "rolebindings.rbac.authorization.k8s.io": rules.path_segment,
}


def on_create(resource: Resource, metadata: Object) -> list[FieldError]:
    """Errors in the metadata of a new object."""
    check = _NAMES.get(resource.key, rules.dns_subdomain)
    errors: list[FieldError] = []
    if generated := metadata.get("generateName"):
        # The last dash will have characters behind it.
        stem = generated[:-2] + "a" if len(generated) > 1 and generated[-1] == "-" else generated
        errors += [invalid("metadata.generateName", generated, text) for text in check(stem)]
    if not metadata.get("name"):
        errors.append(required("metadata.name", "name or generateName is required"))
    else:
        errors += rules.each("metadata.name", metadata["name"], check)
    if resource.namespaced:
        if not metadata.get("namespace"):
            errors.append(required("metadata.namespace"))
        else:
            errors += rules.each("metadata.namespace", metadata["namespace"], rules.dns_label)
    return errors + _common(resource, metadata)


def on_update(resource: Resource, metadata: Object, old: Object) -> list[FieldError]:
    """Errors in a change of metadata; what the API keeps by itself cannot be wrong."""
    errors: list[FieldError] = []
    if "deletionTimestamp" in old:
        before = set(old.get("finalizers") or ())
        if extra := sorted(set(metadata.get("finalizers") or ()) - before):
            listed = ", ".join(json.dumps(name) for name in extra)
            text = (
                "no new finalizers can be added if the object is being deleted, found new "
                f"finalizers []string{{{listed}}}"
            )
            errors.append(forbidden("metadata.finalizers", text))
    return errors + _common(resource, metadata, old)


def annotation_map(path: str, found: dict[str, str] | None) -> list[FieldError]:
    """A map of annotations; the case of their keys does not matter."""
    errors: list[FieldError] = []
    size = 0
    for key, value in sorted((found or {}).items()):
        errors += [invalid(path, key, text) for text in rules.qualified_name(key.lower())]
        size += len(key.encode()) + len(value.encode())
    if size > MAX_ANNOTATIONS:
        errors.append(rules.too_long(path, MAX_ANNOTATIONS))
    return errors


def _common(resource: Resource, metadata: Object, old: Object | None = None) -> list[FieldError]:
    old = old or {}

    def changed(part: str) -> Any:
        found = metadata.get(part)
        return None if found == old.get(part) else found

    errors = rules.labels("metadata.labels", changed("labels"))
    errors += annotation_map("metadata.annotations", changed("annotations"))
    errors += _owners(changed("ownerReferences") or [])
    errors += _finalizers(changed("finalizers") or [], resource.custom)
    return errors


def _owners(owners: list[Object]) -> list[FieldError]:
    path = "metadata.ownerReferences"
    errors: list[FieldError] = []
    controller = ""
    for owner in owners:
        if not owner.get("apiVersion"):
            errors.append(invalid(f"{path}.apiVersion", "", "version must not be empty"))
        for part in ("kind", "name", "uid"):
            if not owner.get(part):
                errors.append(invalid(f"{path}.{part}", "", "must not be empty"))
        if (owner.get("apiVersion"), owner.get("kind")) == ("v1", "Event"):
            text = "/v1, Kind=Event is disallowed from being an owner"
            errors.append(invalid(path, owner, text))
        if owner.get("controller"):
            this = f"{owner.get('kind')}/{owner.get('name')}"
            if controller:
                text = (
                    'Only one reference can have Controller set to true. Found "true" in '
                    f"references for {controller} and {this}"
                )
                errors.append(invalid(path, owners, text))
            controller = controller or this
    return errors


def _finalizers(finalizers: list[str], custom: bool) -> list[FieldError]:
    path = "metadata.finalizers"
    errors: list[FieldError] = []
    for name in finalizers:
        errors += rules.each(path, name, rules.qualified_name)
    if {"orphan", "foregroundDeletion"} <= set(finalizers):
        text = "finalizer orphan and foregroundDeletion cannot be both set"
        errors.append(invalid(path, finalizers, text))
    # For custom resources the server only advises against other names, in a warning
    # (kubernetes/kubernetes#119508), which is not modeled.
    for index, name in enumerate(() if custom else finalizers):
        if "/" not in name and name not in _STANDARD_FINALIZERS:
            text = "name is neither a standard finalizer name nor is it fully qualified"
            errors.append(invalid(f"{path}[{index}]", name, text))
    return errors
