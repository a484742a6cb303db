"""The functions that Kubernetes offers to CEL expressions.

The environment is ``k8s.io/apiserver/pkg/cel/environment`` of 1.36: the standard functions, the
string extensions, Kubernetes' lists, regex, quantity, semver and sets libraries, and optionals.
Times are in :mod:`mlk8s.sim.cel.times`, URLs and addresses in :mod:`mlk8s.sim.cel.network`.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any
from urllib.parse import SplitResult

import re2  # type: ignore[import-untyped]

from mlk8s.sim.cel import network, times
from mlk8s.sim.cel.overloads import Form, Impl, Overload, parses
from mlk8s.sim.cel.values import (
    BOOL,
    BYTES,
    CIDR,
    DOUBLE,
    DURATION,
    DYN,
    INT,
    IP,
    QUANTITY,
    SEMVER,
    STRING,
    TIMESTAMP,
    TYPE,
    UINT,
    A,
    B,
    CelError,
    Optional,
    Quantity,
    Type,
    Uint,
    equal,
    is_semver,
    list_of,
    map_of,
    optional_of,
    parse_quantity,
    parse_semver,
    type_name,
    whole,
)

FUNCTIONS: dict[str, list[Overload]] = {}


def _function(name: str, *forms: Form) -> None:
    for how, args, result, impl in forms:
        if "g" in how:
            FUNCTIONS.setdefault(name, []).append(Overload(args, result, impl))
        if "m" in how:
            FUNCTIONS.setdefault(name, []).append(Overload(args, result, impl, member=True))


def pattern(text: str) -> Any:
    """A compiled RE2 pattern.

    Raises:
        CelError: it is not a regular expression.
    """
    try:
        return _pattern(text)
    except re2.error as error:
        detail = error.args[0].decode() if error.args else ""
        raise CelError(f"error parsing regexp: {detail}: `{text}`") from None


@functools.lru_cache(maxsize=256)
def _pattern(text: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(text, options=options)


def _int(value: Any) -> int:
    if isinstance(value, str):
        if not re.fullmatch(r"[+-]?\d+", value):
            raise CelError(f'strconv.ParseInt: parsing "{value}": invalid syntax')
        return whole(int(value))
    if isinstance(value, datetime):
        return int(value.timestamp())
    return whole(int(value))


def _uint(value: Any) -> Uint:
    number = _int(value)
    if number < 0:
        raise CelError("unsigned integer overflow")
    return Uint(number)


def _double(value: Any) -> float:
    try:
        return float(value)
    except ValueError:
        raise CelError(f'strconv.ParseFloat: parsing "{value}": invalid syntax') from None


def _boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if value in ("true", "True", "TRUE", "t", "1"):
        return True
    if value in ("false", "False", "FALSE", "f", "0"):
        return False
    raise CelError(f'strconv.ParseBool: parsing "{value}": invalid syntax')


def _text(value: Any) -> str:
    if isinstance(value, datetime | timedelta):
        return times.text(value)
    if isinstance(value, SplitResult):
        return str(value.geturl())
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None
    if isinstance(value, float):
        return f"{value:g}"
    return str(value)


def _substring(text: str, start: int, end: int | None = None) -> str:
    stop = len(text) if end is None else end
    if not 0 <= start <= len(text):
        raise CelError(f"index out of range: {start}")
    if not start <= stop <= len(text):
        raise CelError(f"invalid substring range. start: {start}, end: {stop}")
    return text[start:stop]


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    if limit == 0:
        return []
    if not separator:
        characters = list(text)
        if limit > 0 and len(characters) > limit:
            return [*characters[: limit - 1], "".join(characters[limit - 1 :])]
        return characters
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _char_at(text: str, at: int) -> str:
    if not 0 <= at <= len(text):
        raise CelError(f"index out of range: {at}")
    return text[at : at + 1]


def _find(text: str, regex: str) -> str:
    match = pattern(regex).search(text)
    return match.group() if match else ""


def _find_all(text: str, regex: str, limit: int = -1) -> list[str]:
    found = [match.group() for match in pattern(regex).finditer(text)]
    return found if limit < 0 else found[:limit]


def _format(text: str, values: list[Any]) -> str:
    """``'%s has %d'.format([name, count])``."""
    left = iter(values)

    def one(match: re.Match[str]) -> str:
        digits, verb = match.groups()
        if verb == "%":
            return "%"
        try:
            value = next(left)
        except StopIteration:
            raise CelError("index out of range: " + str(len(values))) from None
        if verb == "s":
            return _shown(value)
        whole_number = isinstance(value, int) and not isinstance(value, bool)
        fits = isinstance(value, float) if verb in "fe" else whole_number
        if not fits:
            raise CelError(f"no such overload: %{verb} of {type_name(value)}")
        return format(value, f"{digits or ('.6' if verb in 'fe' else '')}{verb}")

    return re.sub(r"%(\.\d+)?([sdfexXob%])", one, text)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_shown, value))}]"
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_shown(k)}: {_shown(v)}' for k, v in sorted(value.items()))}}}"
    return "null" if value is None else _text(value)


def _extreme(pick: Callable[[list[Any]], Any], name: str) -> Impl:
    def of(items: list[Any]) -> Any:
        if not items:
            raise CelError(f"{name} called on empty list")
        return pick(items)

    return of


def _position(items: list[Any], wanted: Any) -> int:
    return next((i for i, item in enumerate(items) if equal(item, wanted)), -1)


def _last_position(items: list[Any], wanted: Any) -> int:
    return next((i for i in reversed(range(len(items))) if equal(items[i], wanted)), -1)


def _contains_all(items: list[Any], wanted: list[Any]) -> bool:
    return all(_position(items, each) >= 0 for each in wanted)


def _as_integer(value: Quantity) -> int:
    if value.amount.denominator != 1 or not -(2**63) <= value.amount < 2**63:
        raise CelError("cannot convert value to integer")
    return int(value.amount)


def _compare(left: Any, right: Any) -> int:
    return int(left > right) - int(left < right)


def _optional_value(optional: Optional) -> Any:
    if not optional.present:
        raise CelError("optional.none() dereference")
    return optional.value


def _amount(value: Quantity | int) -> Fraction:
    return value.amount if isinstance(value, Quantity) else Fraction(value)


_function("size", *(("gm", (t,), INT, len) for t in (STRING, BYTES, list_of(A), map_of(A, B))))
for _name, _impl in (
    ("contains", str.__contains__),
    ("startsWith", str.startswith),
    ("endsWith", str.endswith),
):
    _function(_name, ("m", (STRING, STRING), BOOL, _impl))
_function(
    "matches", ("gm", (STRING, STRING), BOOL, lambda text, re_: bool(pattern(re_).search(text)))
)
_function("lowerAscii", ("m", (STRING,), STRING, str.lower))
_function("upperAscii", ("m", (STRING,), STRING, str.upper))
_function("trim", ("m", (STRING,), STRING, str.strip))
_function(
    "replace",
    ("m", (STRING, STRING, STRING), STRING, str.replace),
    ("m", (STRING, STRING, STRING, INT), STRING, str.replace),
)
_function(
    "split",
    ("m", (STRING, STRING), list_of(STRING), _split),
    ("m", (STRING, STRING, INT), list_of(STRING), _split),
)
_function(
    "substring",
    ("m", (STRING, INT), STRING, _substring),
    ("m", (STRING, INT, INT), STRING, _substring),
)
_function("charAt", ("m", (STRING, INT), STRING, _char_at))
_function(
    "indexOf",
    ("m", (STRING, STRING), INT, str.find),
    ("m", (STRING, STRING, INT), INT, str.find),
    ("m", (list_of(A), A), INT, _position),
)
_function(
    "lastIndexOf",
    ("m", (STRING, STRING), INT, str.rfind),
    ("m", (list_of(A), A), INT, _last_position),
)
_function(
    "join",
    ("m", (list_of(STRING),), STRING, "".join),
    ("m", (list_of(STRING), STRING), STRING, lambda items, by: by.join(items)),
)
_function("find", ("m", (STRING, STRING), STRING, _find))
_function(
    "findAll",
    ("m", (STRING, STRING), list_of(STRING), _find_all),
    ("m", (STRING, STRING, INT), list_of(STRING), _find_all),
)
_function("isSorted", ("m", (list_of(A),), BOOL, lambda items: items == sorted(items)))
_function("sum", ("m", (list_of(A),), A, sum))
_function("min", ("m", (list_of(A),), A, _extreme(min, "min")))
_function("max", ("m", (list_of(A),), A, _extreme(max, "max")))
_function("int", *(("g", (t,), INT, _int) for t in (INT, UINT, DOUBLE, STRING, TIMESTAMP)))
_function("uint", *(("g", (t,), UINT, _uint) for t in (INT, UINT, DOUBLE, STRING)))
_function("double", *(("g", (t,), DOUBLE, _double) for t in (INT, UINT, DOUBLE, STRING)))
_function("bool", *(("g", (t,), BOOL, _boolean) for t in (BOOL, STRING)))
_function(
    "string",
    *(
        ("g", (t,), STRING, _text)
        for t in (STRING, BOOL, INT, UINT, DOUBLE, BYTES, TIMESTAMP, DURATION, IP, CIDR)
    ),
)
_function("bytes", ("g", (STRING,), BYTES, str.encode))
_function("dyn", ("g", (A,), DYN, lambda value: value))
_function("type", ("g", (A,), TYPE, lambda value: Type(type_name(value))))
_function("quantity", ("g", (STRING,), QUANTITY, parse_quantity))
_function("isQuantity", ("g", (STRING,), BOOL, parses(parse_quantity)))
_function("isInteger", ("m", (QUANTITY,), BOOL, parses(_as_integer)))
_function("asInteger", ("m", (QUANTITY,), INT, _as_integer))
_function("asApproximateFloat", ("m", (QUANTITY,), DOUBLE, lambda q: float(q.amount)))
_function("sign", ("m", (QUANTITY,), INT, lambda q: _compare(q.amount, 0)))
for _other in (QUANTITY, INT):
    _function(
        "add", ("m", (QUANTITY, _other), QUANTITY, lambda q, o: Quantity(q.amount + _amount(o)))
    )
    _function(
        "sub", ("m", (QUANTITY, _other), QUANTITY, lambda q, o: Quantity(q.amount - _amount(o)))
    )
_function(
    "isGreaterThan",
    ("m", (QUANTITY, QUANTITY), BOOL, lambda q, o: q.amount > o.amount),
    ("m", (SEMVER, SEMVER), BOOL, lambda v, o: v > o),
)
_function(
    "isLessThan",
    ("m", (QUANTITY, QUANTITY), BOOL, lambda q, o: q.amount < o.amount),
    ("m", (SEMVER, SEMVER), BOOL, lambda v, o: v < o),
)
_function(
    "compareTo",
    ("m", (QUANTITY, QUANTITY), INT, lambda q, o: _compare(q.amount, o.amount)),
    ("m", (SEMVER, SEMVER), INT, _compare),
)
_function(
    "semver",
    ("g", (STRING,), SEMVER, parse_semver),
    ("g", (STRING, BOOL), SEMVER, parse_semver),
)
_function(
    "isSemver",
    ("g", (STRING,), BOOL, is_semver),
    ("g", (STRING, BOOL), BOOL, is_semver),
)
for _name in ("major", "minor", "patch"):
    _function(_name, ("m", (SEMVER,), INT, lambda v, part=_name: getattr(v, part)))
_function("sets.contains", ("g", (list_of(A), list_of(A)), BOOL, _contains_all))
_function(
    "sets.equivalent",
    (
        "g",
        (list_of(A), list_of(A)),
        BOOL,
        lambda a, b: _contains_all(a, b) and _contains_all(b, a),
    ),
)
_function(
    "sets.intersects",
    ("g", (list_of(A), list_of(A)), BOOL, lambda a, b: any(_position(a, x) >= 0 for x in b)),
)
_function("optional.of", ("g", (A,), optional_of(A), lambda value: Optional(True, value)))
_function("optional.none", ("g", (), optional_of(A), lambda: Optional(False)))
_function("hasValue", ("m", (optional_of(A),), BOOL, lambda o: o.present))
_function("value", ("m", (optional_of(A),), A, _optional_value))
_function(
    "or",
    ("m", (optional_of(A), optional_of(A)), optional_of(A), lambda o, p: o if o.present else p),
)
_function("orValue", ("m", (optional_of(A), A), A, lambda o, d: o.value if o.present else d))
_function("format", ("m", (STRING, list_of(DYN)), STRING, _format))
for _name, _forms in (*network.FUNCTIONS, *times.FUNCTIONS):
    _function(_name, *_forms)
