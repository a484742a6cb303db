"""What Katib proposes for forty trials, not what the file says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from mlk8s.cluster.wire import path
from mlk8s.course.exercises import Work, Wrong

NAME, TRIALS, KATIB = "search", 40, "kubeflow.org/v1beta1"
LABEL = {"katib.kubeflow.org/metrics-collector-injection": "enabled"}
LOW, HIGH, BATCHES, DROPOUT = -5, -1, (16, 32, 64, 128, 256), 0.5
#: Ten on the average; fewer than four in five of a thousand searches.
SHARE = 4
ALIKE = 35
BETWEEN = (10, 30)


def prepare(work: Work) -> None:
    """Let the namespace have Experiments."""
    work.k.patch("namespaces", work.namespace, {"metadata": {"labels": LABEL}})


def check(work: Work) -> str:
    """Have it propose, and look at each parameter."""
    work.remove("experiment", NAME)
    work.until("the last search to be gone", lambda: not _left(work))
    work.apply("search.yaml", "Experiment")
    work.until("the proposals", lambda: len(_proposed(work)) == TRIALS)
    found = _proposed(work)
    work.remove("experiment", NAME)
    if len(found) != TRIALS:
        raise Wrong(f"Katib proposes {len(found)} trials of the Experiment {NAME}, not {TRIALS}.")
    if missing := {"rate", "batch", "dropout"} - set(found[0]):
        raise Wrong(f"There is no parameter {' and no '.join(sorted(missing))} any more.")
    _rates([float(each["rate"]) for each in found])
    _batches([each["batch"] for each in found])
    _dropouts([float(each["dropout"]) for each in found])
    return f"{TRIALS} proposals: rates from each power of ten, five batch sizes, dropout evenly."


def _rates(found: list[float]) -> None:
    outside = [rate for rate in found if not 10.0**LOW <= rate <= 10.0**HIGH]
    if outside:
        raise Wrong(f"rate: {outside[0]:g} is proposed, outside of 1e{LOW} to 1e{HIGH}.")
    for power in range(LOW, HIGH):
        count = sum(math.floor(math.log10(rate)) == power for rate in found)
        if count < SHARE:
            raise Wrong(
                f"rate: {count} of {TRIALS} proposals lie between 1e{power} and 1e{power + 1}. "
                "Where are the others, and what would spread them over the powers of ten?"
            )
    if len(set(found)) < ALIKE:
        raise Wrong(f"rate: {len(set(found))} different values for {TRIALS} trials.")


def _batches(found: list[str]) -> None:
    strange = [batch for batch in found if batch not in map(str, BATCHES)]
    if strange:
        raise Wrong(f"batch: {strange[0]} is proposed, which is no power of two from 16 to 256.")
    if missing := set(map(str, BATCHES)) - set(found):
        raise Wrong(f"batch: {', '.join(sorted(missing, key=int))} is never proposed.")


def _dropouts(found: list[float]) -> None:
    above = sum(each > DROPOUT / 2 for each in found)
    if not 0 <= min(found) <= max(found) <= DROPOUT or not BETWEEN[0] <= above <= BETWEEN[1]:
        raise Wrong(
            f"dropout: {above} of {TRIALS} are above {DROPOUT / 2:g}, between {min(found):.2g} and "
            f"{max(found):.2g}. Does it act by its factor, as a rate does?"
        )


def _proposed(work: Work) -> list[Mapping[str, str]]:
    """The parameters of each proposal."""
    found = work.k.find(path(f"{KATIB}/suggestions", NAME, work.namespace)) or {}
    said: list[dict[str, Any]] = found.get("status", {}).get("suggestions") or []
    return [{p["name"]: p["value"] for p in each["parameterAssignments"]} for each in said]


def _left(work: Work) -> bool:
    kinds = (f"{KATIB}/suggestions", f"{KATIB}/trials")
    return any(True for kind in kinds for _ in work.k.items(path(kind, namespace=work.namespace)))
