"""What a calculator asks for, and what it answers: descriptions that forms are made from.

A calculator is a frozen dataclass whose fields are declared with :func:`choice`, :func:`whole`,
:func:`number` and :func:`text`. The same declarations make the form of a page, the help of
``mlk8s calc`` and the check of what somebody typed. Only the standard library is imported here and
in what the calculators use: they run in a browser, too.
"""

from __future__ import annotations

import dataclasses
import html
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, Self

from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.provenance import Finding, Table

#: The dataclass metadata under which a field keeps its description.
_ASK = "ask"


class Invalid(UsageError):
    """An input that cannot be used.

    Args:
        field: the name of the input.
        problem: as in every error of the library.
        next_step: likewise.
    """

    def __init__(self, field: str, problem: str, next_step: str) -> None:
        super().__init__(problem, next_step)
        self.field = field


@contextmanager
def at(field: str) -> Iterator[None]:
    """Say of an error that the library raises inside which input it is about."""
    try:
        yield
    except Mlk8sError as error:
        raise Invalid(field, error.problem, error.next_step) from error


@dataclasses.dataclass(frozen=True)
class Ask:
    """One input.

    Attributes:
        label: what it is called in a form.
        help: one sentence below it; empty where the label says all.
        unit: of the number.
        low: least value.
        high: largest value.
        choices: value → what a reader sees; empty where anything may be typed.
        when: another input and those of its values for which this one counts.
    """

    label: str
    help: str = ""
    unit: str = ""
    low: float | None = None
    high: float | None = None
    choices: Mapping[str, str] = dataclasses.field(default_factory=dict)
    when: tuple[str, tuple[str, ...]] | None = None

    def says(self) -> str:
        """Label, unit and help as one text."""
        unit = f" [{self.unit}]" if self.unit else ""
        return f"{self.label}{unit}" + (f": {self.help}" if self.help else "")

    def may_be(self) -> str:
        """What may be written."""
        if self.choices:
            return f"one of: {', '.join(self.choices)}"
        if self.low is None or self.high is None:
            return "words as the help of the input says"
        return f"a number from {self.low:.15g} to {self.high:.15g}"


def _ask(default: Any, ask: Ask) -> Any:
    return dataclasses.field(default=default, metadata={_ASK: ask})


def _when(counts: Mapping[str, Sequence[str]] | None) -> tuple[str, tuple[str, ...]] | None:
    if counts is None:
        return None
    [(name, values)] = counts.items()
    return name, tuple(values)


