"""Device selectors: the CEL expressions of DeviceClass and ResourceClaim.

It needs no cluster::

    >>> chosen = selector("device.attributes['gpu.nvidia.com'].profile == '1g.10gb'")
    >>> chosen.matches(
    ...     "gpu.nvidia.com", {"name": "m0", "attributes": {"profile": {"string": "1g.10gb"}}}
    ... )
    True

An expression is checked against the types of ``k8s.io/dynamic-resource-allocation/cel`` of 1.36
(features of beta and above).
"""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Any

from mlk8s.sim.cel.program import Program, compile
from mlk8s.sim.cel.values import (
    ANY,
    BOOL,
    QUANTITY,
    STRING,
    CelError,
    Domains,
    Type,
    map_of,
    parse_quantity,
    parse_semver,
    type_name,
)
from mlk8s.sim.status import Object

_DEVICE = Type(
    "kubernetes.DRADevice",
    fields={
        "driver": STRING,
        "allowMultipleAllocations": BOOL,
        "attributes": map_of(STRING, map_of(STRING, ANY)),
        "capacity": map_of(STRING, map_of(STRING, QUANTITY)),
    },
)


@dataclass(frozen=True)
class Selector:
    """A compiled expression.

    Attributes:
        expression: its text.
    """

    expression: str
    _program: Program = field(repr=False)

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
        result = self._program.evaluate({"device": device})
        if not isinstance(result, bool):
            raise CelError(
                f"CEL result of type {type_name(result)} could not be converted to bool: "
                f"type conversion error from '{type_name(result)}' to 'bool'"
            )
        return result


@functools.lru_cache(maxsize=1024)
def selector(expression: str) -> Selector:
    """Compile a selector; equal texts share one result.

    Raises:
        CelError: with Kubernetes' message, such as ``compilation failed: ERROR: …``.
    """
    program = compile(expression, {"device": _DEVICE})
    if program.type not in (BOOL, ANY):
        raise CelError(f"must evaluate to bool or the unknown type, not {program.type}")
    return Selector(expression, program)


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
        capacity.setdefault(domain or driver, {})[identifier] = parse_quantity(given["value"])
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
            return parse_semver(version)
        except CelError as error:
            raise CelError(f"attribute {name}: parse semantic version: {error}") from None
    # Lists of values need DRAListTypeAttributes, which is alpha in 1.36.
    raise CelError(f"attribute {name}: unsupported attribute value")
