"""Sets of fields: the paths of ``managedFields``, their written form and their order.

A path is a tuple of elements as they are written in ``fieldsV1``: ``f:spec``,
``k:{"name":"main"}`` for an item of a list of type map, ``v:"x"`` for one of a set. A set of fields
is a plain set of paths. The rules are those of ``sigs.k8s.io/structured-merge-diff/fieldpath``.
Reading such sets off objects is in :mod:`mlk8s.sim.typed`, who owns what in
:mod:`mlk8s.sim.apply`.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import Any

Path = tuple[str, ...]
Paths = set[Path]
Filter = Callable[[Path], bool]


def decode(fields_v1: Mapping[str, Any]) -> Paths:
    """The set that a ``fieldsV1`` stands for."""
    found: Paths = set()

    def walk(node: Mapping[str, Any], path: Path) -> None:
        if path and (not node or "." in node):
            found.add(path)
        for element, below in node.items():
            if element != ".":
                walk(below, (*path, element))

    walk(fields_v1, ())
    return found


def encode(paths: Iterable[Path]) -> dict[str, Any]:
    """The ``fieldsV1`` of a set."""
    root: dict[str, Any] = {}
    for path in sorted(paths):
        node = root
        for element in path[:-1]:
            node = node.setdefault(element, {})
        # In this order a path comes before those below it.
        node[path[-1]] = {".": {}}
    return _without_lone_dots(root)


def _without_lone_dots(node: dict[str, Any]) -> dict[str, Any]:
    if len(node) == 1 and "." in node:
        return {}
    return {
        element: below if element == "." else _without_lone_dots(below)
        for element, below in node.items()
    }


def shown(path: Path) -> str:
    """A path as messages show it: ``.spec.containers[name="main"].image``."""
    parts = []
    for element in path:
        kind, text = element[:1], element[2:]
        if kind == "f":
            parts.append(f".{text}")
        elif kind == "k":
            keys = json.loads(text)
            listed = ",".join(f"{name}={_scalar(value)}" for name, value in keys.items())
            parts.append(f"[{listed}]")
        else:
            parts.append(f"[={_scalar(json.loads(text))}]")
    return "".join(parts)


def _scalar(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def ordered(paths: Iterable[Path]) -> list[Path]:
    """Paths in the order in which a conflict lists them: on each level the leaves first."""
    return sorted(paths, key=_order)


def _order(path: Path) -> list[tuple[int, Any]]:
    last = len(path) - 1
    return [(int(at < last), _element_order(element)) for at, element in enumerate(path)]


def _element_order(element: str) -> tuple[Any, ...]:
    kind, text = element[:1], element[2:]
    if kind == "f":
        return (0, text)
    value = json.loads(text)
    if kind == "k":
        return (1, tuple((name, *_value_order(value[name])) for name in sorted(value)))
    return (2, _value_order(value))


def _value_order(value: Any) -> tuple[int, Any]:
    if isinstance(value, bool):
        return (2, value)
    return (0, value) if isinstance(value, (int, float)) else (1, str(value))


def filtered(paths: Paths, kept: Filter | None) -> Paths:
    """The paths that a filter keeps; all of them without one."""
    return paths if kept is None else {path for path in paths if kept(path)}
