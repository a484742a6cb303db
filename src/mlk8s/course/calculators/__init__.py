"""The calculators: GPU memory of a model, place under the roofline, MIG layout, cost per token.

They ask the library's own arithmetic and answer with its tables, from a terminal (``mlk8s calc``)
and in the book's page, where Pyodide runs this same code in the browser. So nothing that is
imported here may need more than the standard library; ``page`` makes forms of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

from mlk8s.course.calculators.costs import Cost
from mlk8s.course.calculators.inputs import Answer, Ask, Calculator, Invalid, Listing
from mlk8s.course.calculators.layouts import Mig
from mlk8s.course.calculators.sizes import Memory, Roofline
from mlk8s.errors import UsageError

__all__ = [
    "CALCULATORS",
    "Answer",
    "Ask",
    "Calculator",
    "Invalid",
    "Listing",
    "answer_json",
    "get",
    "variants",
]

#: In the order of the page.
CALCULATORS: tuple[type[Calculator], ...] = (Memory, Roofline, Mig, Cost)


def get(name: str) -> type[Calculator]:
    """The calculator of a name.

    Raises:
        UsageError: there is none.
    """
    for each in CALCULATORS:
        if each.name == name:
            return each
    known = ", ".join(each.name for each in CALCULATORS)
    raise UsageError(f"There is no calculator {name!r}.", f"use one of: {known}.")


def answer_json(name: str, given: str) -> str:
    """Read what was typed, compute, and answer: the one call that a page makes.

    Args:
        name: of the calculator.
        given: a JSON object, name of an input → text.

    Returns:
        A JSON object: ``finding`` and ``details`` as HTML, ``command`` as text and ``inputs``,
        those that differ from their defaults; or ``field`` and ``problem`` where an input cannot
        be used.
    """
    try:
        calculator = get(name).read(json.loads(given))
        found = {
            **calculator.answer().as_html(),
            "command": calculator.command(),
            "inputs": calculator.texts(),
        }
    except Invalid as error:
        found = {"field": error.field, "problem": str(error)}
    return json.dumps(found)


def variants(calculator: type[Calculator]) -> Iterator[dict[str, str]]:
    """Inputs that between them take every choice once, the rest at their defaults."""
    inputs = calculator.inputs()
    yield {}
    for name, (ask, default) in inputs.items():
        outer = {}
        if ask.when is not None:
            other, values = ask.when
            if inputs[other][1] not in values:
                outer = {other: values[0]}
        for value in ask.choices:
            if value != default:
                yield {**outer, name: value}
