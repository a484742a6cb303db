"""The fewest GPUs for a list of demands, each of which gets an instance of its own.

A demand takes the profiles that have its memory and its SMs. On every GPU of the table the plain
profiles form a chain, each with at least what the one before has. So a set of instances serves a
set of demands if, for each profile of the chain, it has as many instances of that profile or above
as there are demands that need that profile or above (Hall's theorem). A GPU is then a vector of
such counts, and packing a search for the fewest vectors whose sum is large enough.
"""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from mlk8s.errors import UsageError
from mlk8s.gpu.mig.layout import Layout, maximal
from mlk8s.gpu.mig.profiles import Geometry, Profile
from mlk8s.provenance import Scalar, Table

#: Up to this many GPUs the search is exhaustive.
EXACT = 32

Counts = tuple[int, ...]


@dataclass(frozen=True)
class Demand:
    """What somebody needs.

    Attributes:
        name: whose it is.
        memory_gib: least memory, GiB.
        sm: least number of streaming multiprocessors.
    """

    name: str
    memory_gib: float = 0.0
    sm: int = 0


@dataclass(frozen=True)
class Packing:
    """Demands on GPUs.

    Attributes:
        layouts: one for each GPU; what no demand needs is left out.
        given: demand's name, GPU, start of its instance.
        least: no packing has fewer GPUs than this; equal to the number of layouts where the search
            was exhaustive.
    """

    layouts: tuple[Layout, ...]
    given: tuple[tuple[str, int, int], ...]
    least: int

    @property
    def exact(self) -> bool:
        """Whether it is proven that fewer GPUs do not do."""
        return self.least == len(self.layouts)

    def table(self) -> Table:
        """Who gets which instance."""
        rows: list[dict[str, Scalar]] = []
        for name, gpu, start in self.given:
            instance = next(i for i in self.layouts[gpu].instances if i.start == start)
            rows.append(
                {
                    "demand": name,
                    "GPU": gpu,
                    "instance": instance.profile.name,
                    "start": start,
                    "SM": instance.profile.sm,
                    "memory [GiB]": instance.profile.memory_gib,
                }
            )
        bound = "" if self.exact else f"; no packing needs fewer than {self.least}"
        title = f"GPUs: {len(self.layouts)}, demands: {len(rows)}{bound}"
        return Table(rows, self.layouts[0].geometry.provenance, title=title)


def pack(geometry: Geometry, demands: Sequence[Demand]) -> Packing:
    """Give each demand an instance, on as few GPUs as possible.

    Up to :data:`EXACT` GPUs the number is the least there is. Beyond, GPUs are filled one after the
    other, each with the set of instances that serves most, and ``least`` says how many any packing
    needs at least.

    Args:
        geometry: of the GPUs, all alike.
        demands: at least one, with names that differ.

    Raises:
        UsageError: no demand, a name twice, one that no instance satisfies, or a GPU with figures
            missing or profiles that do not form a chain.
    """
    chain = _chain(geometry)
    names = Counter(demand.name for demand in demands)
    if not demands or max(names.values()) > 1:
        twice = ", ".join(name for name, count in names.items() if count > 1)
        raise UsageError(
            f"There are two demands named {twice}." if twice else "There is no demand.",
            "give at least one, each with a name of its own.",
        )
    levels = {demand.name: _level(geometry, chain, demand) for demand in demands}
    needed = _at_or_above(Counter(levels.values()), len(chain))
    sets = _sets(geometry, chain)
    bound = _bound(geometry, chain, sets)
    chosen = _fewest(needed, sets, bound)
    least = len(chosen) if chosen is not None else max(EXACT + 1, bound(needed))
    if chosen is None:
        chosen = _greedy(needed, sets)
    return _deal([sets[counts] for counts in chosen], levels, chain, least)


def _chain(geometry: Geometry) -> list[Profile]:
    """The plain profiles, each with at least what the one before has."""
    missing = [p.name for p in geometry.plain if p.sm is None or p.memory_gib is None]
    if missing:
        raise UsageError(
            f"No source gives the SMs and the memory of {', '.join(missing)} on {geometry.name}.",
            "pack on a machine with that GPU, whose driver lists them.",
        )
    chain = sorted(geometry.plain, key=lambda p: (p.sm or 0, p.memory_gib or 0))
    for small, large in pairwise(chain):
        if (small.memory_gib or 0) > (large.memory_gib or 0):
            raise UsageError(
                f"On {geometry.name} {small.name} has more memory than {large.name} and fewer SMs.",
                "choose profiles by hand and test them with `mlk8s mig fits`.",
            )
    return chain


