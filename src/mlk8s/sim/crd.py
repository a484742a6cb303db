"""Custom resources: what an API server makes of a custom object's body, and whether it is valid.

A body is pruned of the fields that its schema does not name, nulls that the schema does not allow
are dropped, and defaults are filled in. The rules are those of ``k8s.io/apiextensions-apiserver``
(``pkg/apiserver/schema/{pruning,defaulting,objectmeta}``). That a definition is served once it is
created is the work of :mod:`mlk8s.sim.custom_resources`.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import orjson

from mlk8s.sim import decoding, fields
from mlk8s.sim.crd_definition import validate_definition
from mlk8s.sim.crd_rules import check_rules
from mlk8s.sim.crd_validation import check_lists, check_schema
from mlk8s.sim.resources import Resource
from mlk8s.sim.schema import Schema
from mlk8s.sim.status import (
    FORBIDDEN,
    INVALID,
    FieldError,
    Object,
    bad_request,
    invalid,
    unprocessable,
)

if TYPE_CHECKING:
    from mlk8s.sim.api import Api

# Holds a definition that is being deleted until its objects are gone.
CLEANUP = "customresourcecleanup.apiextensions.k8s.io"
_OBJECT_META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_NOT_CHECKED = (
    "some validation rules were not checked because the object was invalid; correct the existing "
    "errors to complete validation"
)

__all__ = [
    "CLEANUP",
    "decode",
    "default_definition",
    "fill_defaults",
    "validate",
    "validate_definition",
]


def decode(resource: Resource, obj: Any, api: Api, validation: str, warnings: list[str]) -> Object:
    """The body of a custom object as the server takes it in: pruned, with its defaults.

    Args:
        resource: what the request's path says that it is.
        obj: parsed JSON; taken over.
        api: where its schema is.
        validation: ``Strict``, ``Warn`` or ``Ignore`` unknown fields.
        warnings: with ``Warn`` they are named here.

    Raises:
        StatusError: 400, or 422 for another kind than the path says.
    """
    _check_header(resource, obj)
    schema = api.schemas.of(resource)
    unknown: list[str] = []
    metadata = _metadata(obj.get("metadata"), "metadata", unknown)
    pruned: Object = _pruned(obj, schema, "", unknown, whole=True)
    decoding.report_unknown(resource, unknown, validation, warnings)
    _drop_nulls(pruned, schema)
    _default(pruned, schema)
    return {
        "apiVersion": resource.api_version,
        "kind": resource.kind,
        "metadata": metadata,
        **{k: v for k, v in pruned.items() if k not in ("apiVersion", "kind", "metadata")},
    }


def fill_defaults(resource: Resource, obj: Object, api: Api) -> None:
    """Fill in the defaults of an object's schema, in place."""
    _default(obj, api.schemas.of(resource))


def default_definition(obj: Object) -> None:
    """Fill in the defaults of a CustomResourceDefinition, in place."""
    spec = obj.setdefault("spec", {})
    names = spec.setdefault("names", {})
    if kind := names.get("kind"):
        names.setdefault("singular", kind.lower())
        names.setdefault("listKind", f"{kind}List")
    spec.setdefault("conversion", {}).setdefault("strategy", "None")


def validate(
    resource: Resource, obj: Object, api: Api, old: Object | None = None
) -> list[FieldError]:
    """What the schema of a custom resource has against an object.

    What was already wrong in ``old`` and did not change is tolerated, as since Kubernetes 1.33
    (``CRDValidationRatcheting``).
    """
    schema = api.schemas.of(resource)
    errors = [
        error
        for error in [*check_schema(schema, obj), *check_lists(schema, obj)]
        if old is None or not _unchanged(error.field, obj, old)
    ]
    found = list(check_rules(schema, obj, old)) if not _blocking(errors) else []
    if errors and _blocking(errors) and _has_rules(schema):
        errors.append(invalid("<nil>", None, _NOT_CHECKED))
    return errors + found


def _blocking(errors: list[FieldError]) -> bool:
    """Whether rules cannot be evaluated: a value may have another type or size than they expect."""
    return any(
        error.kind not in (INVALID, FORBIDDEN) or " must be of type " in error.detail
        for error in errors
    )


