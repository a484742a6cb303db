"""The reader's rule gives what the matrix gives, on versions that differ in every way."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong
from mlk8s.gpu import compatibility

PAIRS = [
    ("13.0", "13.0"),
    ("12.4", "13.0"),
    ("11.8", "13.2"),
    ("12.8", "12.4"),
    ("13.1", "13.0"),
    ("13.0", "12.9"),
    ("12.0", "11.8"),
    ("12.9", "12.10"),
    ("12.10", "12.9"),
]


def check(work: Work) -> str:
    """Call it with every pair."""
    for built, highest in PAIRS:
        found = work.call("rule.py", "fit", built, highest)
        right = str(compatibility.fit(built, highest))
        if found != right:
            raise Wrong(
                f"fit({built!r}, {highest!r}) gives {found!r}. A program built with CUDA {built} "
                f"meets a driver up to {highest}: does it start, and has it all that it may ask "
                "for?"
            )
    return f"The rule holds for {len(PAIRS)} pairs of versions."
