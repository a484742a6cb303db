"""The patches that change an object: JSON patch, JSON merge patch and strategic merge patch.

What each does to lists and nulls, and the words in which it is refused, follow the API server:
``k8s.io/apiserver/pkg/endpoints/handlers/patch.go`` for the answers,
``k8s.io/apimachinery/pkg/util/strategicpatch`` for the strategic kind, whose merge keys come from
the schema. Server-side apply is in :mod:`mlk8s.sim.apply`.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import Any

import jsonpatch
import jsonpointer
import orjson

from mlk8s.sim.gotext import printed
from mlk8s.sim.schema import Schema
from mlk8s.sim.status import Object, StatusError, bad_request, invalid, unprocessable

_MAX_OPERATIONS = 10_000
_DIRECTIVE = "$patch"
_RETAIN = "$retainKeys"
_DELETE_FROM = "$deleteFromPrimitiveList"
_ORDER = "$setElementOrder"


class _Replace(jsonpatch.ReplaceOperation):
    """Replaces a value; what an object lacks is added, as the server's library does.

    Source: ``replace`` and ``partialDoc.get`` in ``gopkg.in/evanphx/json-patch.v4``.
    """

    def apply(self, obj: Any) -> Any:
        """Change the object in place and give it."""
        holder, part = self.pointer.to_last(obj)
        if isinstance(holder, dict) and part is not None and "value" in self.operation:
            holder[part] = self.operation["value"]
            return obj
        return super().apply(obj)


class _JsonPatch(jsonpatch.JsonPatch):
    operations = MappingProxyType({**jsonpatch.JsonPatch.operations, "replace": _Replace})


def json_patch(obj: Object, ops: Any) -> Object:
    """Apply a JSON patch (RFC 6902).

    Args:
        obj: the object; changed in place.
        ops: the operations.

    Raises:
        StatusError: 400 when it is not a list of operations, 413 when there are too many, 422
            when one cannot be carried out or a test fails.
    """
    if not isinstance(ops, list):
        raise _undecodable(ops, "[]handlers.jsonPatchOp")
    for op in ops:
        if not isinstance(op, dict):
            raise _undecodable(op, "handlers.jsonPatchOp")
    if len(ops) > _MAX_OPERATIONS:
        raise StatusError(
            413,
            "RequestEntityTooLarge",
            "Request entity is too large: The allowed maximum operations in a JSON patch is "
            f"{_MAX_OPERATIONS}, got {len(ops)}",
        )
    try:
        patched: Object = _JsonPatch(ops).apply(obj, in_place=True)
    except (jsonpatch.JsonPatchException, jsonpointer.JsonPointerException, TypeError) as error:
        raise _rejected() from error
    return patched


def merge_patch(obj: Object, patch: Any) -> Object:
    """Apply a JSON merge patch (RFC 7386).

    Args:
        obj: the object; changed in place.
        patch: the patch.

    Raises:
        StatusError: 400 when it is not an object.
    """
    if not isinstance(patch, dict):
        raise _undecodable(patch, "map[string]interface {}")
    for key, value in patch.items():
        if value is None:
            obj.pop(key, None)
        elif isinstance(value, dict) and isinstance(obj.get(key), dict):
            merge_patch(obj[key], value)
        else:
            obj[key] = _without_nulls(value)
    return obj


def strategic_merge(obj: Object, patch: Any, schema: Schema) -> Object:
    """Apply a strategic merge patch.

    Args:
        obj: the object; changed in place.
        patch: the patch, directives included.
        schema: says how each list merges.

    Raises:
        StatusError: 400 when it is not an object or a directive is malformed, 422 for lists of
            lists, 500 when an item lacks its merge key, as the real server answers.
    """
    if not isinstance(patch, dict):
        raise _undecodable(patch, "map[string]interface {}")
    return _merge_map(obj, patch, schema)


def unfit(kind: str, patch: Any, result: Object, why: str) -> StatusError:
    """422: the patched object cannot be decoded.

    Args:
        kind: ``strategic``, where the message shows the patch, or another, where it shows the
            whole object.
        patch: the patch as it was sent.
        result: the object that it leads to.
        why: such as ``strict decoding error: unknown field "spec.foo"``.
    """
    shown = printed(patch) if kind == "strategic" else orjson.dumps(result).decode()
    return unprocessable("", "", "", [invalid("patch", shown, why)])


def _undecodable(value: Any, wanted: str) -> StatusError:
    kinds = {list: "array", dict: "object", str: "string", bool: "bool", type(None): "null"}
    kind = kinds.get(type(value), "number")
    return bad_request(
        f"error decoding patch: json: cannot unmarshal {kind} into Go value of type {wanted}"
    )


def _rejected() -> StatusError:
    # NewGenericServerResponse keeps the cause to itself.
    return StatusError(
        422, "Invalid", "the server rejected our request due to an error in our request"
    )


def _internal(message: str) -> StatusError:
    """What becomes of an error that the server gave no status: a 500 without a reason."""
    return StatusError(500, "", message)


def _without_nulls(value: Any) -> Any:
    """A copy without the null members of its objects; those of lists stay."""
    if isinstance(value, dict):
        return {key: _without_nulls(item) for key, item in value.items() if item is not None}
    if isinstance(value, list):
        return [_without_nulls(item) for item in value]
    return value


# -- strategic merge -----------------------------------------------------------------------------


def _below(schema: Schema | None, key: str) -> Schema | None:
    """The schema of a member; the values of a map share one."""
    if schema is None:
        return None
    return schema.property(key) or schema.additional


def _strategy(schema: Schema | None) -> str:
    if schema is None:
        return ""
    return next((name for name in schema.patch_strategy if name != "retainKeys"), "")


def _merge_map(original: Object, patch: Object, schema: Schema | None) -> Object:
    patch = dict(patch)
    if _DIRECTIVE in patch:
        directive = patch.pop(_DIRECTIVE)
        if directive == "replace":
            return patch
        if directive == "delete":
            return {}
        raise _unknown_directive(directive, patch | {_DIRECTIVE: directive})
    _retain_keys(original, patch)
    _order_lists(original, patch, schema)
    for key, value in patch.items():
        deleting = key.startswith(_DELETE_FROM)
        if deleting:
            key = _target(key, _DELETE_FROM, "invalid patch format of primitive list")
        if value is None:
            original.pop(key, None)
            continue
        present = original.get(key)
        below = _below(schema, key)
        if deleting:
            if isinstance(present, list) and isinstance(value, list):
                original[key] = [item for item in present if item not in value]
        elif isinstance(present, dict) and isinstance(value, dict):
            if _strategy(below) == "replace":
                original[key] = value
            else:
                original[key] = _merge_map(present, value, below)
        elif isinstance(present, list) and isinstance(value, list):
            original[key] = _merge_list(present, value, below)
        else:
            kept = _without_directives(_without_nulls(value))
            if kept is None:
                original.pop(key, None)
            else:
                original[key] = kept
    return original


def _target(key: str, prefix: str, message: str) -> str:
    found, slash, target = key.partition("/")
    if found != prefix or not slash:
        raise bad_request(message)
    return target


def _retain_keys(original: Object, patch: Object) -> None:
    if _RETAIN not in patch:
        return
    kept = patch.pop(_RETAIN)
    if not isinstance(kept, list):
        raise bad_request("invalid patch format of retainKeys")
    for key, value in patch.items():
        directive = key.startswith((_DELETE_FROM, _ORDER))
        if value is not None and not directive and key not in kept:
            raise bad_request("invalid patch format of retainKeys")
    for key in [key for key in original if key not in kept]:
        del original[key]


def _order_lists(original: Object, patch: Object, schema: Schema | None) -> None:
    """Merge the lists whose order the patch states, and take them out of the patch."""
    for directive in [key for key in patch if key.startswith(_ORDER)]:
        order = patch.pop(directive)
        key = _target(directive, _ORDER, "invalid patch format of setElementOrder list")
        present, given = original.get(key), patch.get(key)
        for part in (order, [] if present is None else present, [] if given is None else given):
            if not isinstance(part, list):
                raise _internal(f"expected a []interface {{}}, but received a {_go_type(part)}")
        below = _below(schema, key)
        merge_key = (below.patch_merge_key or "") if below is not None else ""
        if present is None and given is None:
            continue
        if given is not None:
            _check_order(given, order, merge_key)
        if given is None:
            merged = present or []
        elif present is None:
            merged = _without_directives(given)
        else:
            merged = _merge_list(present, given, below)
        original[key] = _arrange(merged, order, present or [], merge_key)
        patch.pop(key, None)


def _check_order(given: list[Any], order: list[Any], merge_key: str) -> None:
    """The items of a patch have to stand in the order that it states."""
    stated = iter(_identity(item, merge_key) for item in order)
    for item in given:
        if isinstance(item, dict) and _DIRECTIVE in item:
            continue
        identity = _identity(item, merge_key)
        if order and identity not in stated:
            raise _internal(
                f"The order in patch list:\n{printed(given)}\n doesn't match {_ORDER} list:\n"
                f"{printed(order)}\n"
            )


def _merge_list(original: list[Any], patch: list[Any], schema: Schema | None) -> list[Any]:
    if _strategy(schema) != "merge":
        return patch
    assert schema is not None
    if not original and not patch:
        return original
    kinds = {_go_type(item) for item in (*original, *patch)}
    if "[]interface {}" in kinds:
        # NewGenericServerResponse keeps "lists of lists are not supported" to itself.
        raise _rejected()
    if len(kinds) > 1:
        raise _internal(
            f"list element types are not identical: [{printed(original)} {printed(patch)}]"
        )
    if kinds != {"map[string]interface {}"}:
        return _arrange(list(dict.fromkeys(original + patch)), patch, original, "")
    merge_key = schema.patch_merge_key or ""
    if not merge_key:
        raise _internal("cannot merge lists without merge key for " + schema.definition)
    original, patch = _directed(original, patch, merge_key)
    merged = list(original)
    positions = {_hashable(item.get(merge_key)): at for at, item in enumerate(merged)}
    for item in patch:
        identity = _identity(item, merge_key)
        if identity in positions:
            at = positions[identity]
            merged[at] = _merge_map(merged[at], item, schema.items)
        else:
            positions[identity] = len(merged)
            merged.append(item)
    return _arrange(merged, patch, original, merge_key)


def _directed(original: list[Any], patch: list[Any], merge_key: str) -> tuple[list[Any], list[Any]]:
    """Carry out the items of a patch that are directives; gives what is left of both lists."""
    plain: list[Any] = []
    replace = False
    for item in patch:
        if _DIRECTIVE not in item:
            plain.append(item)
        elif item[_DIRECTIVE] == "delete":
            identity = _identity(item, merge_key)
            original = [other for other in original if _hashable(other.get(merge_key)) != identity]
        elif item[_DIRECTIVE] == "replace":
            replace = True
        elif item[_DIRECTIVE] == "merge":
            raise _internal("merging lists cannot yet be specified in the patch")
        else:
            raise _unknown_directive(item[_DIRECTIVE], item)
    return (plain, []) if replace else (original, plain)


def _arrange(merged: list[Any], wanted: list[Any], before: list[Any], merge_key: str) -> list[Any]:
    """Order a merged list as the patch wants it, items that only the server has in between.

    An item of the server's comes before one of the patch when it did so in the list as it was;
    otherwise as late as that allows.
    """
    order = {_identity(item, merge_key): at for at, item in enumerate(wanted)}
    earlier: dict[Any, int] = {}
    for at, item in enumerate(before):
        earlier.setdefault(_identity(item, merge_key), at)
    identities = [_identity(item, merge_key) for item in merged]
    named = sorted(
        (at for at, identity in enumerate(identities) if identity in order),
        key=lambda at: order[identities[at]],
    )
    others = sorted(
        (at for at, identity in enumerate(identities) if identity not in order),
        key=lambda at: earlier.get(identities[at], len(before)),
    )
    arranged: list[Any] = []
    while named and others:
        left, right = earlier.get(identities[others[0]]), earlier.get(identities[named[0]])
        first = left is not None and right is not None and left < right
        arranged.append(merged[(others if first else named).pop(0)])
    arranged += [merged[at] for at in others + named]
    return arranged


def _identity(item: Any, merge_key: str) -> Any:
    """What tells items of a list apart."""
    if not merge_key:
        return _hashable(item)
    if not isinstance(item, dict):
        raise _internal(f"expected a map[string]interface {{}}, but received a {_go_type(item)}")
    if merge_key not in item:
        raise _internal(f"map: {printed(item)} does not contain declared merge key: {merge_key}")
    return _hashable(item[merge_key])


def _hashable(value: Any) -> Any:
    return (type(value).__name__, value) if not isinstance(value, (dict, list)) else printed(value)


def _without_directives(value: Any) -> Any:
    """A copy without the objects that are directives; ``None`` when it is one itself."""
    if isinstance(value, dict):
        if _DIRECTIVE in value:
            return None
        kept = {key: _without_directives(item) for key, item in value.items()}
        return {key: item for key, item in kept.items() if item is not None}
    if isinstance(value, list):
        return [
            _without_directives(item)
            for item in value
            if not (isinstance(item, dict) and _DIRECTIVE in item)
        ]
    return value


def _unknown_directive(directive: Any, item: Object) -> StatusError:
    return _internal(f"unknown patch type: {printed(directive)} in map: {printed(item)}")


def _go_type(value: Any) -> str:
    if isinstance(value, dict):
        return "map[string]interface {}"
    if isinstance(value, list):
        return "[]interface {}"
    names = {bool: "bool", int: "int64", float: "float64", str: "string"}
    return names.get(type(value), "%!s(<nil>)")
