"""An all-reduce against the backward pass that may hide it."""

from __future__ import annotations

import math

from mlk8s.course.exercises import Work, Wrong

RATE, PCIE, NVLINK, TOKENS = 650e12, 25e9, 360e9, 8192
BYTES, FORWARD, BACKWARD = 2, 2, 4


def seconds(gpus: int, bandwidth: float) -> float:
    """Of the sum, for each weight."""
    return BYTES * 2 * (gpus - 1) / gpus / bandwidth


def check(work: Work) -> str:
    """Compare; the first wrong one is named."""
    backward = BACKWARD * TOKENS / RATE
    compute = FORWARD * TOKENS / RATE + backward
    total = seconds(2, PCIE)
    equal = "Set the time of the sum equal to that of the backward pass, 4PT FLOPs."
    right = {
        "tokens_pcie_2": (seconds(2, PCIE) * RATE / BACKWARD, equal),
        "tokens_pcie_8": (seconds(8, PCIE) * RATE / BACKWARD, "What is 2(n − 1)/n now?"),
        "tokens_nvlink_2": (seconds(2, NVLINK) * RATE / BACKWARD, "Only the bandwidth is another."),
        "speedup": (
            2 * compute / (compute + total),
            "Twice the tokens, in a step of forward, backward and the sum.",
        ),
        "overlapped": (
            2 * compute / (compute + max(total - backward, 0)),
            "What of the sum is left when the backward pass ends?",
        ),
    }
    for key, (value, look) in right.items():
        given = work.number(key, "tokens" if "tokens" in key else "a plain number")
        if not math.isclose(given, value, rel_tol=0.01):
            raise Wrong(f"{key}: {given:g} is not right. {look}")
    return "Over PCIe the second GPU makes this job slower, unless the sum is hidden."
