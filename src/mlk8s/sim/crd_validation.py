"""Whether a custom object is what its OpenAPI schema asks for.

The checks and their wording are those of ``k8s.io/kube-openapi/pkg/validation`` as
``apiextensions-apiserver`` reports them.
"""

from __future__ import annotations

import base64
import binascii
import ipaddress
import json
import re
import uuid
from collections.abc import Callable, Iterator
from datetime import date, datetime
from typing import Any

from mlk8s.sim.schema import Schema
from mlk8s.sim.status import (
    TOO_LONG,
    TOO_MANY,
    UNSUPPORTED,
    FieldError,
    duplicate,
    invalid,
    required,
)


def check_schema(schema: Schema, obj: Any) -> Iterator[FieldError]:
    """Everything but the uniqueness of list items and the rules in CEL."""
    yield from _check(schema, obj, "")


def check_lists(schema: Schema, value: Any, path: str = "") -> Iterator[FieldError]:
    """Items that stand twice in a list of type ``set`` or ``map``."""
    if schema.definition:
        return
    if isinstance(value, list) and schema.items is not None:
        yield from _check_unique(schema, value, path)
        for index, item in enumerate(value):
            yield from check_lists(schema.items, item, f"{path}[{index}]")
    elif isinstance(value, dict):
        for name, item in value.items():
            if (part := schema.property(name)) is not None:
                yield from check_lists(part, item, _child(path, name))


def _check_unique(schema: Schema, items: list[Any], path: str) -> Iterator[FieldError]:
    if schema.list_type not in ("set", "map"):
        return
    seen = set()
    for index, item in enumerate(items):
        key = item
        if schema.list_type == "map":
            if not isinstance(item, dict):
                continue
            key = {name: item[name] for name in schema.map_keys if name in item}
        text = json.dumps(key, sort_keys=True)
        if text in seen:
            yield duplicate(f"{path}[{index}]", key)
        seen.add(text)


