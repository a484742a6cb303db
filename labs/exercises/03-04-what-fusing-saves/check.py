"""The moves are counted, and the times follow from them."""

from __future__ import annotations

import math

from mlk8s.course.exercises import Work, Wrong

MATRIX = 16384 * 8192 * 2
RATE = 4000e9
MOVES, FUSED = 7, 2


def check(work: Work) -> str:
    """Judge the count first: the times follow from it."""
    moves = work.number("moves", "reads and writes of the matrix")
    if moves != MOVES:
        more = "Fewer" if moves > MOVES else "More"
        raise Wrong(
            f"moves: {moves:g}. {more} than that: list for each kernel what it reads and what it "
            "writes, and leave out what is only a column."
        )
    for key, count in (("written_out_us", MOVES), ("fused_us", FUSED)):
        given, right = work.number(key, "µs"), count * MATRIX / RATE * 1e6
        if not math.isclose(given, right, rel_tol=0.05):
            off = given / right
            raise Wrong(
                f"{key}: {given:g} µs is {off:.2g} times what {count} moves take. Bytes of the "
                "matrix × moves ÷ rate; BF16 has 2 bytes."
            )
    return f"Seven moves against two: fusing saves {1 - FUSED / MOVES:.0%} of the time."
