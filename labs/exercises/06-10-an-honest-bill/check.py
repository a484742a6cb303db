"""Bills of several days on several GPUs."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong
from mlk8s.gpu import mig

DAYS = (
    ("h100-80gb", 3.2, [["ana", "1g.10gb", 8]]),
    ("h100-80gb", 3.0, [["ben", "3g.40gb", 10], ["chi", "1g.20gb", 4], ["ben", "1g.10gb", 2]]),
    ("a30", 1.1, [["ana", "1g.6gb", 24], ["dan", "2g.12gb", 5]]),
    ("h100-80gb", 2.99, [["eva", "1g.10gb", 0.1]] * 3),
    # 46 of 188 SMs are less than a quarter, 94 are exactly half.
    ("rtx-pro-6000", 2.0, [["fay", "1g.24gb", 10], ["gil", "2g.48gb", 10]]),
    ("a100-40gb", 2.0, [["hal", "7g.40gb", 1]]),
)


def check(work: Work) -> str:
    """Compare each bill."""
    for gpu, hour, used in DAYS:
        given = work.call("bill.py", "bill", gpu, hour, used)
        right = _right(gpu, hour, used)
        if given != right:
            raise Wrong(f"bill({gpu!r}, {hour}, {used}) gives {given}, and {right} is owed.")
    return f"{len(DAYS)} bills are right."


def _right(gpu: str, hour: float, used: list[list[object]]) -> dict[str, float]:
    geometry = mig.geometry(gpu)
    owed: dict[str, float] = {}
    for owner, name, hours in used:
        profile = geometry.profile(str(name))
        share = max(profile.size / geometry.memory_slices, (profile.sm or 0) / geometry.sm)
        owed[str(owner)] = owed.get(str(owner), 0.0) + share * hour * float(str(hours))
    return {owner: round(amount, 2) for owner, amount in owed.items()}
