"""Label and field selectors: ``app in (a,b),!old`` and ``status.phase=Running``.

The grammar and the messages of label selectors are those of ``k8s.io/apimachinery``,
``pkg/labels/selector.go``. Field selectors are parsed in :mod:`mlk8s.sim.field_selectors` and
offered here, too. Node affinity has a grammar of its own and is not here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from mlk8s.sim.field_selectors import FieldSelector, field
from mlk8s.sim.status import Object, StatusError, bad_request

_TOKENS = re.compile(r"[ \t\r\n]*(!=|==|[=!(),<>]|[^ \t\r\n=!(),<>]+)?")
_SYMBOLS = frozenset(("!=", "==", "=", "!", "(", ")", ",", "<", ">"))
_BINARY = {
    "in": "in",
    "=": "=",
    "==": "==",
    ">": "gt",
    "<": "lt",
    "notin": "notin",
    "!=": "!=",
}
_OPERATORS = "in, notin, =, ==, !=, gt, lt"

_NAME = r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]"
_NAME_PATTERN = re.compile(_NAME)
_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_SUBDOMAIN_PATTERN = re.compile(_SUBDOMAIN)
_NAME_RULE = (
    "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    f"validation is '{_NAME}')"
)
_VALUE_RULE = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  "
    f"or '12345', regex used for validation is '({_NAME})?')"
)
_SUBDOMAIN_RULE = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    f"for validation is '{_SUBDOMAIN}')"
)


def key_faults(key: str) -> list[str]:
    """What is wrong with a label key; each a sentence of ``content.IsLabelKey``."""
    faults: list[str] = []
    parts = key.split("/")
    if len(parts) > 2:
        return [
            f"a valid label key {_NAME_RULE} with an optional DNS subdomain prefix and '/' "
            "(e.g. 'example.com/MyName')"
        ]
    if len(parts) == 2:
        if not parts[0]:
            faults.append("prefix part must be non-empty")
        else:
            if len(parts[0]) > 253:
                faults.append("prefix part must be no more than 253 bytes")
            if not _SUBDOMAIN_PATTERN.fullmatch(parts[0]):
                faults.append(f"prefix part {_SUBDOMAIN_RULE}")
    name = parts[-1]
    if not name:
        faults.append("name part must be non-empty")
    elif len(name.encode()) > 63:
        faults.append("name part must be no more than 63 bytes")
    if not _NAME_PATTERN.fullmatch(name):
        faults.append(f"name part {_NAME_RULE}")
    return faults


def value_faults(value: str) -> list[str]:
    """What is wrong with a label value; each a sentence of ``content.IsLabelValue``."""
    faults: list[str] = []
    if len(value.encode()) > 63:
        faults.append("must be no more than 63 bytes")
    if value and not _NAME_PATTERN.fullmatch(value):
        faults.append(_VALUE_RULE)
    return faults


@dataclass(frozen=True)
class Requirement:
    """One condition on one label.

    Attributes:
        operator: ``in``, ``notin``, ``=``, ``==``, ``!=``, ``exists``, ``!``, ``gt`` or ``lt``.
        values: sorted and without repetition.
    """

    key: str
    operator: str
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """Whether an object with these labels satisfies it."""
        value = labels.get(self.key)
        match self.operator:
            case "in" | "=" | "==":
                return value is not None and value in self.values
            case "notin" | "!=":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
        if value is None or not _integer(value):
            return False
        bound = int(self.values[0])
        return int(value) > bound if self.operator == "gt" else int(value) < bound

    def __str__(self) -> str:
        listed = ",".join(self.values)
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({listed})"
            case "gt" | "lt":
                return f"{self.key}{'>' if self.operator == 'gt' else '<'}{listed}"
        return f"{self.key}{self.operator}{listed}"


@dataclass(frozen=True)
class LabelSelector:
    """All of several requirements.

    Attributes:
        requirements: sorted by key; none of them selects everything.
        nothing: select no object at all, as a selector that is not set does.
    """

    requirements: tuple[Requirement, ...] = ()
    nothing: bool = False

    @property
    def empty(self) -> bool:
        """Whether it selects everything."""
        return not self.requirements and not self.nothing

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether an object with these labels is selected."""
        if self.nothing:
            return False
        found = labels or {}
        return all(requirement.matches(found) for requirement in self.requirements)

    def __str__(self) -> str:
        return ",".join(str(requirement) for requirement in self.requirements)


@lru_cache(maxsize=1024)
def labels(text: str) -> LabelSelector:
    """Parse a label selector.

    Raises:
        StatusError: 400, in the words of the server.
    """
    return LabelSelector(tuple(sorted(_Parser(text).parse(), key=lambda found: found.key)))


