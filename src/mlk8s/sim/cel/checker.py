"""Type checking of CEL expressions, and their translation to nested closures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

from mlk8s.sim.cel import macros
from mlk8s.sim.cel.functions import FUNCTIONS
from mlk8s.sim.cel.operators import INDEX, OPERATORS, maybe, select
from mlk8s.sim.cel.overloads import Env, Eval, dispatch, fitting, join, unify
from mlk8s.sim.cel.parser import Node, issue
from mlk8s.sim.cel.values import (
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    INT,
    NULL,
    STRING,
    TYPE,
    UINT,
    CelError,
    Type,
    Uint,
    list_of,
    map_of,
    optional_of,
)

_LITERALS = (
    (bool, BOOL),
    (Uint, UINT),
    (int, INT),
    (float, DOUBLE),
    (str, STRING),
    (bytes, BYTES),
)
_TYPES = frozenset(
    ("bool", "bytes", "double", "int", "list", "map", "null_type", "string", "type", "uint")
)
_NAMESPACES = ("cel", "format", "ip", "optional", "sets")

Typed: TypeAlias = tuple[Type, Eval]
Scope: TypeAlias = dict[str, Type]


class Checker:
    """Finds the type of each part and makes the function that evaluates it.

    Attributes:
        issues: what is wrong, with its place in the text.
        unknown: places of functions that do not exist.
    """

    def __init__(self, text: str) -> None:
        self._text = text
        self.issues: list[tuple[int, str]] = []
        self.unknown: set[int] = set()

    def check(self, node: Node, scope: Scope) -> Typed:
        """The type of a part, and its function."""
        checked: Typed = getattr(self, f"_{node.kind}")(node, scope)
        return checked

    def issue(self, at: int, message: str) -> Typed:
        """Note a mistake; the type of the part is then unknown."""
        self.issues.append((at, issue(self._text, at, message)))
        return DYN, lambda env: None

    def _literal(self, node: Node, scope: Scope) -> Typed:
        value = node.value
        kind = next((kind for of, kind in _LITERALS if isinstance(value, of)), NULL)
        return kind, lambda env: value

    def _ident(self, node: Node, scope: Scope) -> Typed:
        name = node.name
        if name not in scope and name in _TYPES:
            return TYPE, lambda env: Type(name)
        if name not in scope:
            return self.issue(node.at, f"undeclared reference to '{name}' (in container '')")
        return scope[name], lambda env: env[name]

    def _list(self, node: Node, scope: Scope) -> Typed:
        items = [self.check(item, scope) for item in node.args]
        functions = [function for _, function in items]
        return list_of(join(kind for kind, _ in items)), lambda env: [f(env) for f in functions]

    def _map(self, node: Node, scope: Scope) -> Typed:
        parts = [self.check(part, scope) for part in node.args]
        keys, values = parts[::2], parts[1::2]
        kind = map_of(join(k for k, _ in keys), join(v for v, _ in values))
        pairs = [(k, v) for (_, k), (_, v) in zip(keys, values, strict=True)]
        return kind, lambda env: {key(env): value(env) for key, value in pairs}

    def _select(self, node: Node, scope: Scope) -> Typed:
        assert node.target is not None
        of, target = self.check(node.target, scope)
        name, kind = node.name, DYN
        inner = of.params[0] if of.name == "optional_type" else of
        if inner.fields is not None:
            if name not in inner.fields:
                return self.issue(node.at, f"undefined field '{name}'")
            kind = inner.fields[name]
        elif inner.name == "map":
            kind = inner.params[1]
        elif not inner.loose:
            return self.issue(node.at, f"type '{of}' does not support field selection")
        if node.optional or of is not inner:
            return optional_of(kind), lambda env: maybe(target(env), name)
        return kind, lambda env: select(target(env), name)

    def _call(self, node: Node, scope: Scope) -> Typed:
        if (macro := macros.expand(self, node, scope)) is not None:
            return macro
        if node.name == "_[_]":
            return self._index(node, scope)
        if node.name in ("_&&_", "_||_"):
            return self._logic(node, scope)
        name, nodes = node.name, list(node.args)
        member = node.target is not None
        if node.target is not None:
            qualified = f"{node.target.name}.{name}"
            space = node.target.name if node.target.kind == "ident" else ""
            if space in _NAMESPACES and space not in scope:
                name, member = qualified, False
            else:
                nodes.insert(0, node.target)
        checked = [self.check(part, scope) for part in nodes]
        functions = [function for _, function in checked]
        if name == "_?_:_":
            return self._ternary(node, checked)
        overloads = FUNCTIONS.get(name) or OPERATORS.get(name)
        if overloads is None:
            self.unknown.add(node.at)
            return self.issue(node.at, f"undeclared reference to '{name}' (in container '')")
        kinds = [kind for kind, _ in checked]
        forms, result = fitting(overloads, kinds, member)
        if not forms:
            shown = [str(kind) for kind, _ in checked]
            listed = f"({', '.join(shown)})"
            if member:
                listed = f"{shown[0]}.({', '.join(shown[1:])})"
            return self.issue(
                node.at, f"found no matching overload for '{name}' applied to '{listed}'"
            )
        return result, dispatch(name, forms, functions, kinds)

    def _ternary(self, node: Node, checked: Sequence[Typed]) -> Typed:
        (condition, test), (first, yes), (second, no) = checked
        if not (condition == BOOL or condition.loose) or unify(first, second, {}) is False:
            listed = ", ".join(str(kind) for kind, _ in checked)
            return self.issue(
                node.at, f"found no matching overload for '_?_:_' applied to '({listed})'"
            )

        def evaluate(env: Env) -> Any:
            decided = test(env)
            if not isinstance(decided, bool):
                raise CelError("no such overload")
            return yes(env) if decided else no(env)

        return join((first, second)), evaluate

    def _logic(self, node: Node, scope: Scope) -> Typed:
        checked = [self.check(part, scope) for part in node.args]
        if not all(kind == BOOL or kind.loose for kind, _ in checked):
            listed = ", ".join(str(kind) for kind, _ in checked)
            return self.issue(
                node.at, f"found no matching overload for '{node.name}' applied to '({listed})'"
            )
        decisive = node.name == "_||_"
        functions = [function for _, function in checked]

        def evaluate(env: Env) -> bool:
            # An error counts only if no other operand decides.
            failed: CelError | None = None
            for function in functions:
                try:
                    value: object = function(env)
                except CelError as error:
                    failed = failed or error
                    continue
                if value is decisive:
                    return decisive
                if not isinstance(value, bool):
                    failed = failed or CelError("no such overload")
            if failed is not None:
                raise failed
            return not decisive

        return BOOL, evaluate

    def _index(self, node: Node, scope: Scope) -> Typed:
        (of, target), (key, index) = (self.check(part, scope) for part in node.args)
        inner = of.params[0] if of.name == "optional_type" else of
        forms, kind = fitting(INDEX, [inner, key], member=False)
        if not forms:
            return self.issue(
                node.at, f"found no matching overload for '_[_]' applied to '({of}, {key})'"
            )
        if node.optional or of is not inner:
            return optional_of(kind), lambda env: maybe(target(env), index(env))
        return kind, lambda env: select(target(env), index(env))

    # -- macros ----------------------------------------------------------------------------------
