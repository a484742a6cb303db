"""Reading a body into one of Kubernetes' types, as the API server's JSON decoder does.

It knows the fields of the type, checks what each holds, writes quantities and times in their
canonical form, and omits what Go would omit. What it refuses it refuses in the words of Go's
decoder (``sigs.k8s.io/json``), with the names of Go's types. For each type a function is put
together once, because every create, update and patch of every object passes here.
"""

from __future__ import annotations

import binascii
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import cache
from typing import Any

import orjson

from mlk8s.sim import fields, quantity, schema
from mlk8s.sim.resources import Resource
from mlk8s.sim.schema import Schema
from mlk8s.sim.status import Object, StatusError, bad_request

_SCHEME = 'in scheme "pkg/api/legacyscheme/scheme.go:30"'
_WITHOUT_KIND = (
    'struct { APIVersion string "json:\\"apiVersion,omitempty\\""; '
    'Kind string "json:\\"kind,omitempty\\"" }'
)
_DROP = object()
_SECONDS = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d([.,]\d+)?(Z|[+-]\d\d:\d\d)")
_RANGES = {"int32": 2**31, "int64": 2**63}
# Quantities whose power of ten has more digits than this are outside any number that is served.
_EXPONENT = re.compile(r"[eE][+-]?\d{4,}$")
# The server's decoder names at most so many unknown fields.
_MOST_UNKNOWN = 100

# What Go calls the type of a text or a map, by the property that holds it, where that is not
# ``string`` or ``map[string]string``.
_GO_NAMES = {
    "accessModes": "[]v1.PersistentVolumeAccessMode",
    "allocatable": "v1.ResourceList",
    "capacity": "v1.ResourceList",
    "completionMode": "v1.CompletionMode",
    "concurrencyPolicy": "v1.ConcurrencyPolicy",
    "dnsPolicy": "v1.DNSPolicy",
    "effect": "v1.TaintEffect",
    "hard": "v1.ResourceList",
    "imagePullPolicy": "v1.PullPolicy",
    "limits": "v1.ResourceList",
    "medium": "v1.StorageMedium",
    "mountPropagation": "v1.MountPropagationMode",
    "overhead": "v1.ResourceList",
    "persistentVolumeReclaimPolicy": "v1.PersistentVolumeReclaimPolicy",
    "podReplacementPolicy": "v1.PodReplacementPolicy",
    "preemptionPolicy": "v1.PreemptionPolicy",
    "protocol": "v1.Protocol",
    "requests": "v1.ResourceList",
    "restartPolicy": "v1.RestartPolicy",
    "scheme": "v1.URIScheme",
    "sessionAffinity": "v1.ServiceAffinity",
    "terminationMessagePolicy": "v1.TerminationMessagePolicy",
    "uid": "types.UID",
    "used": "v1.ResourceList",
    "volumeMode": "v1.PersistentVolumeMode",
    "whenUnsatisfiable": "v1.UnsatisfiableConstraintAction",
}

_Walk = Callable[[Any, list[bool]], Any]


class _Refused(Exception):
    """A value that does not fit; gathers on its way up where it stands."""

    def __init__(self, found: str, go_type: str) -> None:
        super().__init__(found)
        self.found = found
        self.go_type = go_type
        self.path: list[str] = []
        self.struct = ""

    def __str__(self) -> str:
        if not self.go_type:
            return self.found
        where = f"Go struct field {self.struct}.{'.'.join(reversed(self.path))} of"
        if not self.path:
            where = "Go value of"
        return f"json: cannot unmarshal {self.found} into {where} type {self.go_type}"


def decode(resource: Resource, obj: Any, validation: str, warnings: list[str]) -> Object:
    """A body as an object of a built-in resource; the body is left as it is.

    Raises:
        StatusError: 400.
    """
    api_version, kind = header(resource, obj)
    walk = _struct(resource.definition)
    unknown: list[bool] = []
    try:
        decoded: Object = walk(obj, unknown)
    except _Refused as refused:
        raise cannot_be_handled(resource, str(refused)) from None
    if unknown and validation != "Ignore":
        found = list(_unknown(schema.named(resource.definition), obj, ""))[:_MOST_UNKNOWN]
        report_unknown(resource, found, validation, warnings)
    # No pointer in any of Go's types, so it is always there.
    decoded.setdefault("metadata", {})
    decoded["apiVersion"] = api_version
    decoded["kind"] = kind
    return decoded


