"""What a valid name, label, number or choice is, and how a field error about it is worded.

The syntaxes and sentences are those of ``k8s.io/apimachinery/pkg/util/validation`` and
``pkg/api/validate/content`` (0.36). A check gives the sentences that apply, none when the value
is valid; the functions below them wrap those into field errors.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

from mlk8s.sim import quantity, selectors
from mlk8s.sim.status import (
    NOT_FOUND,
    TOO_LONG,
    FieldError,
    forbidden,
    invalid,
    required,
    unsupported,
)

Check = Callable[[str], list[str]]

IMMUTABLE = "field is immutable"
NEGATIVE = "must be greater than or equal to 0"
NOT_POSITIVE = "must be greater than zero"
MAX_INT32 = 2**31 - 1

_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_SUBDOMAIN = rf"{_LABEL}(\.{_LABEL})*"
_DNS_1035 = "[a-z]([-a-z0-9]*[a-z0-9])?"
_KEY = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_CONFIG_KEY = "[-._a-zA-Z0-9]+"
_HEADER = "[-A-Za-z0-9]+"
_LABEL_TEXT = (
    "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and "
    "must start and end with an alphanumeric character"
)
_SUBDOMAIN_TEXT = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character"
)
_DNS_1035_TEXT = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character"
)
_CONFIG_KEY_TEXT = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'"
_HEADER_TEXT = "a valid HTTP header must consist of alphanumeric characters or '-'"
_ENV_TEXT = (
    "a valid environment variable name must consist only of printable ASCII characters other "
    "than '='"
)


def pattern_error(text: str, pattern: str, *examples: str) -> str:
    """The sentence for a value that does not match a pattern."""
    if not examples:
        return f"{text} (regex used for validation is '{pattern}')"
    listed = " or ".join(f"'{example}', " for example in examples)
    return f"{text} (e.g. {listed}regex used for validation is '{pattern}')"


def in_range(low: int, high: int) -> str:
    """The sentence for a number outside of its range."""
    return f"must be between {low} and {high}, inclusive"


@lru_cache(maxsize=65536)
def _dns_label(value: str) -> tuple[str, ...]:
    errors = ["must be no more than 63 characters"] if len(value) > 63 else []
    if not re.fullmatch(_LABEL, value):
        if re.fullmatch(_SUBDOMAIN, value):
            errors.append("must not contain dots")
        else:
            errors.append(pattern_error(_LABEL_TEXT, _LABEL, "my-name", "123-abc"))
    return tuple(errors)


def dns_label(value: str) -> list[str]:
    """RFC 1123 label: namespaces, containers, ports of services."""
    return list(_dns_label(value))


@lru_cache(maxsize=65536)
def _dns_subdomain(value: str) -> tuple[str, ...]:
    errors = ["must be no more than 253 characters"] if len(value) > 253 else []
    if not re.fullmatch(_SUBDOMAIN, value):
        errors.append(pattern_error(_SUBDOMAIN_TEXT, _SUBDOMAIN, "example.com"))
    return tuple(errors)


def dns_subdomain(value: str) -> list[str]:
    """RFC 1123 subdomain: the names of most objects."""
    return list(_dns_subdomain(value))


def dns_1035_label(value: str) -> list[str]:
    """RFC 1035 label: the names of services."""
    errors = ["must be no more than 63 characters"] if len(value) > 63 else []
    if not re.fullmatch(_DNS_1035, value):
        errors.append(pattern_error(_DNS_1035_TEXT, _DNS_1035, "my-name", "abc-123"))
    return errors


def path_segment(value: str) -> list[str]:
    """What may stand between two slashes of a URL: the names of RBAC objects."""
    if value in (".", ".."):
        return [f"may not be '{value}'"]
    return [f"may not contain '{bad}'" for bad in "/%" if bad in value]


@lru_cache(maxsize=65536)
def _key_faults(value: str) -> tuple[str, ...]:
    return tuple(selectors.key_faults(value))


def qualified_name(value: str) -> list[str]:
    """The key of a label: an optional domain, a slash, a name."""
    return list(_key_faults(value))


@lru_cache(maxsize=65536)
def _value_faults(value: str) -> tuple[str, ...]:
    return tuple(selectors.value_faults(value))


def label_value(value: str) -> list[str]:
    """The value of a label."""
    return list(_value_faults(value))


def config_key(value: str) -> list[str]:
    """A key of a ConfigMap or a Secret."""
    errors = ["must be no more than 253 characters"] if len(value) > 253 else []
    if not re.fullmatch(_CONFIG_KEY, value):
        errors.append(
            pattern_error(_CONFIG_KEY_TEXT, _CONFIG_KEY, "key.name", "KEY_NAME", "key-name")
        )
    if value in (".", ".."):
        errors.append(f"must not be '{value}'")
    elif value.startswith(".."):
        errors.append("must not start with '..'")
    return errors


def env_name(value: str) -> list[str]:
    """The name of an environment variable, by the rule that holds since 1.34."""
    if not value:
        return ["environment variable name must be non-empty"]
    if any(not " " <= char <= "~" or char == "=" for char in value):
        return [_ENV_TEXT]
    return []


def port_name(value: str) -> list[str]:
    """An IANA service name."""
    errors = ["must be no more than 15 characters"] if len(value) > 15 else []
    if not re.fullmatch("[-a-z0-9]+", value):
        errors.append("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)")
    if not re.search("[a-z]", value):
        errors.append("must contain at least one letter (a-z)")
    if "--" in value:
        errors.append("must not contain consecutive hyphens")
    if value[:1] == "-" or value[-1:] == "-":
        errors.append("must not begin or end with a hyphen")
    return errors


def header_name(value: str) -> list[str]:
    """The name of an HTTP header."""
    if re.fullmatch(_HEADER, value):
        return []
    return [pattern_error(_HEADER_TEXT, _HEADER, "X-Header-Name")]


# -- field errors --------------------------------------------------------------------------------


def each(path: str, value: str, check: Check) -> list[FieldError]:
    """One error for each sentence of a check."""
    return [invalid(path, value, text) for text in check(value)]


def choice(
    path: str, value: Any, supported: Collection[str], needed: bool = True
) -> list[FieldError]:
    """A value has to be one of an enumeration; empty is an error only when it is needed."""
    if not value:
        return [required(path)] if needed else []
    return [] if value in supported else [unsupported(path, value, supported)]


def not_found(path: str, value: str, detail: str = "") -> FieldError:
    """A name refers to nothing."""
    return FieldError(path, NOT_FOUND, detail, value)


def too_long(path: str, limit: int) -> FieldError:
    """More bytes than a field may have."""
    return FieldError(path, TOO_LONG, f"may not be more than {limit} byte{'s' * (limit != 1)}")


def nonnegative(path: str, value: Any) -> list[FieldError]:
    """A number that may not be below zero; unset is fine."""
    if value is not None and value < 0:
        return [invalid(path, value, NEGATIVE)]
    return []


def nonnegative_each(path: str, obj: Mapping[str, Any], *names: str) -> list[FieldError]:
    """The same for several fields of one object, in this order."""
    errors: list[FieldError] = []
    for name in names:
        errors += nonnegative(f"{path}.{name}", obj.get(name))
    return errors


def port_number(path: str, value: int) -> list[FieldError]:
    """A TCP or UDP port."""
    return [] if 1 <= value <= 65535 else [invalid(path, value, in_range(1, 65535))]


def port_or_name(path: str, value: int | str | None) -> list[FieldError]:
    """An ``IntOrString`` that names a port."""
    if isinstance(value, str):
        return each(path, value, port_name)
    return port_number(path, value or 0)


def number_or_percent(path: str, value: int | str) -> list[FieldError]:
    """An ``IntOrString`` such as ``maxUnavailable``."""
    if isinstance(value, str):
        if re.fullmatch("[0-9]+%", value):
            return []
        text = "a valid percent string must be a numeric string followed by an ending '%'"
        return [invalid(path, value, pattern_error(text, "[0-9]+%", "1%", "93%"))]
    return nonnegative(path, value)


def ip_address(path: str, value: str) -> list[FieldError]:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(value)
    except ValueError:
        text = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)"
        return [invalid(path, value, text)]
    return []


def labels(path: str, found: Mapping[str, str] | None) -> list[FieldError]:
    """A map of labels, or of what has their syntax."""
    errors: list[FieldError] = []
    for key, value in sorted((found or {}).items()):
        errors += each(path, key, qualified_name) + each(path, value, label_value)
    return errors


def label_selector(path: str, selector: Mapping[str, Any] | None) -> list[FieldError]:
    """A ``metav1.LabelSelector``."""
    if selector is None:
        return []
    errors = labels(f"{path}.matchLabels", selector.get("matchLabels"))
    for index, expression in enumerate(selector.get("matchExpressions") or ()):
        here = f"{path}.matchExpressions[{index}]"
        operator, values = expression.get("operator", ""), expression.get("values") or []
        errors += selector_values(here, operator, values, ("In", "NotIn"))
        errors += each(f"{here}.key", expression.get("key", ""), qualified_name)
        for at, value in enumerate(values):
            errors += each(f"{here}.values[{at}]", value, label_value)
    return errors


def selector_values(
    path: str, operator: str, values: Sequence[str], with_values: Collection[str]
) -> list[FieldError]:
    """Whether an operator of a selector has the values that it needs."""
    if operator in with_values:
        if values:
            return []
        text = "must be specified when `operator` is 'In' or 'NotIn'"
        return [required(f"{path}.values", text)]
    if operator in ("Exists", "DoesNotExist"):
        if not values:
            return []
        text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
        return [forbidden(f"{path}.values", text)]
    return [invalid(f"{path}.operator", operator, "not a valid selector operator")]


def quantity_value(path: str, text: Any, whole: bool) -> list[FieldError]:
    """A quantity that may not be negative and, for some resources, has to be an integer."""
    number = quantity.value(str(text))
    shown = quantity.canonical(text)
    errors = [invalid(path, shown, NEGATIVE)] if number < 0 else []
    if whole and number.denominator != 1:
        errors.append(invalid(path, shown, "must be an integer"))
    return errors
