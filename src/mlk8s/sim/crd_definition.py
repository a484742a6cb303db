"""Whether a CustomResourceDefinition is valid.

The checks are those of ``apiextensions-apiserver`` (``pkg/apis/apiextensions/validation``) that a
person meets who writes a definition; the cost of rules in CEL is not estimated.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mlk8s.sim import crd_rules
from mlk8s.sim.crd_validation import check_schema
from mlk8s.sim.schema import Schema
from mlk8s.sim.status import (
    FieldError,
    Object,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from mlk8s.sim.validation import rules

_TYPES = ("array", "boolean", "integer", "number", "object", "string")
_NEVER = {
    "$ref": "$ref is not supported",
    "definitions": "definitions is not supported",
    "dependencies": "dependencies is not supported",
    "deprecated": "",
    "discriminator": "",
    "id": "id is not supported",
    "patternProperties": "patternProperties is not supported",
    "readOnly": "",
    "writeOnly": "",
    "xml": "",
}


def validate_definition(obj: Object) -> list[FieldError]:
    """Errors in a CustomResourceDefinition."""
    spec = obj.get("spec") or {}
    names = spec.get("names") or {}
    wanted = f"{names.get('plural', '')}.{spec.get('group', '')}"
    errors = []
    if obj["metadata"].get("name") != wanted:
        detail = 'must be spec.names.plural+"."+spec.group'
        errors.append(invalid("metadata.name", obj["metadata"].get("name", ""), detail))
    errors += _check_group(spec)
    errors += _check_approval(obj["metadata"], spec.get("group", ""))
    if spec.get("scope") not in ("Cluster", "Namespaced"):
        if not spec.get("scope"):
            errors.append(required("spec.scope"))
        errors.append(unsupported("spec.scope", spec.get("scope", ""), ("Cluster", "Namespaced")))
    errors += _check_versions(spec)
    errors += _check_names(names, "spec.names")
    return errors


def _check_group(spec: Object) -> Iterator[FieldError]:
    group = spec.get("group", "")
    if not group:
        yield required("spec.group")
        return
    if wrong := rules.dns_subdomain(group):
        yield invalid("spec.group", group, ",".join(wrong))
    elif "." not in group:
        yield invalid("spec.group", group, "should be a domain with at least one dot")


def _check_approval(metadata: Object, group: str) -> Iterator[FieldError]:
    """Groups that the Kubernetes community keeps for itself need its consent."""
    name = "api-approved.kubernetes.io"
    if not f".{group}".endswith((".k8s.io", ".kubernetes.io")):
        return
    if not (metadata.get("annotations") or {}).get(name):
        yield required(
            f"metadata.annotations[{name}]",
            f'protected groups must have approval annotation "{name}", see '
            "https://github.com/kubernetes/enhancements/pull/1111",
        )


def _check_versions(spec: Object) -> Iterator[FieldError]:
    versions = spec.get("versions") or []
    seen, stored = set(), 0
    for index, version in enumerate(versions):
        path = f"spec.versions[{index}]"
        name = version.get("name", "")
        if wrong := rules.dns_1035_label(name):
            yield invalid(f"{path}.name", name, ",".join(wrong))
        if name in seen:
            yield invalid("spec.versions", _names_of(versions), "must contain unique version names")
        seen.add(name)
        stored += bool(version.get("storage"))
        yield from _check_schema_of(version, path)
        yield from _check_subresources(version.get("subresources") or {}, f"{path}.subresources")
        yield from _check_columns(version, path)
    if stored != 1:
        yield invalid(
            "spec.versions",
            versions,
            "must have exactly one version marked as storage version",
        )


def _names_of(versions: list[Object]) -> list[str]:
    return [version.get("name", "") for version in versions]


def _check_schema_of(version: Object, path: str) -> Iterator[FieldError]:
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    where = f"{path}.schema.openAPIV3Schema"
    if schema is None:
        yield required(where, "schemas are required")
        return
    if schema.get("type") != "object" and schema.get("type"):
        yield invalid(f"{where}.type", schema["type"], "must be object at the root")
    elif not schema.get("type"):
        yield required(f"{where}.type", "must not be empty at the root")
    if schema.get("nullable"):
        yield forbidden(f"{where}.nullable", "nullable cannot be true at the root")
    for part in sorted(set(schema.get("properties") or ()) & {"metadata"}):
        allowed = {"type", "properties", "description"}
        if set(schema["properties"][part]) - allowed:
            yield forbidden(
                f"{where}.properties[metadata]",
                "must not specify anything other than name and generateName, but metadata is "
                "implicitly specified",
            )
    found = list(_check_node(schema, where, root=True))
    yield from found or crd_rules.check_definition(Schema(schema), where)


def _check_node(node: Any, path: str, root: bool = False) -> Iterator[FieldError]:
    """One node of a structural schema."""
    if not isinstance(node, dict):
        return
    for name, detail in _NEVER.items():
        if node.get(name):
            yield forbidden(f"{path}.{name}", detail or f"{name} is not supported")
    kind = node.get("type", "")
    free = node.get("x-kubernetes-int-or-string") or node.get(
        "x-kubernetes-preserve-unknown-fields"
    )
    if kind and kind not in _TYPES:
        yield unsupported(f"{path}.type", kind, _TYPES)
    elif not kind and not free and not root:
        yield required(f"{path}.type", "must not be empty for specified object fields")
    if node.get("x-kubernetes-int-or-string") and kind:
        yield invalid(f"{path}.type", kind, "must be empty if x-kubernetes-int-or-string is true")
    if kind == "array" and not node.get("items"):
        yield required(f"{path}.items", "must be specified")
    if node.get("uniqueItems"):
        yield forbidden(
            f"{path}.uniqueItems",
            "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
        )
    if node.get("properties") and node.get("additionalProperties") is not None:
        yield forbidden(
            f"{path}.additionalProperties",
            "additionalProperties and properties are mutual exclusive",
        )
    yield from _check_list_type(node, path)
    yield from _check_default(node, path)
    for name, part in sorted((node.get("properties") or {}).items()):
        if root and name in ("metadata", "kind", "apiVersion"):
            continue
        yield from _check_node(part, f"{path}.properties[{name}]")
    if isinstance(node.get("items"), list):
        yield forbidden(f"{path}.items", "items must be a schema object and not an array")
    yield from _check_node(node.get("items"), f"{path}.items")
    yield from _check_node(node.get("additionalProperties"), f"{path}.additionalProperties")


def _check_list_type(node: Object, path: str) -> Iterator[FieldError]:
    list_type, keys = node.get("x-kubernetes-list-type"), node.get("x-kubernetes-list-map-keys")
    where = f"{path}.x-kubernetes-list-type"
    if list_type is not None and list_type not in ("atomic", "set", "map"):
        yield unsupported(where, list_type, ("atomic", "map", "set"))
    if list_type is not None and node.get("type") != "array":
        yield invalid(
            f"{path}.type",
            node.get("type", ""),
            "must be array if x-kubernetes-list-type is specified",
        )
    if keys and list_type != "map":
        yield invalid(
            where, list_type or "", "must be map if x-kubernetes-list-map-keys is non-empty"
        )
    if list_type == "map":
        if not keys:
            yield required(
                f"{path}.x-kubernetes-list-map-keys",
                "must not be empty if x-kubernetes-list-type is map",
            )
        items = node.get("items") or {}
        named = items.get("properties") or {}
        for index, key in enumerate(keys or ()):
            if key not in named:
                yield invalid(
                    f"{path}.x-kubernetes-list-map-keys[{index}]",
                    key,
                    "entries must all be names of item properties",
                )
            elif key not in (items.get("required") or ()) and "default" not in named[key]:
                yield required(
                    f"{path}.items.properties[{key}].default",
                    "this property is in x-kubernetes-list-map-keys, so it must have a default "
                    "or be a required property",
                )


def _check_default(node: Object, path: str) -> Iterator[FieldError]:
    if node.get("default") is None:
        return
    for error in check_schema(Schema(node), node["default"]):
        where = f"{path}.default"
        field = f"{where}.{error.field}" if error.field and error.field != "<nil>" else where
        yield FieldError(
            field, error.kind, error.detail.replace(" in body", f"{where} in body", 1), error.value
        )


def _check_subresources(subresources: Object, path: str) -> Iterator[FieldError]:
    scale = subresources.get("scale")
    if scale is None:
        return
    for name, root in (("specReplicasPath", "spec"), ("statusReplicasPath", "status")):
        value = scale.get(name, "")
        if not value:
            yield required(f"{path}.scale.{name}")
        elif not value.startswith(f".{root}."):
            detail = f"should be a json path under .{root}"
            yield invalid(f"{path}.scale.{name}", value, detail)
    selector = scale.get("labelSelectorPath", "")
    if selector and not selector.startswith((".spec.", ".status.")):
        yield invalid(
            f"{path}.scale.labelSelectorPath",
            selector,
            "should be a json path under either .spec or .status",
        )


def _check_columns(version: Object, path: str) -> Iterator[FieldError]:
    types = ("boolean", "date", "integer", "number", "string")
    for index, column in enumerate(version.get("additionalPrinterColumns") or ()):
        where = f"{path}.additionalPrinterColumns[{index}]"
        if not column.get("name"):
            yield required(f"{where}.name")
        if not column.get("type"):
            yield required(f"{where}.type", f"must be one of {','.join(types)}")
        elif column["type"] not in types:
            yield invalid(f"{where}.type", column["type"], f"must be one of {','.join(types)}")
        if not column.get("jsonPath"):
            yield required(f"{where}.JSONPath")


def _check_names(names: Object, path: str) -> Iterator[FieldError]:
    for name in ("plural", "singular", "kind", "listKind"):
        value = names.get(name, "")
        if not value:
            if name in ("plural", "kind"):
                yield required(f"{path}.{name}")
            continue
        checked = value if name in ("plural", "singular") else value.lower()
        if wrong := rules.dns_1035_label(checked):
            yield invalid(f"{path}.{name}", value, ",".join(wrong))
    if names.get("kind") and names.get("kind") == names.get("listKind"):
        yield invalid(
            f"{path}.listKind", names["listKind"], "kind and listKind may not be the same"
        )
    for part in ("shortNames", "categories"):
        seen = set()
        for index, value in enumerate(names.get(part) or ()):
            if wrong := rules.dns_1035_label(value):
                yield invalid(f"{path}.{part}[{index}]", value, ",".join(wrong))
            elif value in seen:
                yield duplicate(f"{path}.{part}[{index}]", value)
            seen.add(value)