def from_object(selector: Object | None) -> LabelSelector:
    """The selector of a ``metav1.LabelSelector``: ``None`` selects nothing, ``{}`` everything.

    Raises:
        StatusError: 400, for an operator or a value that validation would have refused.
    """
    if selector is None:
        return LabelSelector(nothing=True)
    found = [
        _requirement(key, "=", [value])
        for key, value in (selector.get("matchLabels") or {}).items()
    ]
    for expression in selector.get("matchExpressions") or ():
        operator = expression.get("operator")
        try:
            name = {"In": "in", "NotIn": "notin", "Exists": "exists", "DoesNotExist": "!"}[operator]
        except KeyError:
            raise bad_request(
                f"{json.dumps(operator or '')} is not a valid label selector operator"
            ) from None
        found.append(_requirement(expression["key"], name, expression.get("values") or ()))
    return LabelSelector(tuple(sorted(found, key=lambda requirement: requirement.key)))


def _requirement(key: str, operator: str, values: Iterable[str]) -> Requirement:
    given = sorted(set(values))
    faults: list[str] = []

    def fault(path: str, value: Any, detail: str) -> None:
        shown = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        faults.append(f"{path}: Invalid value: {shown}: {detail}")

    if wrong := key_faults(key):
        fault("key", key, "; ".join(wrong))
    if operator in ("in", "notin") and not given:
        fault("values", given, "for 'in', 'notin' operators, values set can't be empty")
    elif operator in ("exists", "!") and given:
        fault("values", given, "values set must be empty for exists and does not exist")
    elif operator in ("gt", "lt") and not _integer(given[0]):
        fault("values[0]", given[0], "for 'Gt', 'Lt' operators, the value must be an integer")
    for index, value in enumerate(given):
        if wrong := value_faults(value):
            fault(f"values[{index}][{key}]", value, "; ".join(wrong))
    if faults:
        raise bad_request(faults[0] if len(faults) == 1 else f"[{', '.join(faults)}]")
    return Requirement(key, operator, tuple(given))


def _integer(text: str) -> bool:
    return bool(re.fullmatch(r"[+-]?[0-9]+", text)) and -(2**63) <= int(text) < 2**63


class _Parser:
    """Recursive descent over the tokens; the end of the text is the token ``""``."""

    def __init__(self, text: str) -> None:
        self._tokens: list[str] = [token for token in _TOKENS.findall(text) if token]
        self._tokens.append("")
        self._next = 0

    def _peek(self) -> str:
        return self._tokens[self._next]

    def _take(self) -> str:
        token = self._tokens[self._next]
        # Past its end a text goes on ending.
        self._next = min(self._next + 1, len(self._tokens) - 1)
        return token

    def parse(self) -> list[Requirement]:
        found: list[Requirement] = []
        while token := self._peek():
            if token in _SYMBOLS and token != "!":
                raise bad_request(f"found '{token}', expected: !, identifier, or 'end of string'")
            try:
                found.append(self._one())
            except StatusError as error:
                raise bad_request(f"unable to parse requirement: {error.message}") from None
            token = self._take()
            if token == ",":
                after = self._peek()
                if not after or (after in _SYMBOLS and after != "!"):
                    raise bad_request(f"found '{after}', expected: identifier after ','")
            elif token:
                raise bad_request(f"found '{token}', expected: ',' or 'end of string'")
        return found

    def _one(self) -> Requirement:
        absent = self._peek() == "!"
        if absent:
            self._take()
        key = self._take()
        if not key or key in _SYMBOLS:
            raise bad_request(f"found '{key}', expected: identifier")
        if wrong := key_faults(key):
            raise bad_request(f"<nil>: Invalid value: {json.dumps(key)}: {'; '.join(wrong)}")
        if absent or self._peek() in ("", ","):
            return _requirement(key, "!" if absent else "exists", ())
        token = self._take()
        if token not in _BINARY:
            raise bad_request(f"found '{token}', expected: {_OPERATORS}")
        operator = _BINARY[token]
        if operator in ("in", "notin"):
            return _requirement(key, operator, self._set())
        return _requirement(key, operator, [self._exact()])

    def _exact(self) -> str:
        if self._peek() in ("", ","):
            return ""
        token = self._take()
        if token in _SYMBOLS:
            raise bad_request(f"found '{token}', expected: identifier")
        return token

    def _set(self) -> set[str]:
        token = self._take()
        if token != "(":
            raise bad_request(f"found '{token}' expected: '('")
        token = self._peek()
        if token == ")":
            self._take()
            return {""}
        if not token or (token in _SYMBOLS and token != ","):
            raise bad_request(f"found '{token}', expected: ',', ')' or identifier")
        found: set[str] = set()
        while True:
            token = self._take()
            if token == ",":
                if not found:
                    found.add("")
                if self._peek() in (")", ","):
                    found.add("")
                if self._peek() == ")":
                    break
            elif token and token not in _SYMBOLS:
                found.add(token)
                if self._peek() == ")":
                    break
                if self._peek() != ",":
                    raise bad_request(f"found '{self._peek()}', expected: ',' or ')'")
            else:
                raise bad_request(f"found '{token}', expected: ',', or identifier")
        self._take()
        return found


__all__ = [
    "FieldSelector",
    "LabelSelector",
    "Requirement",
    "field",
    "from_object",
    "key_faults",
    "labels",
    "value_faults",
]
