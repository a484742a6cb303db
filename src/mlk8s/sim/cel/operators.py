"""CEL's operators: which types they take, and what they do."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

from mlk8s.sim.cel.overloads import Overload
from mlk8s.sim.cel.values import (
    BOOL,
    BYTES,
    DOUBLE,
    DURATION,
    INT,
    STRING,
    TIMESTAMP,
    UINT,
    A,
    B,
    CelError,
    Domains,
    Optional,
    Type,
    Uint,
    equal,
    list_of,
    map_of,
    whole,
)

_NUMBERS = (INT, UINT, DOUBLE)


def select(value: Any, key: Any) -> Any:
    """``value[key]`` and ``value.key``.

    Raises:
        CelError: ``no such key: x``; an index that is none.
    """
    if isinstance(value, dict):
        try:
            return value[key]
        except KeyError:
            if isinstance(value, Domains):
                return {}
            raise CelError(f"no such key: {key}") from None
    if isinstance(value, list) and isinstance(key, int) and not isinstance(key, bool):
        if 0 <= key < len(value):
            return value[key]
        raise CelError(f"index out of bounds: {key}")
    raise CelError("no such overload")


def maybe(value: Any, key: Any) -> Optional:
    """``value[?key]`` and ``value.?key``."""
    if isinstance(value, Optional):
        if not value.present:
            return value
        value = value.value
    if isinstance(value, dict):
        return Optional(True, value[key]) if key in value else Optional(False)
    if isinstance(value, list) and isinstance(key, int):
        return Optional(True, value[key]) if 0 <= key < len(value) else Optional(False)
    raise CelError("no such overload")


def _arithmetic(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def of(left: Any, right: Any) -> Any:
        if isinstance(left, float):
            return compute(left, right)
        result = compute(left, right)
        if isinstance(left, Uint):
            if not 0 <= result < 2**64:
                raise CelError("unsigned integer overflow")
            return Uint(result)
        return whole(result)

    return of


def _moving(compute: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    def of(left: Any, right: Any) -> Any:
        try:
            return compute(left, right)
        except OverflowError:
            raise CelError("timestamp overflow") from None

    return of


def _divide(left: Any, right: Any) -> Any:
    if isinstance(left, float):
        if right == 0:
            return math.nan if left == 0 or math.isnan(left) else math.copysign(math.inf, left)
        return left / right
    if right == 0:
        raise CelError("division by zero")
    # Go truncates toward zero.
    return abs(left) // abs(right) * (1 if (left < 0) == (right < 0) else -1)


def _modulus(left: int, right: int) -> int:
    if right == 0:
        raise CelError("modulus by zero")
    return abs(left) % abs(right) * (-1 if left < 0 else 1)


def _contains(item: Any, container: Any) -> bool:
    if isinstance(container, dict):
        return item in container
    return any(equal(item, each) for each in container)


def _pairs(kinds: tuple[Type, ...], impl: Callable[[Any, Any], Any]) -> list[Overload]:
    return [Overload((kind, kind), kind, impl) for kind in kinds]


def _ordering(impl: Callable[[Any, Any], Any]) -> list[Overload]:
    kinds = (BOOL, STRING, BYTES, TIMESTAMP, DURATION)
    same = [Overload((kind, kind), BOOL, impl) for kind in kinds]
    # Numbers of different types compare by value.
    return same + [Overload((a, b), BOOL, impl) for a in _NUMBERS for b in _NUMBERS]


OPERATORS: dict[str, list[Overload]] = {
    "_==_": [Overload((A, A), BOOL, equal)],
    "_!=_": [Overload((A, A), BOOL, lambda a, b: not equal(a, b))],
    "_<_": _ordering(operator.lt),
    "_<=_": _ordering(operator.le),
    "_>_": _ordering(operator.gt),
    "_>=_": _ordering(operator.ge),
    "_+_": [
        *_pairs(_NUMBERS, _arithmetic(operator.add)),
        *_pairs((STRING, BYTES), operator.add),
        Overload((list_of(A), list_of(A)), list_of(A), operator.add),
        Overload((TIMESTAMP, DURATION), TIMESTAMP, _moving(operator.add)),
        Overload((DURATION, TIMESTAMP), TIMESTAMP, _moving(operator.add)),
        Overload((DURATION, DURATION), DURATION, _moving(operator.add)),
    ],
    "_-_": [
        *_pairs(_NUMBERS, _arithmetic(operator.sub)),
        Overload((TIMESTAMP, TIMESTAMP), DURATION, operator.sub),
        Overload((TIMESTAMP, DURATION), TIMESTAMP, _moving(operator.sub)),
        Overload((DURATION, DURATION), DURATION, _moving(operator.sub)),
    ],
    "_*_": _pairs(_NUMBERS, _arithmetic(operator.mul)),
    "_/_": _pairs(_NUMBERS, _arithmetic(_divide)),
    "_%_": _pairs((INT, UINT), _arithmetic(_modulus)),
    "!_": [Overload((BOOL,), BOOL, operator.not_)],
    "-_": [
        Overload((INT,), INT, lambda a: whole(-a)),
        Overload((DOUBLE,), DOUBLE, operator.neg),
    ],
    "@in": [
        Overload((A, list_of(A)), BOOL, _contains),
        Overload((A, map_of(A, B)), BOOL, _contains),
    ],
    "_?_:_": [Overload((BOOL, A, A), A, lambda test, yes, no: yes if test else no)],
}
INDEX = [
    Overload((list_of(A), INT), A, select),
    Overload((map_of(A, B), A), B, select),
]
