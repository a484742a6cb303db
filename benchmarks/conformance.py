"""How close the embedded cluster is to Kubernetes: what gives the same answer, case by case.

Scheduling scenarios, kubectl and the Python client are compared with what Kubernetes 1.36.2
answered; what needs a kubelet, kr8s and the Kubeflow SDK must succeed. The cases and the recorded
answers are in ``tests/sim/truth``. Takes about a minute.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

from _common import MISSED, run, stored

from mlk8s.errors import UsageError
from mlk8s.provenance import Kind, Provenance, Table

sys.path.insert(0, str(Path(__file__).parents[1]))
from tests.sim.truth import suites

RESULTS = Path(__file__).with_suffix(".json")


def measure() -> dict[str, Any]:
    """All suites.

    Raises:
        UsageError: kubectl is not installed.
    """
    if suites.kubectl_is_missing():
        raise UsageError(
            "kubectl is missing.", "install it: https://kubernetes.io/docs/tasks/tools."
        )
    scores = []
    differences = []
    software = {"Python": platform.python_version(), "mlk8s": version("mlk8s")}
    for name, suite in suites.SUITES.items():
        print(f"  {name}", file=sys.stderr)
        score = suite()
        scores.append({"suite": name, "same": score.same, "of": score.of})
        for case, how in score.differences.items():
            reason = suites.LEFT.get(name, {}).get(case)
            differences.append({"suite": name, "case": case, "reason": reason or how})
        software |= score.software
    return {
        "kubernetes": suites.SCHEDULING["kubernetes"],
        "scores": scores,
        "differences": differences,
        "origin": {"kind": "live", "date": date.today().isoformat(), "software": software},
    }


def tables(results: dict[str, Any]) -> list[Table]:
    """The results as tables with their origin."""
    origin = results["origin"]
    provenance = Provenance(
        Kind(origin["kind"]),
        f"the embedded cluster's answers, compared with those that Kubernetes "
        f"{results['kubernetes']} gave, volatile parts aside",
        date=origin["date"],
        software=origin["software"],
    )
    scores = Table(results["scores"], provenance, title="Cases that give the same answer")
    differences = Table(results["differences"], provenance, title="What differs, and why")
    return [differences, scores] if results["differences"] else [scores]


def recorded() -> dict[str, Any]:
    """What ``--record`` has stored."""
    return stored(RESULTS)


def main() -> int:
    """Compare, print, and store if asked to."""
    parser = argparse.ArgumentParser(description=__doc__.replace("``", "") if __doc__ else None)
    parser.add_argument(
        "--record", action="store_true", help=f"write the results to {RESULTS.name} beside this"
    )
    arguments = parser.parse_args()
    results = measure()
    if arguments.record:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(*tables(results), sep="\n\n")
    left = {(suite, case) for suite, cases in suites.LEFT.items() for case in cases}
    found = {(one["suite"], one["case"]) for one in results["differences"]}
    return 0 if found <= left else MISSED


if __name__ == "__main__":
    run(main)
