"""Kubernetes quantities: ``500m``, ``1Gi``, ``2``; parsed exactly, written in canonical form.

The official client parses quantities; it does not write the canonical form that a server returns.
The rules are those of ``k8s.io/apimachinery/pkg/api/resource/quantity.go``.
"""

from __future__ import annotations

import re
from fractions import Fraction
from functools import lru_cache

_PATTERN = re.compile(
    r"([+-]?)(\d+\.?\d*|\.\d+)(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?\d+)?"
)
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BY_EXPONENT = {exponent: suffix for suffix, exponent in _DECIMAL.items()}

REGULAR_EXPRESSION = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"


@lru_cache(maxsize=8192)
def value(text: str) -> Fraction:
    """The number that a quantity names, exactly.

    Raises:
        ValueError: it is not a quantity; the message is the server's.
    """
    match = _PATTERN.fullmatch(text)
    if not match:
        raise ValueError(f"quantities must match the regular expression '{REGULAR_EXPRESSION}'")
    sign, digits, suffix = match.groups()
    number = Fraction(digits if digits[-1] != "." else digits[:-1])
    if suffix in _BINARY:
        number *= 1024 ** _BINARY[suffix]
    elif suffix in _DECIMAL:
        number *= Fraction(10) ** _DECIMAL[suffix]
    elif suffix:
        # Beyond any quantity that can be stored; the number would take all memory.
        if len(suffix) > 5:
            raise ValueError("exponent out of range")
        number *= Fraction(10) ** int(suffix[1:])
    return -number if sign == "-" else number


@lru_cache(maxsize=8192)
def canonical(text: str | int | float) -> str:
    """The form in which a server returns a quantity: ``0.5`` becomes ``500m``, ``1024Mi`` ``1Gi``.

    Raises:
        ValueError: it is not a quantity.
    """
    text = str(text)
    number = value(text)
    match = _PATTERN.fullmatch(text)
    assert match is not None
    suffix = match.group(3) or ""
    if suffix in _BINARY:
        # Below one the server writes a binary quantity in decimal form.
        return _binary(number) if abs(number) >= 1 or number == 0 else _decimal(number, "")
    return _decimal(number, suffix)


def of(number: Fraction | int, like: str = "") -> str:
    """The canonical text of a number, in the format (binary or decimal) of ``like``."""
    number = Fraction(number)
    match = _PATTERN.fullmatch(like) if like else None
    suffix = (match.group(3) or "") if match else ""
    if suffix in _BINARY and (abs(number) >= 1 or number == 0):
        return _binary(number)
    return _decimal(number, suffix if suffix not in _BINARY else "")


def _binary(number: Fraction) -> str:
    if number.denominator != 1:
        # A fraction of a byte: the server falls back to thousandths.
        return _decimal(number, "")
    size, power = int(number), 0
    while size and size % 1024 == 0 and power < 6:
        size, power = size // 1024, power + 1
    return f"{size}{['', 'Ki', 'Mi', 'Gi', 'Ti', 'Pi', 'Ei'][power]}"


def _decimal(number: Fraction, suffix: str) -> str:
    if number == 0:
        return "0"
    exponent = -9
    nano = number * 10**9
    # Finer than a billionth is rounded up, away from zero.
    whole = int(nano) if nano.denominator == 1 else int(nano) + (1 if nano > 0 else -1)
    while whole % 1000 == 0 and exponent < 18:
        whole, exponent = whole // 1000, exponent + 3
    if suffix[:1] in ("e", "E") and suffix != "E":
        return f"{whole}" if exponent == 0 else f"{whole}e{exponent}"
    return f"{whole}{_BY_EXPONENT[exponent]}"
