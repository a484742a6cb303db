"""Objects seen through their schema: which fields they have, differ in, gain and lose.

This is the arithmetic behind server-side apply, as ``sigs.k8s.io/structured-merge-diff/typed``
does it: lists of type map and set item by item, atomic ones whole, maps key by key. Who owns what
is decided in :mod:`mlk8s.sim.apply`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from mlk8s.sim.fieldset import Filter, Path, Paths, encode, filtered, shown
from mlk8s.sim.gotext import printed
from mlk8s.sim.schema import Schema

_CORE = "io.k8s.api.core.v1."
# Keys of list items that count as present when they are not: the published schemas leave out the
# defaults of built-in types.
_KEY_DEFAULTS = {
    (f"{_CORE}ContainerPort", "protocol"): "TCP",
    (f"{_CORE}ServicePort", "protocol"): "TCP",
}
_SCALAR, _MAP, _LIST, _ATOMIC = "scalar", "map", "list", "atomic"


class _Missing:
    """Marks what is not there, as opposed to an explicit null."""


_MISSING = _Missing()


class TypeFault(Exception):
    """An object does not fit its schema; the message is structured-merge-diff's."""


# -- how a schema sees a value -------------------------------------------------------------------


def _open(schema: Schema | None) -> bool:
    """Whether the value and not the schema says what stands here."""
    return schema is None or (
        schema.preserves_unknown
        and not schema.properties
        and schema.additional is None
        and not schema.is_int_or_string
    )


def _shape(schema: Schema | None, value: Any) -> str:
    if schema is None or _open(schema):
        if isinstance(value, dict):
            return _MAP
        return _ATOMIC if isinstance(value, list) else _SCALAR
    if schema.is_quantity or schema.is_int_or_string:
        return _SCALAR
    if schema.type == "object" or schema.properties:
        return _ATOMIC if schema.map_type == "atomic" else _MAP
    if schema.type == "array":
        return _LIST if schema.list_type in ("set", "map") else _ATOMIC
    return _SCALAR


def _member(schema: Schema | None, name: str) -> Schema | None:
    return None if schema is None else schema.property(name)


def _element(schema: Schema, item: Any) -> str:
    """The path element of a list's item.

    Raises:
        TypeFault: it cannot be told from others.
    """
    if schema.list_type == "set":
        if isinstance(item, dict):
            raise TypeFault("associative list without keys has an element that's a map type")
        if isinstance(item, list):
            raise TypeFault("not supported: associative list with lists as elements")
        if item is None:
            raise TypeFault("associative list without keys has an element that's an explicit null")
        return f"v:{orjson.dumps(item).decode()}"
    if item is None:
        raise TypeFault("associative list with keys may not have a null element")
    if not isinstance(item, dict):
        raise TypeFault("associative list with keys may not have non-map elements")
    keys = {}
    for name in sorted(schema.map_keys):
        if name in item:
            keys[name] = item[name]
        elif (default := _key_default(schema.items, name)) is not None:
            keys[name] = default
    if not keys:
        listed = " ".join(json.dumps(name) for name in schema.map_keys)
        raise TypeFault(
            f"associative list with keys has an element that omits all key fields [{listed}] "
            "(and doesn't have default values for any key fields)"
        )
    return f"k:{orjson.dumps(keys).decode()}"


def _key_default(items: Schema | None, name: str) -> Any:
    if items is None:
        return None
    known = _KEY_DEFAULTS.get((items.definition, name))
    if known is not None:
        return known
    below = items.property(name)
    return None if below is None else below.default


def _by_element(schema: Schema, items: list[Any] | None) -> dict[str, list[Any]]:
    """The items of a list by their path element; more than one where it repeats itself."""
    found: dict[str, list[Any]] = {}
    for item in items or ():
        found.setdefault(_element(schema, item), []).append(item)
    return found