def _level(geometry: Geometry, chain: Sequence[Profile], demand: Demand) -> int:
    """The first profile of the chain that satisfies a demand."""
    for level, profile in enumerate(chain):
        if (profile.memory_gib or 0) >= demand.memory_gib and (profile.sm or 0) >= demand.sm:
            return level
    largest = chain[-1]
    raise UsageError(
        f"{demand.name} needs {demand.memory_gib:g} GiB and {demand.sm} SMs, more than the largest "
        f"instance of {geometry.name}: {largest.name} has {largest.memory_gib:g} GiB and "
        f"{largest.sm} SMs.",
        "give it a whole GPU with MIG off, or several.",
    )


def _at_or_above(counts: Counter[int], levels: int) -> Counts:
    return tuple(sum(counts[k] for k in range(level, levels)) for level in range(levels))


def _sets(geometry: Geometry, chain: Sequence[Profile]) -> dict[Counts, Layout]:
    """Full GPUs as counts, none of which serves less than another; a layout for each."""
    every: dict[Counts, Layout] = {}
    for layout in maximal(geometry):
        levels = Counter(chain.index(instance.profile) for instance in layout.instances)
        every.setdefault(_at_or_above(levels, len(chain)), layout)
    return {
        counts: layout
        for counts, layout in every.items()
        if not any(other != counts and _covers(other, counts) for other in every)
    }


def _covers(supply: Counts, demand: Counts) -> bool:
    return all(s >= d for s, d in zip(supply, demand, strict=True))


def _left(needed: Counts, counts: Counts) -> Counts:
    """What is still needed; whoever needs a large instance is among those that need any."""
    left = [max(0, n - c) for n, c in zip(needed, counts, strict=True)]
    return tuple(max(left[level:]) for level in range(len(left)))


@dataclass(frozen=True)
class _Bound:
    """How many GPUs any packing needs at least.

    Attributes:
        most: instances of each level and above that one GPU can have.
        sizes: memory slices of an instance of each level, at least.
        computes: compute slices, likewise.
        geometry: of the GPUs.
    """

    most: Counts
    sizes: Counts
    computes: Counts
    geometry: Geometry

    def __call__(self, needed: Counts) -> int:
        exactly = [n - above for n, above in zip(needed, (*needed[1:], 0), strict=True)]
        shares = [(n, m) for n, m in zip(needed, self.most, strict=True)]
        for per, whole in (
            (self.sizes, self.geometry.memory_slices),
            (self.computes, self.geometry.compute_slices),
        ):
            shares.append((sum(e * p for e, p in zip(exactly, per, strict=True)), whole))
        return max(-(-part // whole) for part, whole in shares)


def _bound(geometry: Geometry, chain: Sequence[Profile], sets: dict[Counts, Layout]) -> _Bound:
    levels = range(len(chain))
    return _Bound(
        most=tuple(max(counts[level] for counts in sets) for level in levels),
        sizes=tuple(min(p.size for p in chain[level:]) for level in levels),
        computes=tuple(min(p.compute for p in chain[level:]) for level in levels),
        geometry=geometry,
    )


def _fewest(needed: Counts, sets: dict[Counts, Layout], bound: _Bound) -> list[Counts] | None:
    """The fewest sets that cover what is needed, by trying every number of GPUs."""
    order = sorted(sets, reverse=True)

    @functools.cache
    def within(left: Counts, gpus: int) -> tuple[Counts, ...] | None:
        if not any(left):
            return ()
        if bound(left) > gpus:
            return None
        # Two sets that leave the same are one choice.
        for rest, counts in {_left(left, counts): counts for counts in order}.items():
            found = within(rest, gpus - 1)
            if found is not None:
                return (counts, *found)
        return None

    for gpus in range(bound(needed), EXACT + 1):
        found = within(needed, gpus)
        if found is not None:
            return list(found)
    return None


def _greedy(needed: Counts, sets: dict[Counts, Layout]) -> list[Counts]:
    """One GPU after the other, each with the set that leaves least, large demands first."""
    chosen = []
    while any(needed):
        best = min(sets, key=lambda counts: tuple(reversed(_left(needed, counts))))
        chosen.append(best)
        needed = _left(needed, best)
    return chosen


def _deal(
    layouts: Sequence[Layout], levels: dict[str, int], chain: Sequence[Profile], least: int
) -> Packing:
    """Largest demand first, each to the smallest instance that is left and large enough."""
    free = sorted(
        (chain.index(instance.profile), gpu, instance.start)
        for gpu, layout in enumerate(layouts)
        for instance in layout.instances
    )
    given = []
    for name in sorted(levels, key=lambda name: -levels[name]):
        slot = next(each for each in free if each[0] >= levels[name])
        free.remove(slot)
        given.append((name, slot[1], slot[2]))
    used = {(gpu, start) for _, gpu, start in given}
    kept = [
        Layout(
            layout.geometry,
            tuple(i for i in layout.instances if (gpu, i.start) in used),
        )
        for gpu, layout in enumerate(layouts)
    ]
    order = list(levels)
    return Packing(tuple(kept), tuple(sorted(given, key=lambda g: order.index(g[0]))), least)
