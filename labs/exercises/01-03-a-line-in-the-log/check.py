"""NVIDIA's recommended actions, as the chapter's table has them."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong

ACTIONS = ("owner", "nothing", "later", "now", "reboot")
RIGHT = {
    "a": "owner",
    "b": "reboot",
    "c": "now",
    "d": "later",
    "e": "nothing",
    "f": "owner",
    "g": "now",
    "h": "now",
}
LOOK = {
    "a": "Who has read where it may not?",
    "b": "Can it be spoken to at all?",
    "c": "Was it corrected?",
    "d": "Is this the error, or its repair?",
    "e": "Does this line come alone?",
    "f": "How far has the error come, and is that one still there?",
    "g": "Who else may have been reached?",
    "h": "What does NVIDIA recommend, whoever the plugin takes it for?",
}
GOES_ON = "h"


def check(work: Work) -> str:
    """The first wrong one is named."""
    work.judge(RIGHT, ACTIONS, LOOK)
    if work.answer("goes_on") != GOES_ON:
        raise Wrong(
            f"goes_on: not {work.answer('goes_on')}. Which of those that need a reset does the "
            "plugin have on its list of application errors?"
        )
    return "Four GPUs stay in service for now; one of the others would go on getting pods."
