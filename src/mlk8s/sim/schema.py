"""What fields an object may have: one view on built-in types and on custom resources.

The types of Kubernetes come from the schema files of the package ``kubernetes_validate``, which
are made from Kubernetes' own OpenAPI document; it leaves out enumerations, which are in ``data``.
Reading a request's body by these schemas is in :mod:`mlk8s.sim.decoding`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache, cached_property, lru_cache
from importlib import resources as package_files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import orjson

from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object

KUBERNETES = "1.36.0"

_API = "io.k8s.apimachinery.pkg."
_CRD = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1."
QUANTITY = f"{_API}api.resource.Quantity"
INT_OR_STRING = f"{_API}util.intstr.IntOrString"
TIME = f"{_API}apis.meta.v1.Time"
MICRO_TIME = f"{_API}apis.meta.v1.MicroTime"
RAW_EXTENSION = f"{_API}runtime.RawExtension"
FIELDS = f"{_API}apis.meta.v1.FieldsV1"
JSON = f"{_CRD}JSON"
JSON_SCHEMA = f"{_CRD}JSONSchemaProps"
# The published schemas leave these three open; each is one or more of the type behind its name.
PROPS_OR_ARRAY = f"{_CRD}JSONSchemaPropsOrArray"
PROPS_OR_BOOL = f"{_CRD}JSONSchemaPropsOrBool"
PROPS_OR_STRINGS = f"{_CRD}JSONSchemaPropsOrStringArray"
_UNKNOWN = {RAW_EXTENSION, FIELDS, JSON, PROPS_OR_ARRAY, PROPS_OR_BOOL, PROPS_OR_STRINGS}


class Schema:
    """One node of a JSON schema.

    Args:
        node: the schema as JSON; not to be changed afterwards.
        definition: the name under which it is published, such as ``io.k8s.api.core.v1.Pod``;
            empty for a part of another schema and for a CRD's.
    """

    def __init__(self, node: Object, definition: str = "") -> None:
        self.node = node
        self.definition = definition

    def __repr__(self) -> str:
        return f"Schema({self.definition or self.type})"

    @cached_property
    def type(self) -> str:
        """``object``, ``array``, ``string``, ``integer``, ``number``, ``boolean``, or empty."""
        if self.definition == QUANTITY:
            return "string"
        said = self.node.get("type", "")
        if isinstance(said, list):
            return next((name for name in said if name != "null"), "")
        return str(said)

    @property
    def format(self) -> str:
        """``int32``, ``int64``, ``byte``, ``date-time``, ``double``, or empty."""
        return str(self.node.get("format", ""))

    @property
    def description(self) -> str:
        """What the field means, in Kubernetes' words."""
        return str(self.node.get("description", ""))

    @property
    def enum(self) -> list[Any]:
        """The values that are possible; empty when it is not an enumeration."""
        return list(self.node.get("enum") or ())

    @cached_property
    def required(self) -> frozenset[str]:
        """Names of the properties that must be there."""
        return frozenset(self.node.get("required") or ())

    @property
    def nullable(self) -> bool:
        """Whether a CRD allows ``null`` here."""
        return bool(self.node.get("nullable"))

    @cached_property
    def properties(self) -> Mapping[str, Schema]:
        """The schema of each property."""
        if self.definition and (target := named(self.definition)) is not self:
            # Shared, so that each part is resolved once however often the type is used.
            return target.properties
        found = self.node.get("properties") or {}
        return {name: _resolve(node) for name, node in found.items()}

    @cached_property
    def items(self) -> Schema | None:
        """The schema of a list's items."""
        node = self.node.get("items")
        return _resolve(node) if isinstance(node, dict) else None

    @cached_property
    def additional(self) -> Schema | None:
        """The schema of a map's values."""
        node = self.node.get("additionalProperties")
        return _resolve(node) if isinstance(node, dict) else None

    @property
    def list_type(self) -> str:
        """``atomic`` (also when nothing is said), ``set`` or ``map``."""
        return str(self.node.get("x-kubernetes-list-type") or "atomic")

    @cached_property
    def map_keys(self) -> tuple[str, ...]:
        """The properties that together name an item of a list of type ``map``."""
        return tuple(self.node.get("x-kubernetes-list-map-keys") or ())

    @property
    def map_type(self) -> str:
        """``granular`` (also when nothing is said) or ``atomic``."""
        return str(self.node.get("x-kubernetes-map-type") or "granular")

    @property
    def patch_merge_key(self) -> str | None:
        """The property by which a strategic merge patch finds items."""
        return self.node.get("x-kubernetes-patch-merge-key")

    @cached_property
    def patch_strategy(self) -> frozenset[str]:
        """Of ``merge``, ``replace`` and ``retainKeys``."""
        said = self.node.get("x-kubernetes-patch-strategy") or ""
        return frozenset(part for part in said.split(",") if part)

    @property
    def is_quantity(self) -> bool:
        """Whether it is a ``resource.Quantity``."""
        return self.definition == QUANTITY

    @property
    def is_int_or_string(self) -> bool:
        """Whether it is a number or a text."""
        return self.definition == INT_OR_STRING or bool(self.node.get("x-kubernetes-int-or-string"))

    @property
    def preserves_unknown(self) -> bool:
        """Whether fields that no schema names are kept."""
        return self.definition in _UNKNOWN or bool(
            self.node.get("x-kubernetes-preserve-unknown-fields")
        )

    @property
    def embedded(self) -> bool:
        """Whether a CRD says that a whole Kubernetes object stands here."""
        return bool(self.node.get("x-kubernetes-embedded-resource"))

    @property
    def has_default(self) -> bool:
        """Whether a CRD gives a default."""
        return "default" in self.node

    @property
    def default(self) -> Any:
        """The default of a CRD's field; not to be changed. ``None`` when there is none."""
        return self.node.get("default")

    # Last, because it hides the decorator of that name from what follows.
    def property(self, name: str) -> Schema | None:
        """The schema of one property; for a map, that of its values."""
        return self.properties.get(name) or self.additional


