"""Each GPU's instances fit on it, and together they serve the nine."""

from __future__ import annotations

from typing import Any

from mlk8s.course.exercises import Work, Wrong
from mlk8s.errors import UsageError
from mlk8s.gpu import mig

H100, NAME = mig.geometry("h100-80gb"), "team"
NEEDS = {
    **dict.fromkeys(("ana", "ben", "chi", "dan", "eva"), (9.0, 0)),
    "finn": (18.0, 0),
    "gil": (19.0, 30),
    "hana": (36.0, 50),
    "ida": (12.0, 0),
}


def check(work: Work) -> str:
    """Whether it fits, then whether it is enough."""
    (document, *_) = work.documents("layout.yaml") or [None]
    by_gpu = _instances(document)
    for index, names in by_gpu.items():
        if index not in (0, 1):
            raise Wrong(f"devices: there is no GPU {index} on this node.")
        try:
            layout = mig.fit(H100, names)
        except UsageError as error:
            raise Wrong(f"GPU {index}: {error.problem}") from error
        if layout is None:
            raise Wrong(f"GPU {index}: {' + '.join(names)} do not fit on one H100 together.")
    free = [H100.profile(name) for names in by_gpu.values() for name in names]
    free.sort(key=lambda each: (each.sm or 0, each.memory_gib or 0))
    # The largest needs first, each to the smallest instance that is enough.
    for who, (memory, sm) in sorted(NEEDS.items(), key=lambda need: need[1], reverse=True):
        enough = [p for p in free if (p.memory_gib or 0) >= memory and (p.sm or 0) >= sm]
        if not enough:
            needs = f"{memory:g} GiB" + (f" and {sm} SMs" if sm else "")
            raise Wrong(f"{who} needs {needs}, and no instance that is left has them.")
        free.remove(enough[0])
    return f"{sum(map(len, by_gpu.values()))} instances on two GPUs serve all nine."


def _instances(document: Any) -> dict[int, list[str]]:
    """GPU → its profiles, as mig-parted reads them."""
    configs = document.get("mig-configs") if isinstance(document, dict) else None
    rows = configs.get(NAME) if isinstance(configs, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise Wrong(f"layout.yaml has no list mig-configs.{NAME}.")
    found: dict[int, list[str]] = {}
    for row in rows:
        devices = row.get("devices")
        if devices == "all":
            devices = [0, 1]
        counts = row.get("mig-devices")
        if not isinstance(devices, list) or not isinstance(counts, dict):
            raise Wrong(f"mig-configs.{NAME}: each row needs devices and mig-devices.")
        if row.get("mig-enabled") is not True:
            raise Wrong(f"mig-configs.{NAME}: without mig-enabled: true nothing is cut.")
        for index in devices:
            found[index] = [str(name) for name, n in counts.items() for _ in range(int(n))]
    return found
