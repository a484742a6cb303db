"""The calculator of MIG layouts."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from mlk8s.course.calculators.inputs import Answer, Calculator, Invalid, Listing, at, choice, text
from mlk8s.errors import UsageError
from mlk8s.gpu.mig import asking, layout, packing, profiles, steps
from mlk8s.provenance import Finding, Table

#: Demands, and instances of one GPU, that are looked at: more are no question for a page.
MOST = 100


@dataclass(frozen=True)
class Mig(Calculator):
    """Where MIG instances go on a GPU, or on how few GPUs a list of demands fits."""

    name: ClassVar = "mig"
    title: ClassVar = "MIG layout"

    gpu: str = choice("GPU", "h100-80gb", {each.id: each.name for each in profiles.known()})
    by: str = choice(
        "You know",
        "profiles",
        {
            "profiles": "the profiles",
            "demands": "what each workload needs",
        },
    )
    wanted: str = text(
        "Profiles",
        "3g.40gb 2g.20gb 1g.10gb 1g.10gb",
        "Separated by spaces, one for each instance.",
        when={"by": ["profiles"]},
    )
    demands: str = text(
        "Memory of each workload",
        "30 18 18 9 9 9:20",
        "GiB, separated by spaces; 9:20 needs 20 SMs as well.",
        when={"by": ["demands"]},
    )

    def answer(self) -> Answer:
        """A layout for each GPU, and the commands and names that go with it."""
        return self._place() if self.by == "profiles" else self._pack()

    def _place(self) -> Answer:
        geometry = profiles.geometry(self.gpu)
        names = self.wanted.replace(",", " ").split()
        _few("wanted", len(names))
        with at("wanted"):
            found = layout.fit(geometry, names)
        if found is None:
            said = f"{' + '.join(names)} do not fit on one {geometry.name} together."
            return Answer(Finding(said, geometry.provenance), (geometry.table(),))
        free = ", ".join(p.name for p in geometry.plain if found.places(p)) or "none"
        said = (
            f"They fit on one {geometry.name}: {found}. {found.unused_sm} of its {geometry.sm} SMs "
            f"are in no instance. What still fits beside them: {free}."
        )
        return Answer(
            Finding(said, geometry.provenance), (found.table(), *_words(geometry, [found]))
        )

    def _pack(self) -> Answer:
        geometry = profiles.geometry(self.gpu)
        words = self.demands.replace(",", " ").split()
        _few("demands", len(words))
        asked = [_demand(number, word) for number, word in enumerate(words, 1)]
        try:
            found = packing.pack(geometry, asked)
        except UsageError as error:
            # A table with gaps is the GPU's fault, not that of the demands.
            gaps = any(p.sm is None or p.memory_gib is None for p in geometry.plain)
            field = "gpu" if gaps else "demands"
            raise Invalid(field, error.problem, error.next_step) from error
        count = len(found.layouts)
        gpus = f"{count} GPU" if count == 1 else f"{count} GPUs"
        proof = "no fewer do" if found.exact else f"{found.least} are needed at least"
        said = (
            f"{len(asked)} workloads on {gpus} ({geometry.name}); {proof}. Only the number of GPUs "
            "is made small: an instance may be larger than its workload needs."
        )
        return Answer(
            Finding(said, geometry.provenance),
            (found.table(), *_words(geometry, list(found.layouts))),
        )


def _few(field: str, count: int) -> None:
    if not 0 < count <= MOST:
        raise Invalid(field, f"There are {count} in the list.", f"write 1 to {MOST}.")


def _demand(number: int, word: str) -> packing.Demand:
    gib, _, sm = word.partition(":")
    try:
        demand = packing.Demand(f"workload {number}", float(gib), int(sm or 0))
    except ValueError as error:
        raise Invalid(
            "demands", f"{word!r} is no demand.", "write GiB or GiB:SMs, such as 18 or 18:30."
        ) from error
    if not (0 <= demand.memory_gib < float("inf") and demand.sm >= 0):
        raise Invalid("demands", f"{word!r} is out of range.", "write numbers of at least 0.")
    return demand


def _words(
    geometry: profiles.Geometry, layouts: list[layout.Layout]
) -> tuple[Table | Listing, ...]:
    """Layouts as pictures, commands, a configuration and resource names."""
    pictures = "\n\n".join(f"GPU {i}\n{each.text(11)}" for i, each in enumerate(layouts))
    commands = [
        line
        for i, each in enumerate(layouts)
        for line in asking.nvidia_smi(steps.Change((), (), each.instances, ()), i)
    ]
    # JSON is YAML, and needs no library that a browser would have to load.
    config = json.dumps(asking.mig_parted("calculated", layouts), indent=2)
    names = "\n".join(f"{name}: {count}" for name, count in asking.resources(layouts).items())
    return (
        Listing("Memory slices, and what is on them", pictures),
        Listing("On the host, empty GPUs in MIG mode", "\n".join(commands)),
        Listing("Configuration for mig-parted and the MIG manager", config),
        Listing("What the node offers under strategy mixed", names),
    )
