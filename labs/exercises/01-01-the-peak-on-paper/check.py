"""SMs, operations and clocks; then what they say of a measurement."""

from __future__ import annotations

import math

from mlk8s.course.exercises import Work, Wrong

SMS, FMA, RATED_HZ, SEEN_HZ, MEASURED = 108, 1024, 1.41e9, 1.275e9, 220.0
PEAK, AT_CLOCK = (SMS * FMA * 2 * hertz / 1e12 for hertz in (RATED_HZ, SEEN_HZ))
FIGURES = {
    "peak_tflops": (PEAK, "SMs, multiply-adds and cycles; each multiply-add is two operations."),
    "at_clock_tflops": (
        AT_CLOCK,
        "The same SMs do the same in a cycle; how many cycles are there?",
    ),
    "share": (MEASURED / AT_CLOCK, "What was measured by what that clock allows."),
}
WORDS = {
    "slide": (
        "sparse",
        ("fp8", "two_gpus"),
        "Which factor is it, and does an A100 have that data type?",
    ),
    "ticket": ("no", ("yes",), "Which event reason is it, and how far under the peak are they?"),
}


def check(work: Work) -> str:
    """The figures, then the verdicts."""
    for key, (right, look) in FIGURES.items():
        given = work.number(key, "TFLOP/s" if key != "share" else "a fraction")
        if not math.isclose(given, right, rel_tol=0.01):
            raise Wrong(f"{key}: {given:g} is not right. {look}")
    for key, (word, others, look) in WORDS.items():
        said = work.answer(key)
        if said not in (word, *others):
            raise Wrong(f"{key}: {said!r} is none of {', '.join(sorted((word, *others)))}.")
        if said != word:
            raise Wrong(f"{key}: not {said}. {look}")
    return f"{MEASURED:g} of {AT_CLOCK:.0f} TFLOP/s: a GPU in good health, at its power limit."
