"""Karp and Flatt's serial fraction from the times, and Amdahl's law with it."""

from __future__ import annotations

import math

from mlk8s.course.exercises import Work, Wrong

A, B = ({1: 960, 2: 504, 4: 276, 8: 162}, {1: 960, 2: 516, 4: 312, 8: 234})
MANY = 100


def serial(times: dict[int, int], workers: int) -> float:
    """The fraction that the time on so many workers shows."""
    share, each = times[workers] / times[1], 1 / workers
    return (share - each) / (1 - each)


def check(work: Work) -> str:
    """The numbers first, then what they mean."""
    fraction = serial(A, 8)
    figures = {
        "a_serial": (fraction, "Put the speed-up into Amdahl's law and solve it for the fraction."),
        "a_at_100": (
            1 / (fraction + (1 - fraction) / MANY),
            "One serial part, and a hundredth of the rest.",
        ),
        "a_half": (
            math.floor(1 + 1 / fraction + 1e-9),
            "Speed-up by workers is 1 by (1 + (workers − 1) times the fraction).",
        ),
        "b_at_2": (serial(B, 2), "The same formula as for A."),
        "b_at_8": (serial(B, 8), "The same formula as for A; divide by 1 less an eighth."),
    }
    for key, (right, look) in figures.items():
        given = work.number(key, "workers" if key == "a_half" else "a plain fraction")
        if not math.isclose(given, right, rel_tol=0 if key == "a_half" else 0.01):
            raise Wrong(f"{key}: {given:g} is not right. {look}")
    for key, right, others, look in (
        ("b_grows", "overhead", ("serial",), "Would a fixed part show another fraction each time?"),
        (
            "b_at_100",
            "less",
            ("as_amdahl", "more"),
            "Does the fraction of eight workers hold for a hundred? Which way did it go so far?",
        ),
    ):
        said = work.answer(key)
        if said not in (right, *others):
            raise Wrong(f"{key}: {said!r} is none of {', '.join(sorted((right, *others)))}.")
        if said != right:
            raise Wrong(f"{key}: not {said}. {look}")
    return "A stops at 21 workers, and of B more workers tell nothing that a profile would not."
