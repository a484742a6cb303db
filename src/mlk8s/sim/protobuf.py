"""Kubernetes' protobuf bodies, as kubectl's typed commands send them, made into JSON.

A body is four magic bytes and a ``runtime.Unknown``, which names the kind and holds the object.
What a field is called and of what type it is comes from the JSON schemas; ``data/fields.txt`` adds
the numbers. From both a descriptor is made for each type that is met, and protobuf does the rest.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache, lru_cache
from typing import Any

import orjson
from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message import DecodeError, Message
from google.protobuf.message_factory import GetMessageClass

from mlk8s.sim import fields, schema
from mlk8s.sim.fields import Field
from mlk8s.sim.schema import Schema
from mlk8s.sim.status import Object, bad_request

MAGIC = b"k8s\0"
_PACKAGE = "k8s"
_META = "io.k8s.apimachinery.pkg.apis.meta.v1."
_OPTIONAL, _REPEATED = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
_STRING, _BYTES = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_BYTES
_INT32, _INT64 = FieldDescriptorProto.TYPE_INT32, FieldDescriptorProto.TYPE_INT64
_MESSAGE = FieldDescriptorProto.TYPE_MESSAGE
_INTEGERS = {"int64": _INT64, "int32": _INT32}
_SCALARS = {
    "string": _STRING,
    "boolean": FieldDescriptorProto.TYPE_BOOL,
    "number": FieldDescriptorProto.TYPE_DOUBLE,
}
# Types with a JSON form of their own: the fields of their messages.
_SPECIAL: dict[str, list[tuple[str, int, int]]] = {
    schema.QUANTITY: [("string", 1, _STRING)],
    schema.TIME: [("seconds", 1, _INT64), ("nanos", 2, _INT32)],
    schema.MICRO_TIME: [("seconds", 1, _INT64), ("nanos", 2, _INT32)],
    schema.INT_OR_STRING: [("type", 1, _INT64), ("intVal", 2, _INT32), ("strVal", 3, _STRING)],
    schema.RAW_EXTENSION: [("raw", 1, _BYTES)],
    schema.FIELDS: [("Raw", 1, _BYTES)],
    schema.JSON: [("raw", 1, _BYTES)],
}
# Parts of a scheme that stand beside the object; runtime.Unknown and its TypeMeta.
_UNKNOWN_MESSAGES = {
    "TypeMeta": [("apiVersion", 1, _STRING), ("kind", 2, _STRING)],
    "Unknown": [
        ("typeMeta", 1, _MESSAGE),
        ("raw", 2, _BYTES),
        ("contentEncoding", 3, _STRING),
        ("contentType", 4, _STRING),
    ],
}

_ToJson = Callable[[Any], Any]


def decode(body: bytes) -> Object:
    """The object in a protobuf body, in its JSON form.

    Raises:
        StatusError: 400: it is not protobuf of Kubernetes, or of a type that is not known.
    """
    if not body.startswith(MAGIC):
        raise bad_request(
            "provided data does not appear to be a protobuf message, expected prefix "
            f"[{' '.join(str(byte) for byte in MAGIC)}]"
        )
    try:
        whole = _unknown_class().FromString(body[len(MAGIC) :])
        api_version, kind = whole.typeMeta.apiVersion, whole.typeMeta.kind
        if whole.contentType == "application/json":
            parsed: Object = orjson.loads(whole.raw)
            return parsed
        definition = _definition(api_version, kind)
        decoded = _as_json(definition)(_message_class(definition).FromString(whole.raw))
    except (DecodeError, UnicodeDecodeError, orjson.JSONDecodeError) as error:
        raise bad_request(f"proto: cannot decode the body: {error}") from None
    return {"apiVersion": api_version, "kind": kind, **decoded}


def _definition(api_version: str, kind: str) -> str:
    group, _, version = api_version.rpartition("/")
    # Every group has the kinds of meta/v1; the schemas name them once.
    if schema.has(f"{_META}{kind}"):
        return f"{_META}{kind}"
    definition = schema.kinds().get((group, version, kind))
    if definition is None:
        raise bad_request(
            f'no kind "{kind}" is registered for version "{api_version}" in scheme '
            '"pkg/api/legacyscheme/scheme.go:30"'
        )
    if not fields.sent(definition):
        raise bad_request(
            f"{kind} in version {version} cannot be read as protobuf by this server; send JSON"
        )
    return definition


# -- descriptors ----------------------------------------------------------------------------------


@lru_cache(maxsize=1)
def _unknown_class() -> type[Any]:
    file = FileDescriptorProto(name="unknown.proto", package=f"{_PACKAGE}.runtime")
    for name, parts in _UNKNOWN_MESSAGES.items():
        message = file.message_type.add(name=name)
        for part, number, kind in parts:
            field = message.field.add(name=part, number=number, type=kind, label=_OPTIONAL)
            if kind == _MESSAGE:
                field.type_name = f".{_PACKAGE}.runtime.TypeMeta"
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.runtime.Unknown"))


@cache
def _message_class(definition: str) -> type[Message]:
    """The class of a type's messages, with those of all types below it."""
    file = FileDescriptorProto(name=f"{definition}.proto", package=_PACKAGE)
    waiting, done = [(definition, schema.named(definition))], set()
    while waiting:
        name, whole = waiting.pop()
        if name in done:
            continue
        done.add(name)
        message = file.message_type.add(name=_message_name(name))
        if name in _SPECIAL:
            for part, number, kind in _SPECIAL[name]:
                message.field.add(name=part, number=number, type=kind, label=_OPTIONAL)
            continue
        for field in fields.sent(name):
            if field.inlined:
                # Its fields have their schemas in the type that holds it.
                waiting.append((field.name, whole))
                _add(message, field, _MESSAGE, _OPTIONAL, field.name)
                continue
            part_schema = whole.properties.get(field.name)
            if part_schema is not None:
                waiting.extend(_add_field(message, field, part_schema))
    pool = DescriptorPool()
    pool.Add(file)
    return GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{_message_name(definition)}"))


