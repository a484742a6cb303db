"""The model of the chapter, with other numbers."""

from __future__ import annotations

import math

from mlk8s.course.exercises import Work, Wrong

CHANGE_US, KERNEL_US, PROCESSES, ALONE = 140.0, 2.0, 4, 60_000
LOOK = {
    "after_each": "How long is a turn of one kernel, and how many turns are in a second?",
    "after_fifty": "A turn is one change and fifty kernels.",
    "latency_ms": "Between two turns of a process come those of the others; in milliseconds.",
    "enqueue": "The change is to be a tenth of the whole turn, kernels and change.",
}


def check(work: Work) -> str:
    """Compare the four figures."""
    fifty = CHANGE_US + 50 * KERNEL_US
    right = {
        "after_each": 1e6 / (CHANGE_US + KERNEL_US),
        "after_fifty": 50e6 / fifty,
        "latency_ms": PROCESSES * fifty / 1e3,
        "enqueue": 9 * CHANGE_US / KERNEL_US,
    }
    for key, value in right.items():
        given = work.number(key, "a number")
        if not math.isclose(given, value, rel_tol=0.03):
            raise Wrong(f"{key}: {given:g} is {given / value:.2g} times what it is. {LOOK[key]}")
    return f"Four that wait after each kernel reach {right['after_each'] / ALONE:.0%} of one alone."
