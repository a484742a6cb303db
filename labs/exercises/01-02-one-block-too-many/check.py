"""Waves of equal blocks on 132 SMs."""

from __future__ import annotations

import math

from mlk8s.course.exercises import Work, Wrong

SMS, BLOCKS = 132, 4 * 132 + 1
GRID = 12 * 11


def waves(blocks: int, places: int) -> int:
    """How many times the places are filled."""
    return math.ceil(blocks / (SMS * places))


def idle(blocks: int, places: int) -> float:
    """The share of the places that stays empty."""
    return 1 - blocks / (waves(blocks, places) * SMS * places)


def check(work: Work) -> str:
    """Compare; the first wrong one is named."""
    right = {
        "waves": (waves(BLOCKS, 1), "What happens with the block that is left over?"),
        "idle": (idle(BLOCKS, 1), "How many SMs have nothing to do in the last wave of all?"),
        "saved": (
            1 - waves(BLOCKS - 1, 1) / waves(BLOCKS, 1),
            "Compare the number of waves, with it and without.",
        ),
        "waves_of_two": (waves(BLOCKS, 2), "How many blocks are a full wave now?"),
        "idle_of_two": (idle(BLOCKS, 2), "All waves have two places on each SM; 529 are used."),
        "best": (waves(GRID, 1) * SMS - GRID, "How many places are left in the last wave?"),
    }
    for key, (value, look) in right.items():
        whole = isinstance(value, int)
        given = work.number(key, "a count" if whole else "a fraction")
        if not math.isclose(given, value, abs_tol=0 if whole else 0.003):
            raise Wrong(f"{key}: {given:g} is not right. {look}")
    return "One block can cost a fifth of the time, and GPU-Util does not show it."