def read(definition: str, obj: Any) -> Object:
    """A part of a body, or one of no resource's, such as ``DeleteOptions``.

    Unknown fields are left out.

    Raises:
        StatusError: 400, in the words of Go's decoder.
    """
    try:
        read: Object = _struct(definition)(obj, [])
    except _Refused as refused:
        raise bad_request(str(refused)) from None
    return read


def header(resource: Resource, obj: Any) -> tuple[str, str]:
    """Check ``apiVersion`` and ``kind`` of a body against the path; both may be left out.

    Raises:
        StatusError: 400.
    """
    expected = resource.api_version
    if not isinstance(obj, dict):
        reason = f"json: cannot unmarshal {_found(obj)} into Go value of type {_WITHOUT_KIND}"
        raise _unrecognized(resource, obj, reason)
    said: dict[str, str] = {}
    for name in ("apiVersion", "kind"):
        value = obj.get(name)
        if value is not None and not isinstance(value, str):
            reason = (
                f"json: cannot unmarshal {_found(value)} into Go struct field .{name} "
                "of type string"
            )
            raise _unrecognized(resource, obj, reason)
        said[name] = value or ""
    api_version, kind = said["apiVersion"] or expected, said["kind"] or resource.kind
    if (api_version, kind) == (expected, resource.kind):
        return api_version, kind
    group, _, version = api_version.rpartition("/")
    if resource.custom or (group, version, kind) not in schema.kinds():
        if resource.custom and kind == resource.kind and group == resource.group:
            raise _other_version(api_version, expected)
        if resource.custom:
            raise bad_request(
                f"the object provided is unrecognized (must be of type {resource.kind}): "
                f"{kind}.{group} is not {resource.kind}.{resource.group}"
            )
        reason = f'no kind "{kind}" is registered for version "{api_version}" {_SCHEME}'
        raise bad_request(_handled(kind, version, resource.kind, reason))
    if kind == resource.kind:
        raise _other_version(api_version, expected)
    package = resource.group.partition(".")[0] or "core"
    reason = f"converting ({version}.{kind}) to ({package}.{resource.kind}): unknown conversion"
    raise bad_request(_handled(kind, version, resource.kind, reason))


def cannot_be_handled(resource: Resource, reason: str) -> StatusError:
    """400: the body is of the right kind but cannot be read as one."""
    return bad_request(_handled(resource.kind, resource.version, resource.kind, reason))


def report_unknown(
    resource: Resource, paths: list[str], validation: str, warnings: list[str]
) -> None:
    """Say which fields of a body no schema names.

    Raises:
        StatusError: 400 when ``validation`` is ``Strict``.
    """
    texts = [f'unknown field "{path}"' for path in paths]
    if not texts or validation == "Ignore":
        return
    if validation == "Strict":
        raise cannot_be_handled(resource, f"strict decoding error: {', '.join(texts)}")
    warnings.extend(texts)


def _handled(kind: str, version: str, wanted: str, reason: str) -> str:
    return f'{kind} in version "{version}" cannot be handled as a {wanted}: {reason}'


def _other_version(said: str, expected: str) -> StatusError:
    return bad_request(
        f"the API version in the data ({said}) does not match the expected API version ({expected})"
    )


def _unrecognized(resource: Resource, obj: Any, reason: str) -> StatusError:
    body = orjson.dumps(obj)
    text = body.decode() if body.startswith(b"{") else body.hex()
    most = 30 if body.startswith(b"{") else 60
    summary = text if len(text) <= most else f"{text[:most]} ..."
    return bad_request(
        f"the object provided is unrecognized (must be of type {resource.kind}): couldn't get "
        f"version/kind; json parse error: {reason} ({summary})"
    )


# -- one function for each type -------------------------------------------------------------------


