"""The rules in CEL of a custom resource's schema (``x-kubernetes-validations``).

A definition whose rules do not compile is refused, and an object that does not keep them. A rule
that calls a function which :mod:`mlk8s.sim.cel` does not have (``format``, ``authorizer``) is
passed over, which a warning in the log says once. The rules are those of
``apiextensions-apiserver``, ``pkg/apiserver/schema/cel`` and ``k8s.io/apiserver/pkg/cel``.
"""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

from mlk8s.sim import cel
from mlk8s.sim.schema import Schema
from mlk8s.sim.status import FieldError, Object, duplicate, forbidden, invalid, required
from mlk8s.sim.validation import gotypes

log = logging.getLogger(__name__)

_RULES = "x-kubernetes-validations"
_OLD = re.compile(r"\boldSelf\b")
_RESERVED = re.compile(
    "as|break|const|continue|else|false|for|function|if|import|in|let|loop|namespace|null|package|"
    "return|true|var|void|while"
)
_NAME = re.compile(r"[a-zA-Z_./-][a-zA-Z0-9_./-]*")
_ESCAPES = (("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__"))
_SCALARS = {
    "boolean": cel.BOOL,
    "integer": cel.INT,
    "number": cel.DOUBLE,
    "string": cel.STRING,
    "date": cel.TIMESTAMP,
    "date-time": cel.TIMESTAMP,
    "duration": cel.DURATION,
    "byte": cel.BYTES,
}
_METADATA = cel.Type("object", fields={"name": cel.STRING, "generateName": cel.STRING})


def rules_of(schema: Schema) -> list[Object]:
    """The rules at one place of a schema."""
    return list(schema.node.get(_RULES) or ())


def check_definition(schema: Schema, path: str, root: bool = True) -> Iterator[FieldError]:
    """What is wrong with the rules of a schema and of all below it.

    Args:
        schema: valid otherwise.
        path: of the schema in the definition.
        root: whether it is that of a whole object.
    """
    rules = rules_of(schema)
    kind = declared(schema, root) if rules else cel.DYN
    for index, rule in enumerate(rules):
        where = f"{path}.{_RULES}[{index}]"
        if not rule.get("rule", "").strip():
            yield required(f"{where}.rule", "rule is not specified")
            continue
        if detail := _mistake(rule, "rule", kind, cel.BOOL):
            yield gotypes.invalid(f"{where}.rule", _shown(rule), detail)
        if rule.get("messageExpression") and (
            detail := _mistake(rule, "messageExpression", kind, cel.STRING)
        ):
            yield gotypes.invalid(f"{where}.messageExpression", _shown(rule), detail)
    for name, part in schema.properties.items():
        yield from check_definition(part, f"{path}.properties[{name}]", False)
    if schema.items is not None:
        yield from check_definition(schema.items, f"{path}.items", False)
    if schema.additional is not None:
        yield from check_definition(schema.additional, f"{path}.additionalProperties", False)


def _mistake(rule: Object, part: str, kind: cel.Type, wanted: cel.Type) -> str:
    try:
        found = cel.compile(rule[part], _variables(rule, kind)).type
    except cel.Undeclared as error:
        _pass_over(rule[part], str(error))
        return ""
    except cel.CelError as error:
        return f"{'' if part == 'rule' else 'messageExpression '}{error}"
    if found in (wanted, cel.DYN):
        return ""
    if part == "rule":
        return "cel expression must evaluate to a bool"
    return "messageExpression must evaluate to a string"


def _shown(rule: Object) -> Object:
    """A rule as Go's ``apiextensions.ValidationRule`` is printed."""
    texts = ("rule", "message", "messageExpression", "reason", "fieldPath", "optionalOldSelf")
    empty: Object = {"reason": None, "optionalOldSelf": None}
    return {name[0].upper() + name[1:]: rule.get(name, empty.get(name, "")) for name in texts}


def _variables(rule: Object, kind: cel.Type) -> dict[str, cel.Type]:
    old = cel.optional_of(kind) if rule.get("optionalOldSelf") else kind
    return {"self": kind, "oldSelf": old}


def declared(schema: Schema, root: bool = False) -> cel.Type:
    """The type in CEL of what a schema describes; ``root`` for a whole object's."""
    if schema.is_int_or_string or schema.nullable:
        return cel.DYN
    if schema.definition:
        return _METADATA
    if schema.type == "array":
        return cel.list_of(declared(schema.items) if schema.items is not None else cel.DYN)
    if schema.type != "object":
        return _SCALARS.get(schema.format) or _SCALARS.get(schema.type) or cel.DYN
    if schema.additional is not None:
        return cel.map_of(cel.STRING, declared(schema.additional))
    fields = {
        key: declared(part) for name, part in schema.properties.items() if (key := escaped(name))
    }
    if root or schema.embedded:
        fields |= {"kind": cel.STRING, "apiVersion": cel.STRING, "metadata": _METADATA}
    return cel.Type("object", fields=fields)


def escaped(name: str) -> str:
    """A property's name in a rule, such as ``max__dash__age``; empty when it cannot be used."""
    if _RESERVED.fullmatch(name):
        return f"__{name}__"
    if not _NAME.fullmatch(name):
        return ""
    for sign, text in _ESCAPES:
        name = name.replace(sign, text)
    return name


