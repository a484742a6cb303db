"""The types and values of CEL, with those that Kubernetes adds: quantities and versions."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from fractions import Fraction
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Any
from urllib.parse import SplitResult

from mlk8s.sim import quantity

_MIN_INT, _MAX_INT = -(2**63), 2**63 - 1


class Uint(int):
    """An unsigned 64-bit number, a type of its own in CEL."""


class CelError(Exception):
    """An expression does not compile, or fails for its values; the message is Kubernetes'."""


@dataclass(frozen=True)
class Type:
    """A type as the checker sees it.

    Attributes:
        params: of a list, map or optional.
        fields: of an object whose fields are known.
    """

    name: str
    params: tuple[Type, ...] = ()
    fields: Mapping[str, Type] | None = field(default=None, compare=False, repr=False)

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
TIMESTAMP, DURATION = Type("google.protobuf.Timestamp"), Type("google.protobuf.Duration")
QUANTITY, SEMVER = Type("kubernetes.Quantity"), Type("kubernetes.Semver")
URL, IP, CIDR = Type("kubernetes.URL"), Type("net.IP"), Type("net.CIDR")
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


def is_semver(text: str, normalize: bool = False) -> bool:
    """Whether :func:`parse_semver` takes a text."""
    try:
        parse_semver(text, normalize)
    except CelError:
        return False
    return True


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


# An interface is an address, too, to Python.
_NAMES: tuple[tuple[Any, str], ...] = (
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
    (datetime, TIMESTAMP.name),
    (timedelta, DURATION.name),
    (SplitResult, URL.name),
    (IPv4Interface | IPv6Interface, CIDR.name),
    (IPv4Address | IPv6Address, IP.name),
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


def whole(number: int) -> int:
    """An ``int`` of 64 bits.

    Raises:
        CelError: it does not fit.
    """
    if not _MIN_INT <= number <= _MAX_INT:
        raise CelError("integer overflow")
    return number
