"""A run in a real Ray: what was under way, what stood beside it, and what was stored."""

from __future__ import annotations

from pathlib import Path

from mlk8s.course.exercises import Work, Wrong

RUN, MOST, OTHERS = "run.py", 3, 6
STARTER = Path(__file__).parent / "starter"


def check(work: Work) -> str:
    """Judge what run.py saw."""
    work.unchanged(RUN, STARTER, "It only shows what program.py does.")
    work.file("program.py")
    seen = work.ray(RUN, "watch")
    if seen["out_of_order"]:
        raise Wrong("The scores are right, and not in the order of the parts.")
    if not seen["right"]:
        raise Wrong("The scores are not those of the parts.")
    if seen["most_in_flight"] == 1:
        raise Wrong(
            "Never were two tasks under way: each one is waited for before the next is submitted. "
            "Which call waits?"
        )
    if seen["most_in_flight"] > MOST:
        raise Wrong(
            f"{seen['most_in_flight']} tasks were under way at a time, {MOST} are allowed. Which "
            "call tells that one of many is done?"
        )
    if seen["beside_the_slow_one"] < OTHERS:
        raise Wrong(
            f"While the slow first part ran, only {seen['beside_the_slow_one']} others were done, "
            "although two at a time had room beside it. What does the loop wait for?"
        )
    if seen["table_sent"] > 1:
        raise Wrong(
            f"The table was stored {seen['table_sent']} times: for {seen['tasks']} tasks. How does "
            "a task get an object that is in the store already?"
        )
    return f"At most {seen['most_in_flight']} tasks at a time, none of which waited for a slow one."
