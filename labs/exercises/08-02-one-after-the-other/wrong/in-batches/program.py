"""Scores each part of a table, in tasks of Ray."""

from typing import Any

import ray


def answers(score: Any, table: bytes, parts: list[int], most: int) -> list[int]:
    """The score of each part, in the order of the parts.

    Args:
        score: a remote function: score.remote(table, part).
        table: what all of them read.
        parts: numbers.
        most: how many tasks may be under way at a time.
    """
    shared = ray.put(table)
    found: list[int] = []
    for first in range(0, len(parts), most):
        found += ray.get([score.remote(shared, part) for part in parts[first : first + most]])
    return found
