"""The types and functions that Kubernetes offers to the CEL expressions of device selectors.

The environment is ``k8s.io/apiserver/pkg/cel/environment`` of 1.36: the standard functions, the
string extensions, Kubernetes' lists, regex, quantity, semver and sets libraries, and optionals.
Time, URLs, addresses and ``format`` are left out: no attribute of a device has such a type.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any, TypeAlias

import re2  # type: ignore[import-untyped]

from mlk8s.sim import quantity
from mlk8s.sim.scheduler.cel_parser import Uint

_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1


class CelError(Exception):
    """An expression does not compile, or fails for a device; the message is Kubernetes'."""


@dataclass(frozen=True)
class Type:
    """A type as the checker sees it; ``params`` of a list, map or optional."""

    name: str
    params: tuple[Type, ...] = ()

    def __str__(self) -> str:
        if not self.params:
            return self.name
        return f"{self.name}({', '.join(map(str, self.params))})"

    @property
    def loose(self) -> bool:
        """Whether anything can stand for it: its real type shows when it is evaluated."""
        return self.name in ("dyn", "any")


BOOL, INT, UINT, DOUBLE = Type("bool"), Type("int"), Type("uint"), Type("double")
STRING, BYTES, NULL, DYN, ANY = (
    Type("string"),
    Type("bytes"),
    Type("null"),
    Type("dyn"),
    Type("any"),
)
TYPE = Type("type")
QUANTITY, SEMVER = Type("kubernetes.Quantity"), Type("kubernetes.Semver")
A, B = Type("A"), Type("B")


def list_of(item: Type) -> Type:
    """``list(item)``."""
    return Type("list", (item,))


def map_of(key: Type, value: Type) -> Type:
    """``map(key, value)``."""
    return Type("map", (key, value))


def optional_of(value: Type) -> Type:
    """``optional_type(value)``."""
    return Type("optional_type", (value,))


@dataclass(frozen=True)
class Quantity:
    """An amount such as ``40Gi``."""

    amount: Fraction


@functools.total_ordering
@dataclass(frozen=True, eq=False)
class Semver:
    """A semantic version; build metadata is not compared."""

    major: int
    minor: int
    patch: int
    pre: tuple[str, ...] = ()

    def _key(self) -> tuple[Any, ...]:
        # Numeric parts are below others, and a release above each of its pre-releases.
        parts = tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in self.pre)
        return (self.major, self.minor, self.patch, not self.pre, parts)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Semver) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __lt__(self, other: Semver) -> bool:
        return bool(self._key() < other._key())


@dataclass(frozen=True)
class Optional:
    """A value that may be missing, as ``a.?b`` gives."""

    present: bool
    value: Any = None


class Domains(dict[str, dict[str, Any]]):
    """A device's attributes or capacities by domain; a domain that is not there is empty."""


_SEMVER = re.compile(
    r"(0|[1-9]\d*)\.(0|[1-9]\d*)\.(0|[1-9]\d*)"
    r"(?:-((?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*)(?:\.(?:0|[1-9]\d*|\d*[a-zA-Z-][0-9a-zA-Z-]*))*))?"
    r"(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?"
)


def parse_semver(text: str, normalize: bool = False) -> Semver:
    """A version; ``normalize`` allows a leading v, leading zeros and missing parts.

    Raises:
        CelError: with the message of ``github.com/blang/semver``.
    """
    if normalize:
        core, sign, rest = re.fullmatch(r"([^-+]*)([-+]?)(.*)", text.removeprefix("v")).groups()  # type: ignore[union-attr]
        numbers = [part.lstrip("0") or "0" for part in core.split(".")] + ["0", "0"]
        text = ".".join(numbers[: max(3, len(core.split(".")))]) + sign + rest
    match = _SEMVER.fullmatch(text)
    if match is None:
        raise CelError(_semver_mistake(text))
    major, minor, patch, pre = match.groups()
    return Semver(int(major), int(minor), int(patch), tuple(pre.split(".")) if pre else ())


def _semver_mistake(text: str) -> str:
    if not text:
        return "Version string empty"
    parts = text.split(".", 2)
    if len(parts) != 3:
        return "No Major.Minor.Patch elements found"
    for name, part in zip(("major", "minor", "patch"), parts, strict=True):
        number = re.split(r"[-+]", part)[0] if name == "patch" else part
        if not number.isdigit():
            return f'Invalid character(s) found in {name} number "{number}"'
        if len(number) > 1 and number[0] == "0":
            return f'{name.capitalize()} number must not contain leading zeroes "{number}"'
    return f'Invalid character(s) found in prerelease or build metadata "{parts[2]}"'


