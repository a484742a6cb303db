"""Which form of a function fits, and how it is called."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from mlk8s.sim.cel.values import DYN, A, B, CelError, Type, type_name

Env: TypeAlias = dict[str, Any]
Eval: TypeAlias = Callable[[Env], Any]
Impl: TypeAlias = Callable[..., Any]


@dataclass(frozen=True)
class Overload:
    """One form of a function.

    Attributes:
        member: called as ``args[0].name(…)``.
        args: types; the first is the target of a method.
    """

    args: tuple[Type, ...]
    result: Type
    impl: Impl
    member: bool = False

    def takes(self, values: Iterable[Any]) -> bool:
        """Whether it can be called with these values."""
        return all(_is(value, kind) for value, kind in zip(values, self.args, strict=False))


def _is(value: Any, kind: Type) -> bool:
    if kind.loose or kind in (A, B):
        return True
    name = type_name(value)
    if name == "list" and kind.params:
        return kind.name == "list" and all(_is(item, kind.params[0]) for item in value)
    return name == kind.name


# g: a global function, m: a method, gm: both; then arguments, result and what it does.
Form: TypeAlias = tuple[str, tuple[Type, ...], Type, Impl]


def parses(parse: Callable[..., Any]) -> Impl:
    """Whether a function takes its arguments, as ``isURL`` says of ``url``."""

    def check(*args: Any) -> bool:
        try:
            parse(*args)
        except CelError:
            return False
        return True

    return check


def unify(left: Type, right: Type, bound: dict[str, Type]) -> bool:
    """Whether a value of one type can stand where the other is wanted; binds A and B."""
    for one, other in ((left, right), (right, left)):
        if one.name in ("A", "B"):
            known = bound.get(one.name)
            if known is None or known.loose:
                bound[one.name] = other
                return True
            return unify(known, other, bound)
    if left.loose or right.loose:
        return True
    if left.name != right.name or len(left.params) != len(right.params):
        return False
    return all(unify(a, b, bound) for a, b in zip(left.params, right.params, strict=True))


def _resolved(kind: Type, bound: dict[str, Type]) -> Type:
    if kind.name in ("A", "B"):
        return bound.get(kind.name, DYN)
    return Type(kind.name, tuple(_resolved(param, bound) for param in kind.params))


def fitting(
    overloads: Sequence[Overload], kinds: Sequence[Type], member: bool
) -> tuple[list[Overload], Type]:
    """The overloads that can apply, and the type of their result."""
    found, results = [], []
    for overload in overloads:
        if overload.member != member or len(overload.args) != len(kinds):
            continue
        bound: dict[str, Type] = {}
        if all(unify(want, have, bound) for want, have in zip(overload.args, kinds, strict=True)):
            found.append(overload)
            results.append(_resolved(overload.result, bound))
    return found, join(results)


def join(kinds: Iterable[Type]) -> Type:
    """The one type of several, ``dyn`` when they differ."""
    different = list(dict.fromkeys(kinds))
    return different[0] if len(different) == 1 else DYN


def dispatch(
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
        if not name[0].isalpha():
            raise CelError("no such overload")
        listed = ", ".join(map(type_name, values))
        raise CelError(f"no such overload: {name}({listed})")

    return evaluate
