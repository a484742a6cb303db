"""Each situation has the way that keeps apart what has to be."""

from __future__ import annotations

from mlk8s.course.exercises import Work

WAYS = ("w", "t", "p", "m")
RIGHT = {"1": "p", "2": "m", "3": "t", "4": "w", "5": "m", "6": "m", "7": "w"}
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
    work.judge(RIGHT, WAYS, LOOK)
    return "All seven have what they need, and nothing more."
