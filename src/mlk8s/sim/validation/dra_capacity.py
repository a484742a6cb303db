"""How a device's capacity may be shared out: ``requestPolicy`` of a ResourceSlice.

The rules and sentences are those of ``pkg/apis/resource/validation`` of 1.36.
"""

from __future__ import annotations

from mlk8s.sim import quantity
from mlk8s.sim.status import FieldError, Object, forbidden, invalid, required
from mlk8s.sim.validation import rules


def policy(path: str, given: Object, shared: bool) -> list[FieldError]:
    """What is wrong with the policy of one capacity; only a ``shared`` device may have one."""
    policy = given.get("requestPolicy")
    if policy is None:
        return []
    path = f"{path}.requestPolicy"
    if not shared:
        return [forbidden(path, "allowMultipleAllocations must be true")]
    values, allowed = policy.get("validValues") or [], policy.get("validRange")
    if values and allowed is not None:
        text = (
            'exactly one policy can be specified, cannot specify "validValues" and "validRange" '
            "at the same time"
        )
        return [forbidden(path, text)]
    kind = "validValues" if values else "validRange"
    if (values or allowed is not None) and policy.get("default") is None:
        return [required(f"{path}.default", f"required when {kind} is defined")]
    if values:
        return _valid_values(f"{path}.validValues", values, policy["default"], given["value"])
    if allowed is not None:
        return _valid_range(f"{path}.validRange", allowed, policy["default"], given["value"])
    return []


def _valid_values(path: str, values: list[str], default: str, most: str) -> list[FieldError]:
    amounts = [quantity.value(value) for value in values]
    errors: list[FieldError] = []
    for number in range(1, len(values)):
        if amounts[number - 1] > amounts[number]:
            text = "values must be sorted in ascending order"
            errors.append(invalid(f"{path}[{number}]", values[number], text))
    for number, value in enumerate(values):
        if amounts[number] > quantity.value(most):
            text = f"option is larger than capacity value: {most}"
            errors.append(invalid(f"{path}[{number}]", value, text))
    if quantity.value(default) not in amounts:
        text = "default value is not valid according to the requestPolicy"
        errors.append(invalid(path, default, text))
    return errors


def _valid_range(path: str, allowed: Object, default: str, most: str) -> list[FieldError]:
    low, high, step = (allowed.get(key) for key in ("min", "max", "step"))
    if low is None:
        return [required(f"{path}.min", "required when validRange is defined")]
    least, size, usual = quantity.value(low), quantity.value(most), quantity.value(default)
    errors: list[FieldError] = []
    if least > size:
        errors.append(invalid(f"{path}.min", low, f"min is larger than capacity value: {most}"))
    if usual < least:
        errors.append(invalid(f"{path}.default", default, f"default is less than min: {low}"))
    if high is not None:
        top = quantity.value(high)
        if least > top:
            errors.append(invalid(f"{path}.max", low, f"min is larger than max: {high}"))
        if top > size:
            text = f"max is larger than capacity value: {most}"
            errors.append(invalid(f"{path}.max", high, text))
        if usual > top:
            errors.append(invalid(f"{path}.default", default, f"default is more than max: {high}"))
    if step is not None:
        errors += _step(f"{path}.step", step, low, [default, *([high] if high else [])], most)
    return errors


def _step(path: str, step: str, low: str, values: list[str], most: str) -> list[FieldError]:
    width, least = quantity.value(step), quantity.value(low)
    if width <= 0:
        return [invalid(path, step, rules.NOT_POSITIVE)]
    errors: list[FieldError] = []
    if least + width > quantity.value(most):
        added = quantity.of(least + width, low)
        text = f"one step {added} is larger than capacity value: {most}"
        errors.append(invalid(path, step, text))
    for value in values:
        if (quantity.value(value) - least) % width:
            text = f"value is not a multiple of a given step ({step}) from ({low})"
            errors.append(invalid(path, value, text))
    return errors
