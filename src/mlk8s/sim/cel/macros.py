"""The macros of CEL: ``has``, ``all``, ``map``, ``cel.bind`` … ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from mlk8s.sim.cel.overloads import Env, Eval
from mlk8s.sim.cel.parser import Node
from mlk8s.sim.cel.values import (
    BOOL,
    DYN,
    CelError,
    Optional,
    list_of,
    optional_of,
    type_name,
)

if TYPE_CHECKING:
    from mlk8s.sim.cel.checker import Checker, Scope, Typed

# resourceapi.CELSelectorExpressionMaxCost is a million units; one turn of a loop costs several.
_MAX_TURNS = 100_000
_LOOPS = ("all", "exists", "exists_one", "existsOne", "map", "filter")


def expand(checker: Checker, node: Node, scope: Scope) -> Typed | None:
    """What a call means that is a macro; ``None`` when it is none."""
    args = node.args
    if node.target is None:
        return _has(checker, node, scope) if node.name == "has" and len(args) == 1 else None
    if node.target.kind == "ident" and node.target.name == "cel" and node.name == "bind":
        return _bind(checker, node, scope) if len(args) == 3 else None
    if node.name in ("optMap", "optFlatMap") and len(args) == 2:
        return _optional_map(checker, node, scope)
    if node.name in _LOOPS and len(args) in ((2, 3) if node.name == "map" else (2,)):
        return _loop(checker, node, scope)
    return None


def _has(checker: Checker, node: Node, scope: Scope) -> Typed:
    inside = node.args[0]
    if inside.kind != "select" or inside.target is None:
        return checker.issue(node.at, "invalid argument to has() macro")
    checker.check(inside, scope)
    _, target = checker.check(inside.target, scope)
    name = inside.name

    def evaluate(env: Env) -> bool:
        value = target(env)
        if isinstance(value, Optional):
            value = value.value if value.present else {}
        if not isinstance(value, dict):
            raise CelError("no such overload")
        return name in value

    return BOOL, evaluate


def _bind(checker: Checker, node: Node, scope: Scope) -> Typed:
    name, init, body = node.args
    if name.kind != "ident":
        return checker.issue(name.at, "cel.bind() variable names must be simple identifiers")
    kind, value = checker.check(init, scope)
    result, evaluate = checker.check(body, {**scope, name.name: kind})
    variable = name.name
    return result, lambda env: evaluate({**env, variable: value(env)})


def _optional_map(checker: Checker, node: Node, scope: Scope) -> Typed:
    assert node.target is not None
    of, target = checker.check(node.target, scope)
    name, body = node.args
    kind = of.params[0] if of.name == "optional_type" else DYN
    result, evaluate = checker.check(body, {**scope, name.name: kind})
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


def _loop(checker: Checker, node: Node, scope: Scope) -> Typed:
    assert node.target is not None
    name = node.args[0]
    if name.kind != "ident":
        return checker.issue(name.at, "argument must be a simple name")
    of, target = checker.check(node.target, scope)
    if of.name not in ("list", "map", "dyn"):
        checker.issue(
            node.target.at,
            f"expression of type '{of}' cannot be range of a comprehension "
            "(must be list, map, or dynamic)",
        )
    inner = {**scope, name.name: of.params[0] if of.params else DYN}
    bodies = [checker.check(part, inner) for part in node.args[1:]]
    kinds, functions = [kind for kind, _ in bodies], [function for _, function in bodies]
    tests = kinds[:-1] if node.name == "map" else kinds
    for kind in tests:
        if not (kind == BOOL or kind.loose):
            return checker.issue(node.at, f"expected type 'bool' but found '{kind}'")
    variable = name.name
    macro = "exists_one" if node.name == "existsOne" else node.name

    def turns(env: Env, function: Eval) -> Iterator[tuple[Any, object]]:
        values = target(env)
        if not isinstance(values, list | dict):
            raise CelError(f"got '{type_name(values)}', expected iterable type")
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
