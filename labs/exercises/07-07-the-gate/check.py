"""What the pipeline does with models that are worse, as good, and better."""

from __future__ import annotations

from pathlib import Path

from mlk8s.course.exercises import Work, Wrong

RUNNER = "run.py"


def check(work: Work) -> str:
    """Run it on this machine, case by case."""
    work.unchanged(
        RUNNER, Path(__file__).parent / "starter", "It only runs pipeline.py; repair that."
    )
    work.file("pipeline.py")
    mistake = work.call(RUNNER, "first_mistake")
    if mistake is not None:
        raise Wrong(
            f"It runs, and {mistake}. What does the condition compare, and what does it say of "
            "two that are equal? The scores of each case stand in run.py."
        )
    return "A better model is published; a worse one and one that is as good are not."
