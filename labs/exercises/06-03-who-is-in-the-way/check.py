"""The planner's own answer."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong
from mlk8s.gpu import mig

NOW = "1g.10gb@0 1g.10gb@1 1g.10gb@2 1g.10gb@3 2g.20gb@4 1g.10gb@6"
WANTED, RUNNING = ("4g.40gb", "2g.20gb", "1g.10gb"), (1, 4, 6)
LOOK = {
    "steps": "Each instance that is destroyed is a step, and each that is created.",
    "blocked": "Of those that are destroyed, which one runs something?",
    "creates_at": "Where may a 4g.40gb start?",
}


def check(work: Work) -> str:
    """Compare the three figures."""
    plan = mig.change(mig.Layout.parse(mig.geometry("h100-80gb"), NOW), WANTED, RUNNING)
    right = {
        "steps": plan.steps,
        "blocked": plan.blocked_by[0].start,
        "creates_at": plan.create[0].start,
    }
    for key, value in right.items():
        if (given := work.number(key, "a number")) != value:
            raise Wrong(f"{key}: {given:g} is not right. {LOOK[key]}")
    return f"{plan}: one program of three has to end."