def _has_rules(schema: Schema) -> bool:
    if schema.node.get("x-kubernetes-validations"):
        return True
    if schema.definition:
        return False
    parts = [*schema.properties.values(), schema.items, schema.additional]
    return any(part is not None and _has_rules(part) for part in parts)


def _unchanged(path: str, new: Any, old: Any) -> bool:
    if not path or path == "<nil>":
        return False
    for step in path.replace("[", ".[").split("."):
        try:
            if step.startswith("["):
                index = int(step[1:-1])
                new, old = new[index], old[index]
            else:
                new, old = new[step], old[step]
        except (KeyError, IndexError, TypeError, ValueError):
            return False
    return bool(new == old)


# -- decoding -------------------------------------------------------------------------------------


def _check_header(resource: Resource, obj: Any) -> None:
    if isinstance(obj, dict):
        for name, title in (("kind", "Kind"), ("apiVersion", "apiVersion")):
            if not obj.get(name):
                body = orjson.dumps(obj).decode()
                raise bad_request(
                    f"the object provided is unrecognized (must be of type {resource.kind}): "
                    f"Object '{title}' is missing in '{body}' ({_shortened(body)})"
                )
        other = isinstance(obj["kind"], str) and obj["kind"] != resource.kind
        if other and obj["apiVersion"] == resource.api_version:
            metadata = obj.get("metadata")
            name = str(metadata.get("name", "")) if isinstance(metadata, dict) else ""
            error = invalid("kind", obj["kind"], f"must be {resource.kind}")
            raise unprocessable(resource.kind, resource.group, name, [error])
    decoding.header(resource, obj)


def _shortened(body: str) -> str:
    return body if len(body) <= 30 else f"{body[:30]} ..."


def _metadata(value: Any, path: str, unknown: list[str]) -> Object:
    if value is None:
        return {}
    if isinstance(value, dict):
        known = fields.of(_OBJECT_META)
        unknown.extend(f"{path}.{name}" for name in value if name not in known)
    return decoding.read(_OBJECT_META, value)


def _pruned(value: Any, schema: Schema, path: str, unknown: list[str], whole: bool = False) -> Any:
    """The part of a value that its schema names; ``whole`` where a Kubernetes object begins."""
    if isinstance(value, list) and schema.items is not None:
        return [
            _pruned(item, schema.items, f"{path}[{index}]", unknown)
            for index, item in enumerate(value)
        ]
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, item in value.items():
        where = f"{path}.{name}" if path else name
        if whole and name in ("apiVersion", "kind"):
            kept[name] = item
        elif whole and name == "metadata":
            # The outermost has been read already.
            kept[name] = item if not path else _metadata(item, where, unknown)
        elif (part := schema.properties.get(name) or schema.additional) is not None:
            kept[name] = _pruned(item, part, where, unknown, whole=part.embedded)
        elif schema.preserves_unknown or schema.node.get("additionalProperties") is True:
            kept[name] = item
        else:
            unknown.append(where)
    return kept


def _drop_nulls(value: Any, schema: Schema) -> None:
    if isinstance(value, list):
        if schema.items is not None:
            for item in value:
                _drop_nulls(item, schema.items)
        return
    if not isinstance(value, dict):
        return
    for name in list(value):
        part = schema.properties.get(name) or schema.additional
        if part is None:
            continue
        if value[name] is None and not part.nullable:
            del value[name]
        else:
            _drop_nulls(value[name], part)


def _default(value: Any, schema: Schema) -> None:
    if schema.definition:
        return
    if isinstance(value, list):
        if schema.items is not None:
            for item in value:
                _default(item, schema.items)
        return
    if not isinstance(value, dict):
        return
    for name, part in schema.properties.items():
        if part.has_default and name not in value:
            value[name] = copy.deepcopy(part.default)
        if name in value:
            _default(value[name], part)
    if schema.additional is not None:
        for name, item in value.items():
            if name not in schema.properties:
                _default(item, schema.additional)