def _same(left: Any, right: Any) -> bool:
    return bool(left == right) and isinstance(left, bool) == isinstance(right, bool)


def _dict(value: Any) -> dict[str, Any] | None:
    return value if isinstance(value, dict) else None


def _list(value: Any) -> list[Any] | None:
    return value if isinstance(value, list) else None


# -- whether an object fits ----------------------------------------------------------------------


def check(value: Any, schema: Schema) -> None:
    """Make sure that an applied object fits its schema; items of a list may not repeat a key.

    Raises:
        TypeFault: it does not; all reasons in one message.
    """
    faults = list(_faults(value, schema, ""))
    if faults:
        listed = "\n".join(["errors:", *(f"  {fault}" for fault in faults)])
        raise TypeFault(faults[0] if len(faults) == 1 else listed)


def _faults(value: Any, schema: Schema | None, at: str) -> Iterator[str]:
    if schema is None or _open(schema) or value is None:
        return
    wrong = ""
    if schema.is_quantity or schema.is_int_or_string:
        if isinstance(value, (dict, list)):
            wrong = f"expected any scalar, got {_printed(value)}"
    elif schema.type == "object" or schema.properties:
        if isinstance(value, dict):
            yield from _faults_in_map(value, schema, at)
        else:
            wrong = f"expected map, got {_printed(value)}"
    elif schema.type == "array":
        if isinstance(value, list):
            yield from _faults_in_list(value, schema, at)
        else:
            wrong = f"expected list, got {_printed(value)}"
    elif schema.type in ("integer", "number"):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            wrong = f"expected numeric (int or float), got {_go_type(value)}"
    elif schema.type == "boolean":
        if not isinstance(value, bool):
            wrong = f"expected boolean, got {_printed(value)}"
    elif schema.format in ("", "byte") and not isinstance(value, str):
        shown_value = printed(value) if isinstance(value, dict) else json.dumps(value)
        wrong = f"expected string, got &value.valueUnstructured{{Value:{shown_value}}}"
    if wrong:
        yield f"{at}: {wrong}" if at else wrong


def _faults_in_map(value: dict[str, Any], schema: Schema, at: str) -> Iterator[str]:
    for name, below in value.items():
        known = schema.property(name)
        if known is not None:
            yield from _faults(below, known, f"{at}.{name}")
        elif not schema.preserves_unknown:
            yield f"{at}.{name}: field not declared in schema"
            return


def _faults_in_list(value: list[Any], schema: Schema, at: str) -> Iterator[str]:
    seen: set[str] = set()
    for index, item in enumerate(value):
        where = f"{at}[{index}]"
        if schema.list_type != "atomic":
            try:
                element = _element(schema, item)
            except TypeFault as unfit:
                yield f"{at}: element {index}: {unfit}"
                return
            where = at + shown((element,))
            if element in seen:
                yield f"{at}: duplicate entries for key {shown((element,))}"
            seen.add(element)
        yield from _faults(item, schema.items, where)


def _printed(value: Any) -> str:
    """A value as structured-merge-diff prints it: by the pointer that holds it."""
    return f"&{{{printed(value)}}}"


def _go_type(value: Any) -> str:
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list):
        return "[]interface {}"
    return "bool" if isinstance(value, bool) else "string"


# -- the fields of an object ---------------------------------------------------------------------


def of(value: Any, schema: Schema) -> Paths:
    """Every leaf and every list item that an object mentions."""
    found: Paths = set()

    def walk(value: Any, schema: Schema | None, path: Path) -> None:
        shape = _shape(schema, value)
        if shape in (_SCALAR, _ATOMIC):
            found.add(path)
        elif shape == _MAP:
            for name, below in (_dict(value) or {}).items():
                deeper = (*path, f"f:{name}")
                walk(below, _member(schema, name), deeper)
                declared = schema is not None and name in schema.properties
                if below is None or below == {} or not declared:
                    found.add(deeper)
        else:
            assert schema is not None
            for element, items in _by_element(schema, _list(value)).items():
                deeper = (*path, element)
                if len(items) == 1:
                    walk(items[0], schema.items, deeper)
                found.add(deeper)

    walk(value, schema, ())
    found.discard(())
    return found