def _child(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def _check(schema: Schema, value: Any, path: str) -> Iterator[FieldError]:
    if schema.definition:
        return  # metadata, which has been read as every object's
    if value is None and schema.nullable:
        return
    yield from _check_type(schema, value, path)
    yield from _check_combined(schema, value, path)
    yield from _check_enum(schema, value, path)
    if isinstance(value, str):
        yield from _check_text(schema, value, path)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield from _check_number(schema, value, path)
    elif isinstance(value, list):
        yield from _check_list(schema, value, path)
    elif isinstance(value, dict):
        yield from _check_object(schema, value, path)


def _check_type(schema: Schema, value: Any, path: str) -> Iterator[FieldError]:
    wanted = [schema.type] if schema.type else []
    if schema.is_int_or_string:
        wanted = ["integer", "string"]
    found = _type_of(value)
    if not wanted or found in wanted or (found == "integer" and "number" in wanted):
        return
    if found == "number" and "integer" in wanted and float(value).is_integer():
        return
    listed = ",".join(wanted)
    yield invalid(path, found, f'{path} in body must be of type {listed}: "{found}"')


def _type_of(value: Any) -> str:
    if isinstance(value, bool):
        return "boolean"
    names = {dict: "object", list: "array", str: "string", int: "integer", float: "number"}
    return names.get(type(value), "null")


def _check_enum(schema: Schema, value: Any, path: str) -> Iterator[FieldError]:
    allowed = schema.enum
    if allowed and not any(_same(value, item) for item in allowed):
        listed = ", ".join(
            json.dumps(item if isinstance(item, str) else json.dumps(item), ensure_ascii=False)
            for item in allowed
        )
        yield FieldError(path, UNSUPPORTED, f"supported values: {listed}", value)


def _same(one: Any, other: Any) -> bool:
    # In Python, True == 1.
    return bool(one == other) and isinstance(one, bool) == isinstance(other, bool)


def _check_text(schema: Schema, value: str, path: str) -> Iterator[FieldError]:
    node = schema.node
    most, least = node.get("maxLength"), node.get("minLength")
    if most is not None and len(value) > most:
        unit = "byte" if most == 1 else "bytes"
        yield FieldError(path, TOO_LONG, f"may not be more than {most} {unit}")
    if least is not None and len(value) < least:
        detail = f"{path} in body should be at least {least} chars long"
        yield invalid(path, value, detail)
    if (pattern := node.get("pattern")) and not _matches(pattern, value):
        yield invalid(path, value, f"{path} in body should match '{pattern}'")
    if (test := _FORMATS.get(schema.format)) and not test(value):
        yield invalid(
            path, value, f"{path} in body must be of type {schema.format}: {json.dumps(value)}"
        )


def _matches(pattern: str, value: str) -> bool:
    # RE2 writes the end of the text as \z, and its $ does not match before a last newline.
    translated = pattern.replace(r"\z", r"\Z")
    translated = re.sub(r"(?<!\\)\$(?=$|\)|\|)", r"\\Z", translated)
    return re.search(translated, value) is not None


def _check_number(schema: Schema, value: float, path: str) -> Iterator[FieldError]:
    node = schema.node
    if (step := node.get("multipleOf")) and (value / step) % 1:
        yield invalid(path, value, f"{path} in body should be a multiple of {step}")
    if (most := node.get("maximum")) is not None:
        if node.get("exclusiveMaximum"):
            if value >= most:
                yield invalid(path, value, f"{path} in body should be less than {most}")
        elif value > most:
            yield invalid(path, value, f"{path} in body should be less than or equal to {most}")
    if (least := node.get("minimum")) is not None:
        if node.get("exclusiveMinimum"):
            if value <= least:
                yield invalid(path, value, f"{path} in body should be greater than {least}")
        elif value < least:
            detail = f"{path} in body should be greater than or equal to {least}"
            yield invalid(path, value, detail)


def _check_list(schema: Schema, value: list[Any], path: str) -> Iterator[FieldError]:
    node = schema.node
    if schema.items is not None:
        for index, item in enumerate(value):
            yield from _check(schema.items, item, f"{path}[{index}]")
    most, least = node.get("maxItems"), node.get("minItems")
    if most is not None and len(value) > most:
        yield _too_many(path, len(value), most)
    if least is not None and len(value) < least:
        yield invalid(path, len(value), f"{path} in body should have at least {least} items")
    if node.get("uniqueItems"):
        texts = [json.dumps(item, sort_keys=True) for item in value]
        if len(set(texts)) < len(texts):
            yield invalid(path, value, f"{path} in body shouldn't contain duplicates")


def _check_object(schema: Schema, value: dict[str, Any], path: str) -> Iterator[FieldError]:
    node = schema.node
    most, least = node.get("maxProperties"), node.get("minProperties")
    if most is not None and len(value) > most:
        yield _too_many(path, len(value), most)
    if least is not None and len(value) < least:
        detail = f"{path} in body should have at least {least} properties"
        yield invalid(path, len(value), detail)
    for name in node.get("required") or ():
        if name not in value:
            yield required(_child(path, name))
    closed = node.get("additionalProperties") is False
    for name, item in value.items():
        part = schema.property(name)
        if part is not None:
            yield from _check(part, item, _child(path, name))
        elif closed:
            yield invalid(
                _child(path, name), "", f"{_child(path, name)} in body is a forbidden property"
            )


def _too_many(path: str, found: int, most: int) -> FieldError:
    items = "item" if most == 1 else "items"
    return FieldError(path, TOO_MANY, f"{found}: must have at most {most} {items}")


def _check_combined(schema: Schema, value: Any, path: str) -> Iterator[FieldError]:
    """``anyOf``, ``oneOf``, ``allOf`` and ``not``; these errors carry no path of their own."""
    node = schema.node
    if node.get("anyOf"):
        results = _alternatives(node["anyOf"], value, path)
        if all(results):
            yield _whole(f'"{path}" must validate at least one schema (anyOf)')
            yield from min(results, key=len)
    if node.get("oneOf"):
        results = _alternatives(node["oneOf"], value, path)
        valid = sum(not errors for errors in results)
        text = f'"{path}" must validate one and only one schema (oneOf). '
        if valid == 0:
            yield _whole(f"{text}Found none valid")
            yield from min(results, key=len)
        elif valid > 1:
            yield _whole(f"{text}Found {valid} valid alternatives")
    if node.get("allOf"):
        results = _alternatives(node["allOf"], value, path)
        for errors in results:
            yield from errors
        if any(results):
            none = ". None validated" if all(results) else ""
            yield _whole(f'"{path}" must validate all the schemas (allOf){none}')
    if isinstance(node.get("not"), dict) and not list(_check(Schema(node["not"]), value, path)):
        yield _whole(f'"{path}" must not validate the schema (not)')


def _alternatives(nodes: list[Any], value: Any, path: str) -> list[list[FieldError]]:
    return [list(_check(Schema(node), value, path)) for node in nodes]


def _whole(detail: str) -> FieldError:
    return invalid("<nil>", "", detail)


# -- formats --------------------------------------------------------------------------------------


def _parses(parse: Callable[[str], Any]) -> Callable[[str], bool]:
    def test(value: str) -> bool:
        try:
            parse(value)
        except (ValueError, binascii.Error):
            return False
        return True

    return test


def _fits(pattern: str) -> Callable[[str], bool]:
    compiled = re.compile(pattern)
    return lambda value: compiled.fullmatch(value) is not None


def _date_time(value: str) -> datetime:
    if not re.match(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d", value):
        raise ValueError
    return datetime.fromisoformat(value)


_LABEL = r"[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?"

# The other formats that a schema may name are not checked, by the real server either.
_FORMATS: dict[str, Callable[[str], bool]] = {
    "byte": _parses(lambda value: base64.b64decode(value, validate=True)),
    "cidr": _parses(lambda value: ipaddress.ip_network(value, strict=False)),
    "date": _parses(date.fromisoformat),
    "date-time": _parses(_date_time),
    "datetime": _parses(_date_time),
    "duration": _fits(r"([+-]?(\d+(\.\d*)?|\.\d+)\s*(ns|us|µs|μs|ms|s|m|h|d|w|\w+))+"),
    "email": _fits(r"[^@\s]+@[^@\s]+"),
    "hostname": _fits(rf"{_LABEL}(\.{_LABEL})*\.?"),
    "ipv4": _parses(ipaddress.IPv4Address),
    "ipv6": _parses(ipaddress.IPv6Address),
    "mac": _fits(r"([0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}"),
    "uri": _fits(r"[a-zA-Z][a-zA-Z0-9+.-]*:.+|/.*"),
    "uuid": _parses(uuid.UUID),
}
