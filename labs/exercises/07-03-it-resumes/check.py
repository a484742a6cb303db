"""A kill at any line changes nothing of what comes out."""

from __future__ import annotations

from pathlib import Path

from mlk8s.course.exercises import Work, Wrong

KILLER = "kill.py"
MOST = 4


def check(work: Work) -> str:
    """Have it killed everywhere; the first kill that does harm is told."""
    work.unchanged(
        KILLER, Path(__file__).parent / "starter", "It only shows what is wrong with train.py."
    )
    found = work.call(KILLER, "first_failure")
    if found is None:
        return f"Killed at any line it ends as it would have, and repeats {MOST} steps at the most."
    told = f"Killed after {found['after_steps']} steps"
    if "error" in found:
        raise Wrong(
            f"{told}, training does not start again: {found['error']}. What is there of a "
            "checkpoint when the process dies while it was written?"
        )
    if found["weights"] != found["whole"]["weights"]:
        raise Wrong(
            f"{told}, training goes on to another result: {found['weights']} instead of "
            f"{found['whole']['weights']}. What else does the next step read that earlier steps "
            "have changed?"
        )
    raise Wrong(f"{told}, {found['repeated']} steps were done twice; {MOST} are allowed.")