def with_named_parents(paths: Paths, schema: Schema) -> Paths:
    """A set, and the declared fields under which its members stand."""
    found = set(paths)
    schemas: dict[Path, Schema | None] = {(): schema}
    for path in paths:
        for depth in range(1, len(path)):
            parent = path[:depth]
            if parent in schemas:
                continue
            above, element = schemas[parent[:-1]], parent[-1]
            if element.startswith("f:"):
                name = element[2:]
                if above is not None and name in above.properties:
                    found.add(parent)
                schemas[parent] = _member(above, name)
            else:
                schemas[parent] = None if above is None else above.items
    return found


@dataclass
class Comparison:
    """What differs between two objects."""

    removed: Paths = field(default_factory=set)
    modified: Paths = field(default_factory=set)
    added: Paths = field(default_factory=set)

    def keep(self, kept: Filter | None) -> None:
        """Forget what a filter does not keep."""
        self.removed = filtered(self.removed, kept)
        self.modified = filtered(self.modified, kept)
        self.added = filtered(self.added, kept)


def compare(old: Any, new: Any, schema: Schema) -> Comparison:
    """Which fields were removed, modified and added between two objects.

    Raises:
        TypeFault: items of a list cannot be told apart.
    """
    found = Comparison()
    _compare(old, new, schema, (), found)
    return found


def _compare(old: Any, new: Any, schema: Schema | None, path: Path, found: Comparison) -> None:
    leaf = False
    shapes = {_shape(schema, value) for value in (old, new) if value is not _MISSING}
    if len(shapes) > 1 and (old is None or new is None):
        # A null takes the shape of the other side.
        shapes.discard(_SCALAR)
    for shape in shapes:
        if shape == _MAP and (_dict(old) or _dict(new)):
            _compare_maps(_dict(old) or {}, _dict(new) or {}, schema, path, found)
        elif shape == _LIST and (_list(old) or _list(new)):
            assert schema is not None
            _compare_lists(_list(old), _list(new), schema, path, found)
        else:
            leaf = True
    if old is _MISSING:
        found.added.add(path)
    elif new is _MISSING:
        found.removed.add(path)
    elif leaf and not _same(old, new):
        found.modified.add(path)


def _compare_maps(
    old: dict[str, Any],
    new: dict[str, Any],
    schema: Schema | None,
    path: Path,
    found: Comparison,
) -> None:
    for name in old.keys() | new.keys():
        left, right = old.get(name, _MISSING), new.get(name, _MISSING)
        _compare(left, right, _member(schema, name), (*path, f"f:{name}"), found)


def _compare_lists(
    old: list[Any] | None, new: list[Any] | None, schema: Schema, path: Path, found: Comparison
) -> None:
    lefts, rights = _by_element(schema, old), _by_element(schema, new)
    for element in lefts.keys() | rights.keys():
        left, right = lefts.get(element, []), rights.get(element, [])
        deeper = (*path, element)
        if len(left) <= 1 and len(right) <= 1:
            one = left[0] if left else _MISSING
            other = right[0] if right else _MISSING
            _compare(one, other, schema.items, deeper, found)
        elif len(left) > 1 and len(right) > 1:
            # Items that repeat each other are owned as one.
            if left != right:
                found.modified.add(deeper)
        elif len(left) > 1:
            if right:
                _compare(_MISSING, right[0], schema.items, deeper, found)
            found.removed.add(deeper)
        else:
            if left:
                _compare(left[0], _MISSING, schema.items, deeper, found)
            found.added.add(deeper)


# -- merging and pruning -------------------------------------------------------------------------


