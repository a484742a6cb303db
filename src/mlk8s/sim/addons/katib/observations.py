"""What Trials have reported: stands in for Katib's database and the service before it."""

from __future__ import annotations

from collections.abc import Callable

from mlk8s.sim.addons.katib.metrics import Metric


class Observations:
    """The metrics of all Trials, by their uid.

    A pod whose collector runs again reports again; as in the database, nothing is replaced.
    """

    def __init__(self) -> None:
        self._found: dict[str, list[Metric]] = {}
        self._heard: list[Callable[[str, str], None]] = []

    def subscribe(self, heard: Callable[[str, str], None]) -> None:
        """Call with namespace and name of each Trial that reports."""
        self._heard.append(heard)

    def report(self, uid: str, namespace: str, name: str, found: list[Metric]) -> None:
        """Add what a Trial has reported."""
        # In the order of their times; Python's sort keeps the order of equal ones.
        self._found[uid] = sorted([*self._found.get(uid, ()), *found], key=lambda each: each.moment)
        for heard in self._heard:
            heard(namespace, name)

    def of(self, uid: str) -> list[Metric]:
        """The metrics of a Trial, by time."""
        return list(self._found.get(uid, ()))

    def forget(self, uid: str) -> None:
        """Drop what a Trial has reported."""
        self._found.pop(uid, None)