def _message_name(definition: str) -> str:
    return definition.replace(".", "_").replace("-", "_")


def _add(
    message: DescriptorProto, field: Field, kind: int, label: int, definition: str = ""
) -> None:
    added = message.field.add(
        name=_field_name(field),
        number=field.number,
        type=kind,
        label=label,
    )
    if definition:
        added.type_name = f".{_PACKAGE}.{_message_name(definition)}"


def _field_name(field: Field) -> str:
    # Not its name in JSON, which may be a word of Python's.
    return f"f{field.number}"


def _add_field(message: DescriptorProto, field: Field, part: Schema) -> list[tuple[str, Schema]]:
    """Add one field; gives the types that it brings with it."""
    if part.type == "array" and part.items is not None:
        kind, definition = _kind(part.items)
        _add(message, field, kind, _REPEATED, definition)
        return [(definition, part.items)] if definition else []
    if part.additional is not None and not part.definition:
        kind, definition = _kind(part.additional)
        entry = message.nested_type.add(name=f"F{field.number}Entry")
        entry.options.map_entry = True
        entry.field.add(name="key", number=1, type=_STRING, label=_OPTIONAL)
        value = entry.field.add(
            name="value",
            number=2,
            type=kind,
            label=_OPTIONAL,
        )
        if definition:
            value.type_name = f".{_PACKAGE}.{_message_name(definition)}"
        added = message.field.add(
            name=_field_name(field), number=field.number, type=_MESSAGE, label=_REPEATED
        )
        added.type_name = f".{_PACKAGE}.{message.name}.{entry.name}"
        return [(definition, part.additional)] if definition else []
    kind, definition = _kind(part)
    _add(message, field, kind, _OPTIONAL, definition)
    return [(definition, part)] if definition else []


