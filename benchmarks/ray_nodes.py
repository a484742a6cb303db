"""Nodes of Ray that come, go and die: its autoscaler on fake nodes, a node and a head killed.

Both take a minute, most of it the start of processes, so that the book shows a stored run. The
scripts behind it are labs/ray/autoscale.py and labs/ray/faults.py, and the tests run both.
"""

from __future__ import annotations

from pathlib import Path
from runpy import run_path
from typing import Any

from _common import of_processor, origin, run, store, stored

from mlk8s import raylocal
from mlk8s.provenance import Kind, Table

LABS = Path(__file__).parents[1] / "labs/ray"
RESULTS = Path(__file__).with_suffix(".json")


def measure() -> dict[str, Any]:
    """Run both, one after the other."""
    autoscale, faults = (run_path(str(LABS / f"{name}.py")) for name in ("autoscale", "faults"))
    # Shorter, and a node that is slow to get its first task counts as idle and is replaced.
    scaled = autoscale["measure"](idle_s=8)
    here = raylocal.provenance("wall clock")
    return {
        "scaled": [dict(row) for row in scaled],
        "events": [dict(row) for row in autoscale["events"](scaled)],
        "killed": [dict(row) for row in faults["table"](faults["run"](["node", "head"]))],
        "origin": origin(here),
    }


def recorded() -> dict[str, Any]:
    """What ``--record`` has stored."""
    return stored(RESULTS)


def tables(results: dict[str, Any], kind: Kind = Kind.RECORDED) -> tuple[Table, Table, Table]:
    """Samples and events of the autoscaler's run, and what was lost with a node and with the head.

    Args:
        results: of :func:`measure` or :func:`recorded`.
        kind: whether they were measured now.
    """
    method = "tasks, nodes and calls, asked five times a second; every node is a group of processes"
    told = of_processor(results, kind, method)
    titles = {
        "scaled": "Tasks and nodes",
        "events": "4 tasks with a GPU each, and a group of 0 to 2 GPU nodes",
        "killed": "What is lost with a node",
    }
    scaled, events, killed = (
        Table(results[name], told, title=title) for name, title in titles.items()
    )
    return scaled, events, killed


def show(results: dict[str, Any]) -> str:
    """All of it as text."""
    return "\n\n".join(map(str, tables(results, Kind.LIVE)[1:]))


if __name__ == "__main__":
    run(lambda: store(__doc__ or "", RESULTS, measure, show))
