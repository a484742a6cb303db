"""Instances on one GPU: what is legal, what still fits, and every way to fill it.

An instance occupies the memory slices from its start on. It begins where its profile may begin,
overlaps no other, and there are no more instances of a profile, and no more compute slices, than
the GPU has (NVIDIA MIG User Guide, Supported MIG Profiles). It cannot be moved: what is placed
badly has to be destroyed.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from mlk8s.errors import UsageError
from mlk8s.gpu.mig.profiles import Geometry, Profile
from mlk8s.provenance import Table


@dataclass(frozen=True)
class Instance:
    """A GPU instance at its place.

    Attributes:
        start: its first memory slice.
        profile: its kind.
    """

    start: int
    profile: Profile

    @property
    def slices(self) -> range:
        """The memory slices that it occupies."""
        return range(self.start, self.start + self.profile.size)

    def __str__(self) -> str:
        return f"{self.profile.name}@{self.start}"


@dataclass(frozen=True)
class Layout:
    """The instances of one GPU, from its first memory slice on.

    Raises:
        UsageError: they cannot be on it together.
    """

    geometry: Geometry
    instances: tuple[Instance, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "instances", tuple(sorted(self.instances, key=_start)))
        for i, instance in enumerate(self.instances):
            reason = _refusal(self.geometry, self.instances[:i], instance)
            if reason:
                raise UsageError(
                    f"{instance} cannot be on {self.geometry.name}: {reason}.",
                    f"take one of the places that are free for it: {self._free(i)}.",
                )

    def _free(self, i: int) -> str:
        others = Layout(self.geometry, self.instances[:i])
        places = others.places(self.instances[i].profile)
        return ", ".join(map(str, places)) or "none, so destroy another instance first"

    @classmethod
    def parse(cls, geometry: Geometry, text: str) -> Layout:
        """A layout from text.

        Args:
            geometry: of the GPU.
            text: ``3g.40gb@4 1g.10gb@0``, instances with their starts, in any order.

        Raises:
            UsageError: a word that is none, or a layout that cannot be.
        """
        instances = []
        for word in text.replace(",", " ").split():
            found = re.fullmatch(r"(.+)@(\d+)", word)
            if found is None:
                raise UsageError(
                    f"{word!r} is not an instance.", "write PROFILE@START, such as 3g.40gb@4."
                )
            instances.append(Instance(int(found[2]), geometry.profile(found[1])))
        return cls(geometry, tuple(instances))

    @property
    def names(self) -> tuple[str, ...]:
        """The profiles, sorted by name."""
        return tuple(sorted(instance.profile.name for instance in self.instances))

    def places(self, profile: Profile) -> list[int]:
        """Where one more instance of a profile may begin."""
        return [
            start
            for start in profile.starts
            if not _refusal(self.geometry, self.instances, Instance(start, profile))
        ]

    def plus(self, profile: Profile, start: int) -> Layout:
        """The layout with one more instance.

        Raises:
            UsageError: it cannot be there.
        """
        return Layout(self.geometry, (*self.instances, Instance(start, profile)))

    @property
    def full(self) -> bool:
        """Whether no further plain instance fits."""
        return not any(self.places(profile) for profile in self.geometry.plain)

    @property
    def unused_sm(self) -> int:
        """SMs of the GPU that are in no instance."""
        return self.geometry.sm - sum(instance.profile.sm or 0 for instance in self.instances)

    def table(self) -> Table:
        """The instances, and what each has."""
        return Table(
            [
                {
                    "instance": instance.profile.name,
                    "memory slices": f"{instance.slices[0]}-{instance.slices[-1]}"
                    if instance.profile.size > 1
                    else str(instance.start),
                    "SM": instance.profile.sm,
                    "memory [GiB]": instance.profile.memory_gib,
                }
                for instance in self.instances
            ],
            self.geometry.provenance,
            title=f"{self.geometry.name}, {self}",
        )

    def text(self, width: int = 9) -> str:
        """The layout as two lines for a terminal: the memory slices, and what is on them."""
        head = "".join(f"{i:^{width}}" for i in range(self.geometry.memory_slices))
        cells, slot = "", 0
        for instance in self.instances:
            cells += "·".center(width) * (instance.start - slot)
            cells += f"[{instance.profile.name:^{instance.profile.size * width - 2}}]"
            slot = instance.start + instance.profile.size
        cells += "·".center(width) * (self.geometry.memory_slices - slot)
        return f"{head.rstrip()}\n{cells.rstrip()}"

    def __str__(self) -> str:
        return " ".join(map(str, self.instances)) or "empty"


def fit(geometry: Geometry, names: Sequence[str], beside: Layout | None = None) -> Layout | None:
    """Place profiles together.

    Args:
        geometry: of the GPU.
        names: profiles, in any order, a name once for each instance.
        beside: instances that are there and stay where they are.

    Returns:
        A layout, large instances at high slices, or ``None`` if they do not fit together.

    Raises:
        UsageError: an unknown profile.
    """
    return next(placements(geometry, names, beside), None)


def placements(
    geometry: Geometry, names: Sequence[str], beside: Layout | None = None
) -> Iterator[Layout]:
    """Every way to place profiles together; see :func:`fit`."""
    wanted = Counter(names)
    profiles = [(geometry.profile(name), count) for name, count in wanted.items()]
    # What has few places goes first; high slices first, since small instances can use the low ones.
    profiles.sort(key=lambda each: (-each[0].size, -each[0].compute))
    flat = [profile for profile, count in profiles for _ in range(count)]

    def place(i: int, layout: Layout, below: int) -> Iterator[Layout]:
        if i == len(flat):
            yield layout
            return
        for start in reversed(layout.places(flat[i])):
            # Instances of one profile are alike: their starts fall, so that each set comes once.
            if start < below:
                same = i + 1 < len(flat) and flat[i + 1] == flat[i]
                then = start if same else geometry.memory_slices
                yield from place(i + 1, layout.plus(flat[i], start), then)

    yield from place(0, beside or Layout(geometry), geometry.memory_slices)


def maximal(geometry: Geometry, profiles: Iterable[str] | None = None) -> list[Layout]:
    """Every layout to which no further instance can be added.

    Args:
        geometry: of the GPU.
        profiles: names of those to use; the plain ones where not given.

    Raises:
        UsageError: an unknown profile.
    """
    used = [geometry.profile(n) for n in profiles] if profiles is not None else [*geometry.plain]
    found: list[Layout] = []

    def extend(layout: Layout, first: int) -> None:
        if not any(layout.places(profile) for profile in used):
            found.append(layout)
            return
        for profile in used:
            # From low slices to high ones, so that each set of instances is met once.
            for start in layout.places(profile):
                if start >= first:
                    extend(layout.plus(profile, start), start + profile.size)

    extend(Layout(geometry), 0)
    return found


def _refusal(geometry: Geometry, placed: Sequence[Instance], new: Instance) -> str:
    """Why an instance cannot be beside others; empty if it can."""
    profile = new.profile
    if new.start not in profile.starts:
        return f"it may start at slice {', '.join(map(str, profile.starts))} only"
    for other in placed:
        if max(other.start, new.start) < min(other.slices.stop, new.slices.stop):
            return f"it overlaps {other}"
    if sum(other.profile == profile for other in placed) >= profile.most:
        return f"a GPU has {profile.most} of them at most"
    if sum(other.profile.compute for other in placed) + profile.compute > geometry.compute_slices:
        return f"the GPU has {geometry.compute_slices} compute slices"
    return ""


def _start(instance: Instance) -> int:
    return instance.start
