"""Each situation has the way that keeps apart what has to be."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong

RIGHT = {"1": "P", "2": "M", "3": "T", "4": "W", "5": "M", "6": "M", "7": "W"}
LOOK = {
    "1": "What is the rate of small kernels by turns, and who is hurt if one of them dies?",
    "2": "Whose memory does the one take who fills it?",
    "3": "What can an L4 do, and do they need a wall?",
    "4": "What is left over?",
    "5": "What does the long kernel do to the requests, and whose end is whose?",
    "6": "What did the neighbor get when a process was killed with kernels in flight?",
    "7": "What does an instance know of other GPUs?",
}


def check(work: Work) -> str:
    """Compare the letters; the first wrong one is named."""
    given = {key: str(work.answer(key)) for key in RIGHT}
    for key, letter in given.items():
        if letter not in RIGHT.values():
            raise Wrong(f"{key}: {letter!r} is none of W, T, P and M.")
    wrong = [key for key, letter in given.items() if letter != RIGHT[key]]
    if wrong:
        rest = f" ({len(wrong)} in all)" if len(wrong) > 1 else ""
        raise Wrong(f"Not {given[wrong[0]]} for {wrong[0]}{rest}. {LOOK[wrong[0]]}")
    return "All seven have what they need, and nothing more."