class _Struct:
    """Reads an object with named fields."""

    def __init__(self, definition: str) -> None:
        self.definition = definition
        self.name = definition.rpartition(".")[2]
        self.walks: dict[str, _Walk] | None = None

    def __call__(self, value: Any, unknown: list[bool]) -> Any:
        if type(value) is not dict:
            raise _Refused(_found(value), _go_type(schema.named(self.definition)))
        walks = self.walks
        if walks is None:
            walks = self.walks = self._compile()
        read, name = {}, ""
        try:
            for name, item in value.items():
                walk = walks.get(name)
                if walk is None:
                    unknown.append(True)
                elif item is not None:
                    kept = walk(item, unknown)
                    if kept is not _DROP:
                        read[name] = kept
        except _Refused as refused:
            refused.path.append(name)
            refused.struct = refused.struct or self.name
            raise
        return read

    def _compile(self) -> dict[str, _Walk]:
        whole = schema.named(self.definition)
        held = fields.of(self.definition)
        walks = {}
        for name, part in whole.properties.items():
            walk = _walk(part, name)
            if name not in whole.required and _omits_zero(part, held.get(name)):
                walk = _omitting(walk)
            walks[name] = walk
        return walks


def _omits_zero(part: Schema, held: fields.Field | None) -> bool:
    """Whether Go leaves the field out when it is empty."""
    if part.type == "array" or part.additional is not None:
        return True
    if part.definition or held is None:
        return False
    return not held.pointer


@cache
def _struct(definition: str) -> _Walk:
    return _Struct(definition)


def _walk(part: Schema, name: str) -> _Walk:
    if part.is_quantity:
        return _quantity
    if part.definition in (schema.TIME, schema.MICRO_TIME):
        return _seconds if part.definition == schema.TIME else _microseconds
    if part.is_int_or_string:
        return _int_or_string
    if part.definition in (
        schema.PROPS_OR_ARRAY,
        schema.PROPS_OR_BOOL,
        schema.PROPS_OR_STRINGS,
    ):
        return _props_or_other
    if part.preserves_unknown:
        return _as_it_is
    if part.definition:
        return _struct(part.definition)
    if part.type == "array" and part.items is not None:
        return _list(_walk(part.items, ""), _zero(part.items), _go_type(part, name))
    if part.additional is not None:
        return _map(_walk(part.additional, ""), _zero(part.additional), _go_type(part, name))
    if part.format == "byte":
        return _bytes
    if part.type == "integer":
        return _integer(part.format)
    if part.type in ("string", "boolean"):
        return _exactly(str if part.type == "string" else bool, _go_type(part, name))
    if part.type == "number":
        return _number
    return _as_it_is


def _omitting(walk: _Walk) -> _Walk:
    def read(value: Any, unknown: list[bool]) -> Any:
        return walk(value, unknown) or _DROP

    return read


def _exactly(wanted: type, go_type: str) -> _Walk:
    def read(value: Any, unknown: list[bool]) -> Any:
        if type(value) is wanted:
            return value
        raise _Refused(_found(value), go_type)

    return read


def _integer(form: str) -> _Walk:
    limit = _RANGES.get(form, 2**63)
    go_type = form or "int64"

    def read(value: Any, unknown: list[bool]) -> Any:
        if type(value) is int:
            if -limit <= value < limit:
                return value
            raise _Refused(f"number {value}", go_type)
        if type(value) is float:
            raise _Refused(f"number {value!r}", go_type)
        raise _Refused(_found(value), go_type)

    return read


def _number(value: Any, unknown: list[bool]) -> Any:
    if type(value) in (int, float):
        return value
    raise _Refused(_found(value), "float64")


def _list(walk: _Walk, zero: Any, go_type: str) -> _Walk:
    def read(value: Any, unknown: list[bool]) -> Any:
        if type(value) is not list:
            raise _Refused(_found(value), go_type)
        return [zero() if item is None else walk(item, unknown) for item in value]

    return read


def _map(walk: _Walk, zero: Any, go_type: str) -> _Walk:
    def read(value: Any, unknown: list[bool]) -> Any:
        if type(value) is not dict:
            raise _Refused(_found(value), go_type)
        return {
            name: zero() if item is None else walk(item, unknown) for name, item in value.items()
        }

    return read


def _zero(part: Schema) -> Callable[[], Any]:
    """What Go makes of ``null`` inside a list or a map, where nothing can be left out."""
    if part.is_quantity:
        return lambda: "0"
    if part.definition or part.additional is not None:
        return dict
    types: dict[str, Callable[[], Any]] = {
        "string": str,
        "integer": int,
        "number": int,
        "boolean": bool,
        "array": list,
    }
    return types.get(part.type, dict)