def _kind(part: Schema) -> tuple[int, str]:
    """The protobuf type of a schema, and which message it is."""
    if part.definition:
        return _MESSAGE, part.definition
    if part.format == "byte":
        return _BYTES, ""
    if part.type == "integer":
        return _INTEGERS.get(part.format, _INT64), ""
    return _SCALARS[part.type], ""


# -- values ---------------------------------------------------------------------------------------


@cache
def _as_json(definition: str) -> _ToJson:
    """What makes JSON of a type's messages."""
    if definition in _SPECIAL:
        return _SPECIAL_TO_JSON[definition]
    parts: list[tuple[str, str, Callable[[Message, str], Any]]] | None = None

    def convert(message: Any) -> Object:
        nonlocal parts
        if parts is None:
            parts = _parts(definition, schema.named(definition))
        found: Object = {}
        for name, attribute, read in parts:
            value = read(message, attribute)
            if value is None:
                continue
            if name:
                found[name] = value
            else:
                found.update(value)
        return found

    return convert


def _parts(definition: str, whole: Schema) -> list[tuple[str, str, Callable[[Message, str], Any]]]:
    """For each field its name in JSON (none when inlined), its attribute, and its reader."""
    found: list[tuple[str, str, Callable[[Message, str], Any]]] = []
    for field in fields.sent(definition):
        attribute = _field_name(field)
        if field.inlined:
            found.append(("", attribute, _inlined(_parts(field.name, whole))))
        elif (part := whole.properties.get(field.name)) is not None:
            keeps_zero = field.pointer or field.name in whole.required
            found.append((field.name, attribute, _reader(part, keeps_zero)))
    return found


def _inlined(
    parts: list[tuple[str, str, Callable[[Message, str], Any]]],
) -> Callable[[Message, str], Any]:
    def read(message: Message, attribute: str) -> Any:
        if not message.HasField(attribute):
            return None
        inner, found = getattr(message, attribute), {}
        for name, inner_attribute, read_inner in parts:
            value = read_inner(inner, inner_attribute)
            if value is None:
                continue
            if name:
                found[name] = value
            else:
                found.update(value)
        return found

    return read


def _reader(part: Schema, keeps_zero: bool) -> Callable[[Message, str], Any]:
    if part.type == "array" and part.items is not None:
        item = _value(part.items)
        return lambda message, name: [item(v) for v in getattr(message, name)] or None
    if part.additional is not None and not part.definition:
        value = _value(part.additional)
        return lambda message, name: (
            {key: value(held) for key, held in sorted(getattr(message, name).items())} or None
        )
    convert = _value(part)
    plain = not part.definition

    def read(message: Message, name: str) -> Any:
        if not message.HasField(name):
            return None
        held = convert(getattr(message, name))
        return held if held or keeps_zero or not plain else None

    return read


def _value(part: Schema) -> _ToJson:
    if part.definition:
        return _as_json(part.definition)
    if part.format == "byte":
        return lambda value: base64.b64encode(value).decode()
    return lambda value: value


def _moment(form: str) -> _ToJson:
    def convert(message: Any) -> str | None:
        # A time that is not set is sent as an empty message.
        if not message.HasField("seconds"):
            return None
        at = datetime.fromtimestamp(message.seconds, UTC)
        return at.replace(microsecond=message.nanos // 1000).strftime(form)

    return convert


def _int_or_string(message: Any) -> int | str:
    return str(message.strVal) if message.type == 1 else int(message.intVal)


def _raw(message: Any, name: str = "raw") -> Any:
    held = getattr(message, name)
    return json.loads(held) if held else None


_SPECIAL_TO_JSON: dict[str, _ToJson] = {
    schema.QUANTITY: lambda message: message.string or "0",
    schema.TIME: _moment("%Y-%m-%dT%H:%M:%SZ"),
    schema.MICRO_TIME: _moment("%Y-%m-%dT%H:%M:%S.%fZ"),
    schema.INT_OR_STRING: _int_or_string,
    schema.RAW_EXTENSION: _raw,
    schema.FIELDS: lambda message: _raw(message, "Raw"),
    schema.JSON: _raw,
}