class Schemas:
    """The schemas of all resources that are served."""

    def __init__(self) -> None:
        self._custom: dict[tuple[str, str, str], Schema] = {}

    def of(self, resource: Resource) -> Schema:
        """The schema of a resource's objects.

        Raises:
            KeyError: there is none.
        """
        if resource.definition:
            return named(resource.definition)
        return self._custom[resource.group, resource.version, resource.plural]

    def add(self, resource: Resource, openapi_v3_schema: Object) -> None:
        """Take the schema of a custom resource; replaces an earlier one."""
        node = dict(openapi_v3_schema)
        # Every object has these; a CRD may say more about the metadata, which stays as it is.
        node["properties"] = {
            **node.get("properties", {}),
            "apiVersion": {"type": "string", "description": _about("apiVersion")},
            "kind": {"type": "string", "description": _about("kind")},
            "metadata": {"$ref": f"#/$defs/{_API}apis.meta.v1.ObjectMeta"},
        }
        self._custom[resource.group, resource.version, resource.plural] = Schema(node)

    def remove(self, resource: Resource) -> None:
        """Forget the schema of a custom resource."""
        self._custom.pop((resource.group, resource.version, resource.plural), None)

    def decode(self, resource: Resource, obj: Any, validation: str, warnings: list[str]) -> Object:
        """A body as an API server takes it in: known fields of the right types, canonical.

        Args:
            resource: what the request's path says that it is.
            obj: parsed JSON.
            validation: ``Strict``, ``Warn`` or ``Ignore`` unknown fields.
            warnings: with ``Warn`` they are named here.

        Raises:
            StatusError: 400, with the server's message.
        """
        from mlk8s.sim import decoding

        return decoding.decode(resource, obj, validation, warnings)


@cache
def named(definition: str) -> Schema:
    """The schema published under a name.

    Raises:
        KeyError: Kubernetes has no such type.
    """
    return Schema(_node(definition), definition)


def has(definition: str) -> bool:
    """Whether a type is published under this name."""
    return definition in _definitions()


def definitions() -> Iterator[str]:
    """The names of all types."""
    return iter(_definitions())


def kinds() -> Mapping[tuple[str, str, str], str]:
    """The definition of each (group, version, kind)."""
    return _kinds()


@cache
def _kinds() -> dict[tuple[str, str, str], str]:
    found = {}
    for name, node in _definitions().items():
        stated = node.get("x-kubernetes-group-version-kind") or ()
        for gvk in stated:
            found[gvk["group"], gvk["version"], gvk["kind"]] = name
    return found


@lru_cache(maxsize=1)
def _definitions() -> dict[str, Object]:
    # To import the package would take a hundred times as long as to read its file.
    package = find_spec("kubernetes_validate")
    assert package is not None and package.origin is not None, "a dependency of mlk8s is missing"
    folder = Path(package.origin).parent / "kubernetes-json-schema" / f"v{KUBERNETES}-local"
    file = folder / "_definitions.json"
    parsed: dict[str, Object] = orjson.loads(file.read_bytes())["$defs"]
    return parsed


@lru_cache(maxsize=1)
def _enums() -> dict[str, dict[str, Any]]:
    """Definition and property, joined by a dot, to the values and what each means."""
    file = package_files.files("mlk8s.sim") / "data" / "enums.json"
    parsed: dict[str, dict[str, Any]] = json.loads(file.read_text())
    return parsed


def _node(definition: str) -> Object:
    """A definition, with its enumerations and without what the schema files add."""
    node = dict(_definitions()[definition])
    found = node.get("properties")
    if not found:
        return node
    node["properties"] = properties = dict(found)
    enums = _enums().get(definition, {})
    for name, said in found.items():
        if "enum" in said:
            # The files tell kinds apart by a fixed apiVersion and kind.
            said = properties[name] = {k: v for k, v in said.items() if k != "enum"}
        if name in enums:
            properties[name] = _with_enum(said, enums[name])
    return node


def _with_enum(said: Object, meanings: Mapping[str, str]) -> Object:
    lines = [f' - `"{value}"` {meaning}'.rstrip() for value, meaning in meanings.items()]
    listed = "\n".join(["Possible enum values:", *lines])
    return {
        **said,
        "enum": list(meanings),
        "description": f"{said['description']}\n\n{listed}",
    }


def _resolve(node: Object) -> Schema:
    """The schema of a node, which may refer to a definition and say more about it."""
    reference = node.get("$ref")
    if reference is None:
        return Schema(node)
    target = named(reference.rpartition("/")[2])
    if len(node) == 1:
        return target
    more = {key: value for key, value in node.items() if key != "$ref"}
    return Schema({**target.node, **more}, target.definition)


def _about(name: str) -> str:
    return str(_definitions()["io.k8s.api.core.v1.Pod"]["properties"][name]["description"])