def merge(live: Any, applied: Any, schema: Schema) -> Any:
    """The live object with everything that an applied one says; ``applied`` has been checked.

    Raises:
        TypeFault: items of a list cannot be told apart.
    """
    merged = _merge(live, applied, schema)
    return {} if merged is _MISSING else merged


def _merge(live: Any, applied: Any, schema: Schema | None) -> Any:
    rule = live if applied is _MISSING else applied
    shape = _shape(schema, live if applied is _MISSING or applied is None else applied)
    if shape == _MAP:
        left, right = _dict(live) or {}, _dict(applied) or {}
        if not left and not right:
            return rule
        out = {}
        for name in [*left, *(name for name in right if name not in left)]:
            below = _merge(
                left.get(name, _MISSING), right.get(name, _MISSING), _member(schema, name)
            )
            if below is not _MISSING:
                out[name] = below
        return out or _MISSING
    if shape == _LIST:
        lefts, rights = _list(live) or [], _list(applied) or []
        if not lefts and not rights:
            return rule
        assert schema is not None
        return _merge_lists(lefts, rights, schema) or _MISSING
    return rule


def _merge_lists(live: list[Any], applied: list[Any], schema: Schema) -> list[Any]:
    """Both lists' items: in the order of the applied one, others where they stood before."""
    left = [(_element(schema, item), item) for item in live]
    right = [(_element(schema, item), item) for item in applied]
    by_left: dict[str, Any] = {}
    for element, item in left:
        # Into items that repeat each other nothing is merged.
        by_left[element] = None if element in by_left else item
    by_right = dict(right)
    shared = iter([element for element, _ in right if element in by_left])
    awaited = next(shared, None)
    out: list[Any] = []
    done: set[str] = set()

    def take(item: Any, other: Any) -> None:
        merged = _merge(item, other, schema.items)
        if merged is not _MISSING:
            out.append(merged)

    at, to = 0, 0
    while at < len(left) or to < len(right):
        if at < len(left) and to < len(right):
            element = left[at][0]
            if element == right[to][0]:
                done.add(element)
                take(by_left[element], by_right[element])
                at, to = at + 1, to + 1
                awaited = next(shared, None)
                continue
            if element in by_right and awaited is not None and awaited != element:
                # A shared item, but not the one whose turn it is.
                at += 1
                continue
        if at < len(left):
            element, item = left[at]
            if element not in by_right:
                take(item, _MISSING)
                at += 1
                continue
            if element in done:
                at += 1
        if to < len(right):
            element = right[to][0]
            done.add(element)
            take(by_left.get(element, _MISSING), by_right[element])
            to += 1
            if awaited == element:
                awaited = next(shared, None)
    return out


def remove(value: Any, paths: Paths, schema: Schema) -> Any:
    """An object without some fields and list items; a container left empty becomes null."""
    return _remove(value, encode(paths), schema)


def _remove(value: Any, doomed: Mapping[str, Any], schema: Schema | None) -> Any:
    shape = _shape(schema, value)
    if shape == _MAP:
        kept = {}
        for name, below in (_dict(value) or {}).items():
            node = doomed.get(f"f:{name}")
            if node is None:
                kept[name] = below
            elif node and "." not in node:
                kept[name] = _remove(below, node, _member(schema, name))
        return kept or None
    if shape == _LIST:
        assert schema is not None
        items = []
        for item in _list(value) or ():
            node = doomed.get(_element(schema, item))
            if node is None:
                items.append(item)
            elif node and "." not in node:
                items.append(_remove(item, node, schema.items))
        return items or None
    return value if shape == _SCALAR else None


def without_new_nulls(value: Any, before: Any) -> Any:
    """An object without the nulls that :func:`remove` left where ``before`` had none."""
    if isinstance(value, dict) and isinstance(before, dict):
        return {
            name: without_new_nulls(below, before.get(name))
            for name, below in value.items()
            if below is not None or before.get(name) is None
        }
    return value
