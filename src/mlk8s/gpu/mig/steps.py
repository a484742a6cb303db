"""From one layout to another: the fewest steps, and the running instances in the way.

A step destroys an instance or creates one; instances do not move. So the fewest steps keep as many
of those that are there as the wanted set allows, and an instance with a running process can be
destroyed only after the process has ended.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass

from mlk8s.errors import UsageError
from mlk8s.gpu.mig.layout import Instance, Layout, placements


@dataclass(frozen=True)
class Change:
    """How to get from one layout to another.

    Attributes:
        keep: what stays.
        destroy: what has to go, first.
        create: what comes then.
        blocked_by: those of ``destroy`` that run something.
    """

    keep: tuple[Instance, ...]
    destroy: tuple[Instance, ...]
    create: tuple[Instance, ...]
    blocked_by: tuple[Instance, ...]

    @property
    def steps(self) -> int:
        """Instances destroyed and created."""
        return len(self.destroy) + len(self.create)

    def __str__(self) -> str:
        def listed(instances: Sequence[Instance]) -> str:
            return ", ".join(map(str, instances)) or "nothing"

        parts = [f"destroy {listed(self.destroy)}", f"create {listed(self.create)}"]
        if self.blocked_by:
            parts.append(f"blocked by what runs on {listed(self.blocked_by)}")
        return "; ".join(parts)


def change(current: Layout, wanted: Sequence[str], running: Collection[int] = ()) -> Change:
    """The change that ends the fewest running instances, and of those the one of fewest steps.

    Args:
        current: what is there.
        wanted: profiles that are to be there, a name once for each instance.
        running: starts of the instances that run something.

    Raises:
        UsageError: the wanted profiles do not fit on the GPU, or nothing is at a start.
    """
    starts = {instance.start for instance in current.instances}
    for start in running:
        if start not in starts:
            raise UsageError(
                f"No instance starts at slice {start}.",
                f"name the start of one that is there: {current}."
                if starts
                else "name none: the GPU has no instance.",
            )
    before = set(current.instances)
    found = None
    for layout in placements(current.geometry, wanted):
        after = set(layout.instances)
        gone = before - after
        blocked = [instance for instance in gone if instance.start in running]
        cost = (len(blocked), len(gone))
        if found is None or cost < found[0]:
            found = (cost, after)
    if found is None:
        raise UsageError(
            f"{' + '.join(wanted)} do not fit on {current.geometry.name} together.",
            "look with `mlk8s mig fits` for what does.",
        )
    _, after = found

    def ordered(instances: set[Instance]) -> tuple[Instance, ...]:
        return tuple(sorted(instances, key=lambda instance: instance.start))

    gone = before - after
    return Change(
        keep=ordered(before & after),
        destroy=ordered(gone),
        create=ordered(after - before),
        blocked_by=ordered({instance for instance in gone if instance.start in running}),
    )
