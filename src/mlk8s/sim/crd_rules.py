"""The rules in CEL of a custom resource's schema (``x-kubernetes-validations``).

They are evaluated by ``celpy``, which knows CEL's standard library and not what Kubernetes adds to
it (quantities, URLs, IP addresses, optional fields …). A rule that cannot be evaluated for that
reason is passed over, which a warning in the log says once.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import celpy
from celpy.adapter import json_to_cel
from celpy.celparser import CELParseError
from celpy.evaluation import CELEvalError, CELUnsupportedError

from mlk8s.sim.schema import Schema
from mlk8s.sim.status import FieldError, Object, duplicate, forbidden, invalid, required

log = logging.getLogger(__name__)

_OLD = re.compile(r"\boldSelf\b")


def check_rules(schema: Schema, obj: Any, old: Any, path: str = "") -> Iterator[FieldError]:
    """The rules that do not hold.

    Args:
        schema: of ``obj``.
        obj: an object that is valid otherwise.
        old: the object before the change; ``None`` for a new one.
        path: of ``obj`` in the whole.
    """
    if schema.definition or obj is None:
        return
    for rule in schema.node.get("x-kubernetes-validations") or ():
        yield from _check(rule, schema, obj, old, path)
    if isinstance(obj, dict):
        for name, item in obj.items():
            if (part := schema.property(name)) is not None:
                before = old.get(name) if isinstance(old, dict) else None
                where = f"{path}.{name}" if path else name
                if name not in schema.properties:
                    where = f"{path}[{name}]"
                yield from check_rules(part, item, before, where)
    elif isinstance(obj, list) and schema.items is not None:
        before_by_key = _by_key(schema, old)
        for index, item in enumerate(obj):
            before = before_by_key.get(_key(schema, item))
            yield from check_rules(schema.items, item, before, f"{path}[{index}]")


def _by_key(schema: Schema, items: Any) -> dict[Any, Any]:
    """Items of the old list that can be told apart; those of an atomic list cannot."""
    if not isinstance(items, list) or schema.list_type != "map":
        return {}
    return {_key(schema, item): item for item in items}


def _key(schema: Schema, item: Any) -> Any:
    if schema.list_type != "map" or not isinstance(item, dict):
        return None
    return tuple(str(item.get(name)) for name in schema.map_keys)


def _check(rule: Object, schema: Schema, obj: Any, old: Any, path: str) -> Iterator[FieldError]:
    source = rule.get("rule", "")
    compares = bool(_OLD.search(source))
    if compares and old is None:
        return
    shown = (rule.get("message") or source).strip()
    kind = "object" if not path else schema.type or "object"
    names = {"self": _typed(obj, schema)}
    if compares:
        names["oldSelf"] = _typed(old, schema)
    try:
        holds = _evaluate(source, names)
    except (CELParseError, CELUnsupportedError) as error:
        _pass_over(source, str(error.args[0]).strip())
        return
    except CELEvalError as error:
        if (said := _evaluation_error(error)) is None:
            _pass_over(source, str(error.args[0])[:200])
        else:
            yield invalid(path, kind, f"{said} evaluating rule: {shown}")
        return
    if holds:
        return
    if not compares and old is not None and old == obj:
        return
    detail = _message(rule, names) or rule.get("message", "").strip() or f"failed rule: {shown}"
    where = path + rule.get("fieldPath", "") if path else rule.get("fieldPath", "").lstrip(".")
    match rule.get("reason"):
        case "FieldValueForbidden":
            yield forbidden(where, detail)
        case "FieldValueRequired":
            yield required(where, detail)
        case "FieldValueDuplicate":
            yield duplicate(where, kind)
        case _:
            yield invalid(where or "<nil>", kind, detail)


def _message(rule: Object, names: dict[str, Any]) -> str:
    if not (source := rule.get("messageExpression")):
        return ""
    try:
        said = _evaluate(source, names)
    except (CELParseError, CELUnsupportedError, CELEvalError) as error:
        _pass_over(source, str(error.args[0])[:200])
        return ""
    text = str(said).strip() if isinstance(said, str) else ""
    return "" if "\n" in text else text


@lru_cache(maxsize=1024)
def _program(source: str) -> celpy.Runner:
    environment = celpy.Environment()
    return environment.program(environment.compile(source))


def _evaluate(source: str, names: dict[str, Any]) -> Any:
    return _program(source).evaluate(names)


def _evaluation_error(error: CELEvalError) -> str | None:
    """What went wrong in the rule itself, in CEL's words; ``None`` when celpy falls short."""
    if match := re.match(r"no such member in mapping: '(.*)'", str(error.args[0])):
        return f"no such key: {match.group(1)}"
    return "division by zero" if ZeroDivisionError in error.args else None


@lru_cache(maxsize=1024)
def _pass_over(source: str, why: str) -> None:
    log.warning(
        "a validation rule is not checked, as celpy cannot evaluate it: %s (%s)", source, why
    )


def _typed(value: Any, schema: Schema | None) -> Any:
    """A value as CEL sees it: a ``number`` is a double even when it is written without a point."""
    return json_to_cel(_with_doubles(value, schema))


def _with_doubles(value: Any, schema: Schema | None) -> Any:
    if schema is None:
        return value
    if isinstance(value, dict):
        return {name: _with_doubles(item, schema.property(name)) for name, item in value.items()}
    if isinstance(value, list):
        return [_with_doubles(item, schema.items) for item in value]
    if schema.type == "number" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value