def _quantity(value: Any, unknown: list[bool]) -> Any:
    kind = type(value)
    try:
        if kind is str:
            if _EXPONENT.search(value):
                raise ValueError("unable to parse quantity's suffix")
            return quantity.canonical(value.strip())
        if kind is int or kind is float:
            return quantity.canonical(str(value))
        raise ValueError(
            f"quantities must match the regular expression '{quantity.REGULAR_EXPRESSION}'"
        )
    except ValueError as error:
        text = value.strip() if kind is str else ""
        match = re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)[eEinumkKMGTP]+[-+]?\d*", text)
        reason = "unable to parse quantity's suffix" if match else str(error)
        raise _Refused(reason, "") from None


def _int_or_string(value: Any, unknown: list[bool]) -> Any:
    if type(value) is str:
        return value
    return _INT32(value, unknown)


_INT32 = _integer("int32")


def _props_or_other(value: Any, unknown: list[bool]) -> Any:
    """One or several schemas inside a CRD's schema, a boolean or names of properties."""
    props = _struct(schema.JSON_SCHEMA)
    if type(value) is list:
        return [props(item, unknown) if type(item) is dict else item for item in value]
    return props(value, unknown) if type(value) is dict else value


def _as_it_is(value: Any, unknown: list[bool]) -> Any:
    return value


def _bytes(value: Any, unknown: list[bool]) -> Any:
    if type(value) is not str:
        raise _Refused(_found(value), "[]uint8")
    text = value.replace("\n", "").replace("\r", "")
    try:
        b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise _Refused(f"illegal base64 data at input byte {_bad_base64(text)}", "") from None
    return text


def _bad_base64(text: str) -> int:
    """Where Go's decoder stops: at the first wrong character, or behind a group cut short."""
    for index, character in enumerate(text):
        if not (character.isascii() and (character.isalnum() or character in "+/")):
            if character == "=" and index % 4 >= 2 and text[index:].strip("=") == "":
                continue
            return index
    return len(text) - len(text) % 4 if len(text) % 4 else len(text)


def _seconds(value: Any, unknown: list[bool]) -> Any:
    if type(value) is str and _SECONDS.fullmatch(value):
        return value
    return _moment(value, "%Y-%m-%dT%H:%M:%SZ", "2006-01-02T15:04:05Z07:00")


def _microseconds(value: Any, unknown: list[bool]) -> Any:
    return _moment(value, "%Y-%m-%dT%H:%M:%S.%fZ", "2006-01-02T15:04:05.000000Z07:00")


def _moment(value: Any, form: str, layout: str) -> str:
    if type(value) is not str:
        raise _Refused(_found(value), "string")
    try:
        if not _RFC3339.fullmatch(value):
            raise ValueError
        return datetime.fromisoformat(value.replace(",", ".")).astimezone(UTC).strftime(form)
    except ValueError:
        reason = f'parsing time "{value}" as "{layout}": cannot parse "{value}" as "2006"'
        raise _Refused(reason, "") from None


# -- words ----------------------------------------------------------------------------------------


def _found(value: Any) -> str:
    """What Go's decoder calls a JSON value."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float):
        return "number"
    names = {str: "string", list: "array", dict: "object", type(None): "null"}
    return names[type(value)]


def _go_type(part: Schema, name: str = "") -> str:
    """The name of the Go type behind a schema."""
    if name in _GO_NAMES:
        return _GO_NAMES[name]
    if part.definition:
        return ".".join(part.definition.rsplit(".", 2)[1:])
    if part.type == "array" and part.items is not None:
        return f"[]{_go_type(part.items)}"
    if part.additional is not None:
        return f"map[string]{_go_type(part.additional)}"
    if part.format == "byte":
        return "[]uint8"
    if part.type == "integer":
        return part.format or "int64"
    return {"boolean": "bool", "number": "float64"}.get(part.type, part.type)


def _unknown(part: Schema, value: Any, path: str) -> Iterator[str]:
    """Paths of the fields that no schema names, in the order in which they stand."""
    if part.preserves_unknown or value is None:
        return
    if isinstance(value, list) and part.items is not None:
        for index, item in enumerate(value):
            yield from _unknown(part.items, item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            where = f"{path}.{name}" if path else name
            if (inner := part.property(name)) is not None:
                yield from _unknown(inner, item, where)
            elif part.properties:
                yield where