def choice(
    label: str,
    default: str,
    choices: Mapping[str, str],
    help: str = "",
    *,
    when: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """One of several values; see :class:`Ask`."""
    return _ask(default, Ask(label, help, choices=choices, when=_when(when)))


def whole(
    label: str,
    default: int,
    help: str = "",
    *,
    unit: str = "",
    low: int = 1,
    high: int = 10**12,
    when: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """A whole number; see :class:`Ask`."""
    return _ask(default, Ask(label, help, unit, low, high, when=_when(when)))


def number(
    label: str,
    default: float,
    help: str = "",
    *,
    unit: str,
    low: float,
    high: float,
    when: Mapping[str, Sequence[str]] | None = None,
) -> Any:
    """A decimal number; see :class:`Ask`."""
    return _ask(float(default), Ask(label, help, unit, low, high, when=_when(when)))


def text(
    label: str, default: str, help: str, *, when: Mapping[str, Sequence[str]] | None = None
) -> Any:
    """Words that the calculator itself reads; see :class:`Ask`."""
    return _ask(default, Ask(label, help, when=_when(when)))


@dataclasses.dataclass(frozen=True)
class Listing:
    """Lines to be read or copied as they are: a command, a manifest, a drawing in characters.

    Attributes:
        title: what they are.
        text: the lines.
    """

    title: str
    text: str

    def __repr__(self) -> str:
        return f"{self.title}:\n{self.text}"

    def _repr_html_(self) -> str:
        return (
            f'<figure class="mlk8s-listing"><figcaption>{html.escape(self.title)}</figcaption>'
            f'<pre tabindex="0">{html.escape(self.text)}</pre></figure>'
        )


@dataclasses.dataclass(frozen=True)
class Answer:
    """What a calculator found.

    Attributes:
        finding: the answer in words.
        details: how it comes about, a table with the same provenance first.
    """

    finding: Finding
    details: tuple[Table | Listing, ...]

    def __repr__(self) -> str:
        return "\n\n".join([self.finding.text, *map(repr, self.details)])

    def as_html(self) -> dict[str, str]:
        """``finding`` and ``details`` as HTML; the badges are under the table, and once."""
        details = "".join(each._repr_html_() for each in self.details)
        return {"finding": f"<p>{html.escape(self.finding.text)}</p>", "details": details}


@dataclasses.dataclass(frozen=True)
class Calculator:
    """A question with inputs; a subclass declares the inputs and answers.

    Attributes:
        name: in addresses and on the command line.
        title: as a heading.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    def answer(self) -> Answer:
        """Compute it.

        Raises:
            Invalid: an input that cannot be used with the others.
        """
        raise NotImplementedError

    @classmethod
    def inputs(cls) -> dict[str, tuple[Ask, str]]:
        """The inputs in order: name → description and the default as text."""
        return {
            field.name: (field.metadata[_ASK], _typed(field.default))
            for field in dataclasses.fields(cls)
        }

    @classmethod
    def read(cls, given: Mapping[str, str]) -> Self:
        """A calculator from what was typed.

        An input that does not count, as another one says, keeps its default, whatever was typed.

        Args:
            given: name → text; what is missing has its default.

        Raises:
            Invalid: a text that is no value of its input, or an unknown name.
        """
        values: dict[str, Any] = {}
        fields = {field.name: field for field in dataclasses.fields(cls)}
        for name in given:
            if name not in fields:
                raise Invalid(
                    name,
                    f"The calculator {cls.name} has no input {name!r}.",
                    f"use one of: {', '.join(fields)}.",
                )
        for name, field in fields.items():
            ask: Ask = field.metadata[_ASK]
            values[name] = field.default
            counts = ask.when is None or (values[ask.when[0]] in ask.when[1])
            if name in given and counts:
                values[name] = _read(name, ask, type(field.default), given[name].strip())
        return cls(**values)

    def texts(self) -> dict[str, str]:
        """The inputs that differ from their defaults, as they would be typed."""
        return {
            field.name: _typed(getattr(self, field.name))
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        }

    def command(self) -> str:
        """What computes the same in a terminal."""
        words = [f"{name}={value}" for name, value in self.texts().items()]
        return shlex.join([".venv/bin/mlk8s", "calc", self.name, *words])


def _typed(value: Any) -> str:
    """A value as somebody would type it."""
    return str(value).removesuffix(".0") if isinstance(value, float) else str(value)


def _read(name: str, ask: Ask, kind: type, typed: str) -> Any:
    """The value of a text."""
    if not typed:
        raise Invalid(name, f"{ask.label} is empty.", f"write {ask.may_be()}.")
    if ask.choices and typed not in ask.choices:
        raise Invalid(name, f"{ask.label} cannot be {typed!r}.", f"take {ask.may_be()}.")
    if kind is str:
        return typed
    try:
        value = int(typed) if kind is int else float(typed)
    except ValueError as error:
        what = "whole number" if kind is int else "number"
        raise Invalid(
            name,
            f"{ask.label}: {typed[:40]!r} is not a {what}.",
            f"write {ask.may_be()}, in digits and without separators.",
        ) from error
    # Not a number compares with nothing, so it is in no range.
    if not (ask.low is None or value >= ask.low) or not (ask.high is None or value <= ask.high):
        raise Invalid(name, f"{ask.label}: {typed[:40]} is out of range.", f"write {ask.may_be()}.")
    return value
