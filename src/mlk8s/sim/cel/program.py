"""An expression in CEL, compiled: what :func:`compile` gives, and what can go wrong before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from mlk8s.sim.cel.checker import Checker
from mlk8s.sim.cel.overloads import Eval
from mlk8s.sim.cel.parser import CelSyntaxError, parse
from mlk8s.sim.cel.values import CelError, Type


class Undeclared(CelError):
    """An expression calls functions that are not known here."""


@dataclass(frozen=True)
class Program:
    """A compiled expression.

    Attributes:
        expression: its text.
        type: of its result.
    """

    expression: str
    type: Type
    _evaluate: Eval = field(repr=False)

    def evaluate(self, variables: Mapping[str, Any]) -> Any:
        """Its value.

        Raises:
            CelError: it cannot be evaluated for these values, such as ``no such key: index``.
        """
        return self._evaluate({**variables, "@turns": [0]})


def compile(expression: str, variables: Mapping[str, Type]) -> Program:
    """Compile an expression in which variables of these types stand.

    Raises:
        CelError: with Kubernetes' message, such as ``compilation failed: ERROR: …``;
            :class:`Undeclared` if that is all that is wrong.
    """
    try:
        tree = parse(expression)
    except CelSyntaxError as error:
        raise CelError(f"compilation failed: {error}") from None
    checker = Checker(expression)
    kind, evaluate = checker.check(tree, dict(variables))
    if checker.issues:
        found = [text for _, text in sorted(set(checker.issues))]
        known = any(at not in checker.unknown for at, _ in checker.issues)
        raise (CelError if known else Undeclared)("compilation failed: " + "\n".join(found))
    return Program(expression, kind, evaluate)
