"""Type checking of CEL expressions, and their translation to nested closures."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias

from mlk8s.sim.scheduler import cel_library as lib
from mlk8s.sim.scheduler.cel_library import (
    ANY,
    BOOL,
    BYTES,
    DOUBLE,
    DYN,
    FUNCTIONS,
    INT,
    NULL,
    QUANTITY,
    STRING,
    UINT,
    A,
    B,
    CelError,
    Optional,
    Overload,
    Type,
    list_of,
    map_of,
    optional_of,
)
from mlk8s.sim.scheduler.cel_operators import INDEX, OPERATORS, select
from mlk8s.sim.scheduler.cel_parser import Node, Uint, issue

DEVICE = Type("kubernetes.DRADevice")
_DEVICE_FIELDS = {
    "driver": STRING,
    "allowMultipleAllocations": BOOL,
    "attributes": map_of(STRING, map_of(STRING, ANY)),
    "capacity": map_of(STRING, map_of(STRING, QUANTITY)),
}
_LITERALS = (
    (bool, BOOL),
    (Uint, UINT),
    (int, INT),
    (float, DOUBLE),
    (str, STRING),
    (bytes, BYTES),
)
# resourceapi.CELSelectorExpressionMaxCost is a million units; one turn of a loop costs several.
_MAX_TURNS = 100_000
_NAMESPACES = ("cel", "optional", "sets")
_LOOPS = ("all", "exists", "exists_one", "existsOne", "map", "filter")

Env: TypeAlias = dict[str, Any]
Eval: TypeAlias = Callable[[Env], Any]
Typed: TypeAlias = tuple[Type, Eval]
Scope: TypeAlias = dict[str, Type]


class Checker:
    """Finds the type of each part and makes the function that evaluates it."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.issues: list[tuple[int, str]] = []

    def check(self, node: Node, scope: Scope) -> Typed:
        """The type of a part, and its function."""
        checked: Typed = getattr(self, f"_{node.kind}")(node, scope)
        return checked

    def _issue(self, at: int, message: str) -> Typed:
        self.issues.append((at, issue(self._text, at, message)))
        return DYN, lambda env: None

    def _literal(self, node: Node, scope: Scope) -> Typed:
        value = node.value
        kind = next((kind for of, kind in _LITERALS if isinstance(value, of)), NULL)
        return kind, lambda env: value

    def _ident(self, node: Node, scope: Scope) -> Typed:
        name = node.name
        if name not in scope:
            return self._issue(node.at, f"undeclared reference to '{name}' (in container '')")
        return scope[name], lambda env: env[name]

    def _list(self, node: Node, scope: Scope) -> Typed:
        items = [self.check(item, scope) for item in node.args]
        functions = [function for _, function in items]
        return list_of(_join(kind for kind, _ in items)), lambda env: [f(env) for f in functions]

    def _map(self, node: Node, scope: Scope) -> Typed:
        parts = [self.check(part, scope) for part in node.args]
        keys, values = parts[::2], parts[1::2]
        kind = map_of(_join(k for k, _ in keys), _join(v for v, _ in values))
        pairs = [(k, v) for (_, k), (_, v) in zip(keys, values, strict=True)]
        return kind, lambda env: {key(env): value(env) for key, value in pairs}

    def _select(self, node: Node, scope: Scope) -> Typed:
        assert node.target is not None
        of, target = self.check(node.target, scope)
        name, kind = node.name, DYN
        inner = of.params[0] if of.name == "optional_type" else of
        if inner == DEVICE:
            if name not in _DEVICE_FIELDS:
                return self._issue(node.at, f"undefined field '{name}'")
            kind = _DEVICE_FIELDS[name]
        elif inner.name == "map":
            kind = inner.params[1]
        elif inner != DYN:
            return self._issue(node.at, f"type '{of}' does not support field selection")
        if node.optional or of is not inner:
            return optional_of(kind), lambda env: _maybe(target(env), name)
        return kind, lambda env: select(target(env), name)

    def _call(self, node: Node, scope: Scope) -> Typed:
        if (macro := self._macro(node, scope)) is not None:
            return macro
        if node.name == "_[_]":
            return self._index(node, scope)
        if node.name in ("_&&_", "_||_"):
            return self._logic(node, scope)
        name, nodes = node.name, list(node.args)
        member = node.target is not None
        if node.target is not None:
            qualified = f"{node.target.name}.{name}"
            if node.target.kind == "ident" and node.target.name in _NAMESPACES:
                name, member = qualified, False
            else:
                nodes.insert(0, node.target)
        checked = [self.check(part, scope) for part in nodes]
        functions = [function for _, function in checked]
        if name == "_?_:_":
            return self._ternary(node, checked)
        overloads = FUNCTIONS.get(name) or OPERATORS.get(name)
        if overloads is None:
            return self._issue(node.at, f"undeclared reference to '{name}' (in container '')")
        fitting, result = _fitting(overloads, [kind for kind, _ in checked], member)
        if not fitting:
            shown = [str(kind) for kind, _ in checked]
            listed = f"({', '.join(shown)})"
            if member:
                listed = f"{shown[0]}.({', '.join(shown[1:])})"
            return self._issue(
                node.at, f"found no matching overload for '{name}' applied to '{listed}'"
            )
        return result, _dispatch(name, fitting, functions, [kind for kind, _ in checked])

    def _ternary(self, node: Node, checked: Sequence[Typed]) -> Typed:
        (condition, test), (first, yes), (second, no) = checked
        if not (condition == BOOL or condition.loose) or _unify(first, second, {}) is False:
            listed = ", ".join(str(kind) for kind, _ in checked)
            return self._issue(
                node.at, f"found no matching overload for '_?_:_' applied to '({listed})'"
            )

        def evaluate(env: Env) -> Any:
            decided = test(env)
            if not isinstance(decided, bool):
                raise CelError("no such overload")
            return yes(env) if decided else no(env)

        return _join((first, second)), evaluate

    def _logic(self, node: Node, scope: Scope) -> Typed:
        checked = [self.check(part, scope) for part in node.args]
        if not all(kind == BOOL or kind.loose for kind, _ in checked):
            listed = ", ".join(str(kind) for kind, _ in checked)
            return self._issue(
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
        fitting, kind = _fitting(INDEX, [inner, key], member=False)
        if not fitting:
            return self._issue(
                node.at, f"found no matching overload for '_[_]' applied to '({of}, {key})'"
            )
        if node.optional or of is not inner:
            return optional_of(kind), lambda env: _maybe(target(env), index(env))
        return kind, lambda env: select(target(env), index(env))

    # -- macros ----------------------------------------------------------------------------------

    def _macro(self, node: Node, scope: Scope) -> Typed | None:
        args = node.args
        if node.target is None:
            return self._has(node, scope) if node.name == "has" and len(args) == 1 else None
        if node.target.kind == "ident" and node.target.name == "cel" and node.name == "bind":
            return self._bind(node, scope) if len(args) == 3 else None
        if node.name in ("optMap", "optFlatMap") and len(args) == 2:
            return self._optional_map(node, scope)
        if node.name in _LOOPS and len(args) in ((2, 3) if node.name == "map" else (2,)):
            return self._loop(node, scope)
        return None

    def _has(self, node: Node, scope: Scope) -> Typed:
        inside = node.args[0]
        if inside.kind != "select" or inside.target is None:
            return self._issue(node.at, "invalid argument to has() macro")
        self._select(inside, scope)
        _, target = self.check(inside.target, scope)
        name = inside.name

        def evaluate(env: Env) -> bool:
            value = target(env)
            if isinstance(value, Optional):
                value = value.value if value.present else {}
            if not isinstance(value, dict):
                raise CelError("no such overload")
            return name in value

        return BOOL, evaluate

    def _bind(self, node: Node, scope: Scope) -> Typed:
        name, init, body = node.args
        if name.kind != "ident":
            return self._issue(name.at, "cel.bind() variable names must be simple identifiers")
        kind, value = self.check(init, scope)
        result, evaluate = self.check(body, {**scope, name.name: kind})
        variable = name.name
        return result, lambda env: evaluate({**env, variable: value(env)})

    def _optional_map(self, node: Node, scope: Scope) -> Typed:
        assert node.target is not None
        of, target = self.check(node.target, scope)
        name, body = node.args
        kind = of.params[0] if of.name == "optional_type" else DYN
        result, evaluate = self.check(body, {**scope, name.name: kind})
        variable, flat = name.name, node.name == "optFlatMap"

        def mapped(env: Env) -> Any:
            optional = target(env)
            if not isinstance(optional, Optional):
                raise CelError("no such overload")
            if not optional.present:
                return optional
            value = evaluate({**env, variable: optional.value})
            return value if flat else Optional(True, value)

        return (result if flat else optional_of(result)), mapped

    def _loop(self, node: Node, scope: Scope) -> Typed:
        assert node.target is not None
        name = node.args[0]
        if name.kind != "ident":
            return self._issue(name.at, "argument must be a simple name")
        of, target = self.check(node.target, scope)
        if of.name not in ("list", "map", "dyn"):
            self._issue(
                node.target.at,
                f"expression of type '{of}' cannot be range of a comprehension "
                "(must be list, map, or dynamic)",
            )
        inner = {**scope, name.name: of.params[0] if of.params else DYN}
        bodies = [self.check(part, inner) for part in node.args[1:]]
        kinds, functions = [kind for kind, _ in bodies], [function for _, function in bodies]
        tests = kinds[:-1] if node.name == "map" else kinds
        for kind in tests:
            if not (kind == BOOL or kind.loose):
                return self._issue(node.at, f"expected type 'bool' but found '{kind}'")
        variable = name.name
        macro = "exists_one" if node.name == "existsOne" else node.name

        def turns(env: Env, function: Eval) -> Iterator[tuple[Any, object]]:
            values = target(env)
            if not isinstance(values, list | dict):
                raise CelError(f"got '{lib.type_name(values)}', expected iterable type")
            for value in list(values):
                env["@turns"][0] += 1
                if env["@turns"][0] > _MAX_TURNS:
                    raise CelError("operation cancelled: actual cost limit exceeded")
                yield value, function({**env, variable: value})

        if macro == "map":
            keep = functions[0] if len(functions) == 2 else None
            if keep is None:
                return list_of(kinds[-1]), lambda env: [r for _, r in turns(env, functions[-1])]
            return list_of(kinds[-1]), lambda env: [
                functions[-1]({**env, variable: value})
                for value, kept in turns(env, functions[0])
                if kept is True
            ]
        if macro == "filter":
            item = of.params[0] if of.params else DYN
            return list_of(item), lambda env: [v for v, kept in turns(env, functions[0]) if kept]
        if macro == "exists_one":
            return BOOL, lambda env: sum(r is True for _, r in turns(env, functions[0])) == 1
        return BOOL, lambda env: _quantify(env, turns, functions[0], macro == "exists")


def _quantify(
    env: Env,
    turns: Callable[[Env, Eval], Iterator[tuple[Any, object]]],
    function: Eval,
    decisive: bool,
) -> bool:
    """``all`` and ``exists``: an error counts only if no other item decides."""
    failed: CelError | None = None

    def guarded(inner: Env) -> Any:
        nonlocal failed
        try:
            return function(inner)
        except CelError as error:
            failed = failed or error
            return None

    for _, result in turns(env, guarded):
        if result is decisive:
            return decisive
    if failed is not None:
        raise failed
    return not decisive


def _maybe(value: Any, key: Any) -> Optional:
    if isinstance(value, Optional):
        if not value.present:
            return value
        value = value.value
    if isinstance(value, dict):
        return Optional(True, value[key]) if key in value else Optional(False)
    if isinstance(value, list) and isinstance(key, int):
        return Optional(True, value[key]) if 0 <= key < len(value) else Optional(False)
    raise CelError("no such overload")


def _unify(left: Type, right: Type, bound: dict[str, Type]) -> bool:
    """Whether a value of one type can stand where the other is wanted; binds A and B."""
    for one, other in ((left, right), (right, left)):
        if one.name in ("A", "B"):
            known = bound.get(one.name)
            if known is None or known.loose:
                bound[one.name] = other
                return True
            return _unify(known, other, bound)
    if left.loose or right.loose:
        return True
    if left.name != right.name or len(left.params) != len(right.params):
        return False
    return all(_unify(a, b, bound) for a, b in zip(left.params, right.params, strict=True))


def _resolved(kind: Type, bound: dict[str, Type]) -> Type:
    if kind.name in ("A", "B"):
        return bound.get(kind.name, DYN)
    return Type(kind.name, tuple(_resolved(param, bound) for param in kind.params))


def _fitting(
    overloads: Sequence[Overload], kinds: Sequence[Type], member: bool
) -> tuple[list[Overload], Type]:
    """The overloads that can apply, and the type of their result."""
    found, results = [], []
    for overload in overloads:
        if overload.member != member or len(overload.args) != len(kinds):
            continue
        bound: dict[str, Type] = {}
        if all(_unify(want, have, bound) for want, have in zip(overload.args, kinds, strict=True)):
            found.append(overload)
            results.append(_resolved(overload.result, bound))
    return found, _join(results)


def _join(kinds: Iterable[Type]) -> Type:
    """The one type of several, ``dyn`` when they differ."""
    different = list(dict.fromkeys(kinds))
    return different[0] if len(different) == 1 else DYN


def _dispatch(
    name: str, overloads: Sequence[Overload], functions: Sequence[Eval], kinds: Sequence[Type]
) -> Eval:
    """Call the overload that the values fit."""
    certain = all(
        not have.loose or want.loose or want in (A, B)
        for want, have in zip(overloads[0].args, kinds, strict=True)
    )
    if len(overloads) == 1 and certain:
        impl = overloads[0].impl
        if len(functions) == 2:
            first, second = functions
            return lambda env: impl(first(env), second(env))
        return lambda env: impl(*(function(env) for function in functions))

    def evaluate(env: Env) -> Any:
        values = [function(env) for function in functions]
        for overload in overloads:
            if overload.takes(values):
                return overload.impl(*values)
        if name in OPERATORS:
            raise CelError("no such overload")
        listed = ", ".join(map(lib.type_name, values))
        raise CelError(f"no such overload: {name}({listed})")

    return evaluate
