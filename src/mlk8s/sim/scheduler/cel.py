"""Device selectors: compile and evaluate the CEL expressions of DeviceClass and ResourceClaim.

It needs no cluster::

    >>> selector = compile("device.attributes['gpu.nvidia.com'].profile == '1g.10gb'")
    >>> selector.matches(
    ...     "gpu.nvidia.com", {"name": "m0", "attributes": {"profile": {"string": "1g.10gb"}}}
    ... )
    True

An expression is checked against the types of ``k8s.io/dynamic-resource-allocation/cel`` of 1.36
(features of beta and above) and turned into nested closures, because a cluster of thousands of
GPUs evaluates it once per device; the interpreter of ``cel-python`` takes a hundred times as long.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from mlk8s.sim.scheduler import cel_library as lib
from mlk8s.sim.scheduler.cel_checker import DEVICE, Checker, Eval
from mlk8s.sim.scheduler.cel_library import ANY, BOOL, CelError, Domains
from mlk8s.sim.scheduler.cel_parser import CelSyntaxError, parse
from mlk8s.sim.status import Object

__all__ = ["CelError", "Selector", "compile", "view"]


@dataclass(frozen=True)
class Selector:
    """A compiled expression.

    Attributes:
        expression: its text.
    """

    expression: str
    _evaluate: Eval = field(repr=False)

    def matches(self, driver: str, device: Object) -> bool:
        """Whether a device meets the expression.

        Args:
            driver: the slice's ``spec.driver``; attributes without a domain belong to it.
            device: an item of ``ResourceSlice.spec.devices``.

        Raises:
            CelError: it cannot be evaluated for this device, such as ``no such key: index``.
        """
        return self.matches_view(view(driver, device))

    def matches_view(self, device: Object) -> bool:
        """As :meth:`matches`, for a device that :func:`view` has prepared."""
        result = self._evaluate({"device": device, "@turns": [0]})
        if not isinstance(result, bool):
            raise CelError(
                f"CEL result of type {lib.type_name(result)} could not be converted to bool: "
                f"type conversion error from '{lib.type_name(result)}' to 'bool'"
            )
        return result


@functools.lru_cache(maxsize=1024)
def compile(expression: str) -> Selector:
    """Compile an expression; equal texts share one result.

    Raises:
        CelError: with Kubernetes' message, such as ``compilation failed: ERROR: …``.
    """
    try:
        tree = parse(expression)
    except CelSyntaxError as error:
        raise CelError(f"compilation failed: {error}") from None
    checker = Checker(expression)
    result, evaluate = checker.check(tree, {"device": DEVICE})
    if checker.issues:
        found = [text for _, text in sorted(set(checker.issues))]
        raise CelError("compilation failed: " + "\n".join(found))
    if result not in (BOOL, ANY):
        raise CelError(f"must evaluate to bool or the unknown type, not {result}")
    return Selector(expression, evaluate)


def view(driver: str, device: Object) -> Object:
    """A device as the variable ``device``, to be evaluated with several selectors.

    Raises:
        CelError: an attribute has no value of a type that 1.36 supports.
    """
    attributes = Domains()
    for name, attribute in (device.get("attributes") or {}).items():
        domain, _, identifier = name.rpartition("/")
        attributes.setdefault(domain or driver, {})[identifier] = _value(name, attribute)
    capacity = Domains()
    for name, given in (device.get("capacity") or {}).items():
        domain, _, identifier = name.rpartition("/")
        capacity.setdefault(domain or driver, {})[identifier] = lib.parse_quantity(given["value"])
    return {
        "driver": driver,
        "allowMultipleAllocations": bool(device.get("allowMultipleAllocations")),
        "attributes": attributes,
        "capacity": capacity,
    }


def _value(name: str, attribute: Object) -> Any:
    for kind in ("int", "bool", "string"):
        if (value := attribute.get(kind)) is not None:
            return value
    if (version := attribute.get("version")) is not None:
        try:
            return lib.parse_semver(version)
        except CelError as error:
            raise CelError(f"attribute {name}: parse semantic version: {error}") from None
    # Lists of values need DRAListTypeAttributes, which is alpha in 1.36.
    raise CelError(f"attribute {name}: unsupported attribute value")