def check_rules(
    schema: Schema, obj: Any, old: Any, path: str = "", root: bool = True
) -> Iterator[FieldError]:
    """The rules that do not hold.

    Args:
        schema: of ``obj``.
        obj: an object that is valid otherwise.
        old: the object before the change; ``None`` for a new one.
        path: of ``obj`` in the whole.
        root: whether ``obj`` is the whole.
    """
    if schema.definition or obj is None:
        return
    for rule in _compiled(schema, root):
        yield from _check(rule, schema, obj, old, path, root)
    if isinstance(obj, dict):
        for name, item in obj.items():
            if (part := schema.property(name)) is not None:
                before = old.get(name) if isinstance(old, dict) else None
                where = f"{path}.{name}" if path else name
                if name not in schema.properties:
                    where = f"{path}[{name}]"
                yield from check_rules(part, item, before, where, False)
    elif isinstance(obj, list) and schema.items is not None:
        before_by_key = _by_key(schema, old)
        for index, item in enumerate(obj):
            before = before_by_key.get(_key(schema, item))
            yield from check_rules(schema.items, item, before, f"{path}[{index}]", False)


def _by_key(schema: Schema, items: Any) -> dict[Any, Any]:
    """Items of the old list that can be told apart; those of an atomic list cannot."""
    if not isinstance(items, list) or schema.list_type != "map":
        return {}
    return {_key(schema, item): item for item in items}


def _key(schema: Schema, item: Any) -> Any:
    if schema.list_type != "map" or not isinstance(item, dict):
        return None
    return tuple(str(item.get(name)) for name in schema.map_keys)


@dataclass(frozen=True)
class _Rule:
    """A rule and what it has been compiled to; ``compares`` if it looks at the old object."""

    raw: Object
    program: cel.Program
    message: cel.Program | None
    compares: bool


# By schema, and whether it is a whole object's: a rule is compiled once, not for each object.
_COMPILED: WeakKeyDictionary[Schema, dict[bool, list[_Rule]]] = WeakKeyDictionary()


def _compiled(schema: Schema, root: bool) -> list[_Rule]:
    by_root = _COMPILED.setdefault(schema, {})
    if root not in by_root:
        kind = declared(schema, root) if rules_of(schema) else cel.DYN
        by_root[root] = [rule for raw in rules_of(schema) if (rule := _compile(raw, kind))]
    return by_root[root]


def _compile(raw: Object, kind: cel.Type) -> _Rule | None:
    source, types = raw.get("rule", ""), _variables(raw, kind)
    if (program := _program(source, types)) is None:
        return None
    message = _program(raw["messageExpression"], types) if raw.get("messageExpression") else None
    return _Rule(raw, program, message, bool(_OLD.search(source)))


def _program(source: str, types: dict[str, cel.Type]) -> cel.Program | None:
    try:
        return cel.compile(source, types)
    except cel.CelError as error:
        # It calls what is not modeled, or was stored past the API.
        _pass_over(source, str(error))
        return None


def _check(
    rule: _Rule, schema: Schema, obj: Any, old: Any, path: str, root: bool
) -> Iterator[FieldError]:
    raw, optional = rule.raw, bool(rule.raw.get("optionalOldSelf"))
    if rule.compares and old is None and not optional:
        return
    kind = "object" if root else schema.type or "object"
    shown = (raw.get("message") or raw["rule"]).strip()
    names = {"self": _value(obj, schema)}
    if rule.compares:
        before = None if old is None else _value(old, schema)
        names["oldSelf"] = cel.Optional(old is not None, before) if optional else before
    try:
        if rule.program.evaluate(names):
            return
    except cel.CelError as error:
        yield invalid(path or "<nil>", kind, f"{error} evaluating rule: {shown}")
        return
    if not rule.compares and old is not None and old == obj:
        return
    detail = _message(rule, names) or raw.get("message", "").strip() or f"failed rule: {shown}"
    where = path + raw.get("fieldPath", "") if path else raw.get("fieldPath", "").lstrip(".")
    match raw.get("reason"):
        case "FieldValueForbidden":
            yield forbidden(where, detail)
        case "FieldValueRequired":
            yield required(where, detail)
        case "FieldValueDuplicate":
            yield duplicate(where, kind)
        case _:
            yield invalid(where or "<nil>", kind, detail)


def _message(rule: _Rule, names: dict[str, Any]) -> str:
    if rule.message is None:
        return ""
    try:
        said = rule.message.evaluate(names)
    except cel.CelError as error:
        _pass_over(rule.message.expression, str(error))
        return ""
    text = said.strip() if isinstance(said, str) else ""
    return "" if "\n" in text else text


@lru_cache(maxsize=1024)
def _pass_over(source: str, why: str) -> None:
    log.warning("a rule in CEL of a custom resource is not checked: %s (%s)", source, why)


def _value(value: Any, schema: Schema | None) -> Any:
    """A value as a rule sees it.

    Properties have their escaped names, a ``number`` is a double even when it is written without
    a point, and text of a format such as ``date-time`` is what it stands for.
    """
    if schema is None:
        return value
    if isinstance(value, dict):
        named = schema.properties
        return {
            (escaped(name) if name in named else name): _value(item, schema.property(name))
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [_value(item, schema.items) for item in value]
    if schema.type == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(value, str):
        match schema.format:
            case "date":
                return cel.timestamp(f"{value}T00:00:00Z")
            case "date-time":
                return cel.timestamp(value)
            case "duration":
                return cel.duration(value)
            case "byte":
                return base64.b64decode(value)
    return value
