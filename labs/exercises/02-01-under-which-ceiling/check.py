"""Ridge points from the data sheets, and on which side of them an operation lies."""

from __future__ import annotations

import math

from mlk8s.course.exercises import Work, Wrong

SHEETS = {"h100": (989.4e12, 3.35e12), "h200": (989.4e12, 4.8e12), "a100": (312e12, 2.039e12)}
FASTER = {"copy": "yes", "layer_norm": "yes", "matrix_vector": "yes", "product": "no"}
LOOK = {
    "copy": "How many operations does it do for a byte?",
    "layer_norm": "It reads each number, does a few operations and writes it. Compare the ridge.",
    "matrix_vector": "How often is a number of the matrix used?",
    "product": "Which of the two ceilings is higher on an H200, and does it touch that one?",
}


def check(work: Work) -> str:
    """The ridge points, the sizes, the verdicts."""
    for name, (peak, rate) in SHEETS.items():
        given = work.number(f"ridge_{name}", "FLOP per byte")
        if not math.isclose(given, peak / rate, rel_tol=0.01):
            raise Wrong(
                f"ridge_{name}: {given:g} is not right. Operations by bytes, a second each."
            )
    for name in ("h100", "a100"):
        peak, rate = SHEETS[name]
        right, given = math.ceil(3 * peak / rate), work.number(f"n_{name}", "rows")
        # Who goes on with a rounded ridge point is a little off.
        if abs(given - right) > 0.01 * right:
            raise Wrong(
                f"n_{name}: {given:g} is not right. How many FLOP per byte has a product of n × n, "
                "with three matrices of 2 bytes each?"
            )
    for key, right_word in FASTER.items():
        said = work.answer(key)
        if said not in ("yes", "no"):
            raise Wrong(f"{key}: {said!r} is neither yes nor no.")
        if said != right_word:
            raise Wrong(f"{key}: not {said}. {LOOK[key]}")
    return "Three of four wait for memory, on all three GPUs."