def parse_quantity(text: str) -> Quantity:
    """A quantity.

    Raises:
        CelError: it is none.
    """
    try:
        return Quantity(quantity.value(text))
    except ValueError as error:
        raise CelError(str(error)) from None


def type_name(value: Any) -> str:
    """The name of a value's type in a runtime message."""
    for kind, name in _NAMES:
        if isinstance(value, kind):
            return name
    return "null_type" if value is None else type(value).__name__


_NAMES: tuple[tuple[type, str], ...] = (
    (bool, "bool"),
    (Uint, "uint"),
    (int, "int"),
    (float, "double"),
    (str, "string"),
    (bytes, "bytes"),
    (list, "list"),
    (dict, "map"),
    (Quantity, QUANTITY.name),
    (Semver, SEMVER.name),
    (Optional, "optional_type"),
    (Type, "type"),
)


def equal(left: Any, right: Any) -> bool:
    """CEL's equality: numbers by value, other types only with their own."""
    if isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, int | float) and isinstance(right, int | float):
        return left == right
    if type(left) is not type(right) and not (isinstance(left, dict) and isinstance(right, dict)):
        return False
    if isinstance(left, list):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict):
        return left.keys() == right.keys() and all(equal(left[k], right[k]) for k in left)
    return bool(left == right)


Impl: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Overload:
    """One form of a function.

    Attributes:
        member: called as ``args[0].name(…)``.
        args: types; the first is the target of a method.
    """

    args: tuple[Type, ...]
    result: Type
    impl: Impl
    member: bool = False

    def takes(self, values: Iterable[Any]) -> bool:
        """Whether it can be called with these values."""
        return all(_is(value, kind) for value, kind in zip(values, self.args, strict=False))


def _is(value: Any, kind: Type) -> bool:
    if kind.loose or kind in (A, B):
        return True
    name = type_name(value)
    if name == "list" and kind.params:
        return kind.name == "list" and all(_is(item, kind.params[0]) for item in value)
    return name == kind.name


FUNCTIONS: dict[str, list[Overload]] = {}


def _function(name: str, *forms: tuple[str, tuple[Type, ...], Type, Impl]) -> None:
    for how, args, result, impl in forms:
        if "g" in how:
            FUNCTIONS.setdefault(name, []).append(Overload(args, result, impl))
        if "m" in how:
            FUNCTIONS.setdefault(name, []).append(Overload(args, result, impl, member=True))


def whole(number: int) -> int:
    """An ``int`` of 64 bits.

    Raises:
        CelError: it does not fit.
    """
    if not _MIN_INT <= number <= _MAX_INT:
        raise CelError("integer overflow")
    return number


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
    if value.amount.denominator != 1 or not _MIN_INT <= value.amount <= _MAX_INT:
        raise CelError("cannot convert value to integer")
    return int(value.amount)


def _parses(parse: Callable[..., Any]) -> Impl:
    def check(*args: Any) -> bool:
        try:
            parse(*args)
        except CelError:
            return False
        return True

    return check


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
_function("int", *(("g", (t,), INT, _int) for t in (INT, UINT, DOUBLE, STRING)))
_function("uint", *(("g", (t,), UINT, _uint) for t in (INT, UINT, DOUBLE, STRING)))
_function("double", *(("g", (t,), DOUBLE, _double) for t in (INT, UINT, DOUBLE, STRING)))
_function("bool", *(("g", (t,), BOOL, _boolean) for t in (BOOL, STRING)))
_function("string", *(("g", (t,), STRING, _text) for t in (STRING, BOOL, INT, UINT, DOUBLE, BYTES)))
_function("bytes", ("g", (STRING,), BYTES, str.encode))
_function("dyn", ("g", (A,), DYN, lambda value: value))
_function("type", ("g", (A,), TYPE, lambda value: Type(type_name(value))))
_function("quantity", ("g", (STRING,), QUANTITY, parse_quantity))
_function("isQuantity", ("g", (STRING,), BOOL, _parses(parse_quantity)))
_function("isInteger", ("m", (QUANTITY,), BOOL, _parses(_as_integer)))
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
    ("g", (STRING,), BOOL, _parses(parse_semver)),
    ("g", (STRING, BOOL), BOOL, _parses(parse_semver)),
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
