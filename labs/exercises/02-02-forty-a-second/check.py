"""Weights by bandwidth."""

from __future__ import annotations

import math

from mlk8s.course.exercises import Work, Wrong

PARAMETERS, RATE, ROOM, WANTED, USERS, GPUS = 70e9, 3.2e12, 80e9, 40, 32, 2


def check(work: Work) -> str:
    """Compare; the first wrong one is named."""
    weights = 2 * PARAMETERS
    steps = GPUS * RATE / weights
    gpus = math.ceil(weights * WANTED / RATE)
    right = {
        "gb_per_token": (weights / 1e9, "Two bytes for each parameter, and all are read."),
        "needed_tbs": (weights * WANTED / 1e12, "So many bytes, forty times a second."),
        "gpus_rate": (gpus, "The bandwidth that is needed by that of one, rounded up."),
        "gpus_room": (math.ceil(weights / ROOM), "The weights by the memory of one, rounded up."),
        "steps": (steps, "What two read in a second, by what a step reads."),
        "tokens_of_32": (steps * USERS, "One step reads the weights once. For how many users?"),
        "fp8_gpus_rate": (math.ceil(weights / 2 * WANTED / RATE), "Half the bytes."),
        "fp8_arithmetic": (gpus, "Which ceiling is touched, and does it rise?"),
    }
    for key, (value, look) in right.items():
        given = work.number(key, "a plain number")
        if not math.isclose(given, value, rel_tol=0.01):
            raise Wrong(f"{key}: {given:g} is not right. {look}")
    return f"{steps:.0f} tokens a second for one user, {steps * USERS:,.0f} for {USERS}."
