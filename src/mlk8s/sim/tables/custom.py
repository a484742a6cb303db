"""The tables of custom resources: the columns that their definition asks for."""

from __future__ import annotations

import json
import operator
import re
from functools import lru_cache
from typing import Any

from mlk8s.sim.status import Object
from mlk8s.sim.tables import columns, text

_AGE = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
_STEP = re.compile(
    r"""\.(?P<name>(?:\\.|[^.\[\]\\])+)
      | \['(?P<quoted>(?:\\.|[^'\\])*)'\]
      | \[(?P<index>-?\d+)\]
      | (?P<all>\[\*\]|\.\*)
      | \[\?\(@(?P<where>[^=!<>]+?)\s*(?P<op>==|!=|<=|>=|<|>)\s*(?P<value>.+?)\)\]""",
    re.VERBOSE,
)


def printed(definition: Object | None, version: str) -> list[Object]:
    """The columns that a CRD asks for in one version; the age when it asks for none."""
    for served in text.at(definition, "spec", "versions") or ():
        if served.get("name") == version and served.get("additionalPrinterColumns"):
            return list(served["additionalPrinterColumns"])
    return [{**_AGE, "description": columns.about("creationTimestamp")}]


def definitions(printed: list[Object]) -> list[Object]:
    """The column definitions for them."""
    found = [columns.name_column()]
    for wanted in printed:
        description = wanted.get("description") or (
            f"Custom resource definition column (in JSONPath format): {wanted['jsonPath']}"
        )
        found.append(
            columns.column(
                wanted["name"],
                wanted["type"],
                description,
                wanted.get("format", ""),
                int(wanted.get("priority") or 0),
            )
        )
    return found


def row(obj: Object, printed: list[Object], now: float) -> list[Any]:
    """The cells of a custom resource."""
    return [
        obj["metadata"]["name"],
        *(_cell(obj, wanted["jsonPath"], wanted["type"], now) for wanted in printed),
    ]


def _cell(obj: Object, path: str, kind: str, now: float) -> Any:
    found = find(obj, path)
    if not found:
        return None
    # Of several results the server shows the first.
    value = found[0]
    match kind:
        case "string":
            return _as_text(value)
        case "integer":
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            return int(value) if number else None
        case "number":
            number = isinstance(value, (int, float)) and not isinstance(value, bool)
            return float(value) if number else None
        case "boolean":
            return value if isinstance(value, bool) else None
        case "date":
            if not isinstance(value, str):
                return None
            try:
                return text.since(value, now)
            except ValueError:
                return "<invalid>"
    return None


def _as_text(value: Any) -> str | None:
    if value is None:
        return None
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


def find(obj: Any, path: str) -> list[Any]:
    """What a JSONPath of kubectl's dialect finds; nothing where it leads nowhere.

    Args:
        obj: where to look.
        path: such as ``.status.conditions[?(@.type=="Ready")].status``.
    """
    found = [obj]
    for kind, argument in _steps(path):
        found = [item for start in found for item in _step(start, kind, argument)]
    return found


@lru_cache(maxsize=512)
def _steps(path: str) -> tuple[tuple[str, Any], ...]:
    path = path.strip()
    if path.startswith("{") and path.endswith("}"):
        path = path[1:-1]
    if not path.startswith((".", "[")):
        path = f".{path}"
    steps: list[tuple[str, Any]] = []
    at = 0
    while at < len(path):
        match = _STEP.match(path, at)
        if match is None:
            # A path that cannot be read finds nothing.
            return (("name", None),)
        at = match.end()
        if match["name"] is not None and match["name"] != "*":
            steps.append(("name", re.sub(r"\\(.)", r"\1", match["name"])))
        elif match["quoted"] is not None:
            steps.append(("name", re.sub(r"\\(.)", r"\1", match["quoted"])))
        elif match["index"] is not None:
            steps.append(("index", int(match["index"])))
        elif match["where"] is not None:
            steps.append(("where", (match["where"], match["op"], _literal(match["value"]))))
        else:
            steps.append(("all", None))
    return tuple(steps)


def _literal(said: str) -> Any:
    said = said.strip()
    if said[:1] in ("'", '"') and said[-1:] == said[:1]:
        return said[1:-1]
    try:
        return json.loads(said)
    except ValueError:
        return said


def _step(start: Any, kind: str, argument: Any) -> list[Any]:
    if kind == "name":
        return [start[argument]] if isinstance(start, dict) and argument in start else []
    if kind == "all":
        if isinstance(start, dict):
            return list(start.values())
        return list(start) if isinstance(start, list) else []
    if not isinstance(start, list):
        return []
    if kind == "index":
        return [start[argument]] if -len(start) <= argument < len(start) else []
    where, sign, wanted = argument
    return [
        item for item in start if any(_holds(value, sign, wanted) for value in find(item, where))
    ]


def _holds(value: Any, sign: str, wanted: Any) -> bool:
    if sign == "==":
        return bool(value == wanted)
    if sign == "!=":
        return bool(value != wanted)
    if type(value) is not type(wanted):
        return False
    compare = {"<": operator.lt, ">": operator.gt, "<=": operator.le, ">=": operator.ge}
    return bool(compare[sign](value, wanted))
