"""Days of requests, each of which has a place for all if small instances go to high slices."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong
from mlk8s.gpu import mig

H100 = mig.geometry("h100-80gb")
DAYS = (
    ("1g.10gb", "4g.40gb"),
    ("2g.20gb", "1g.10gb", "4g.40gb"),
    ("1g.10gb", "1g.10gb", "1g.10gb", "4g.40gb"),
    ("3g.40gb", "4g.40gb"),
    ("1g.20gb", "2g.20gb", "4g.40gb"),
)
FULL = ("7g.80gb", "1g.10gb")


def check(work: Work) -> str:
    """Play the days, then one on which there is no place."""
    for day in DAYS:
        layout = mig.Layout(H100)
        for name in day:
            start = _asked(work, layout, name)
            profile = H100.profile(name)
            if start is None:
                raise Wrong(
                    f"The requests {', '.join(day)}: for {name} your function found no place "
                    f"beside {layout}. Was there a better one for those before it?"
                )
            if start not in layout.places(profile):
                raise Wrong(
                    f"The requests {', '.join(day)}: {name} cannot be at slice {start} beside "
                    f"{layout}. It may be at: {layout.places(profile) or 'none'}."
                )
            layout = layout.plus(profile, start)
    full = mig.Layout.parse(H100, "7g.80gb@0")
    if (start := _asked(work, full, FULL[1])) is not None:
        raise Wrong(f"Beside 7g.80gb@0 there is no place, and your function gives {start}.")
    return f"On all of {len(DAYS)} days everything that was asked for has its place."


def _asked(work: Work, layout: mig.Layout, name: str) -> object:
    there = [[each.profile.name, each.start] for each in layout.instances]
    return work.call("place.py", "place", there, name)
