"""A scheduling decision for a terminal: each node, what decided about it, and its scores."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Object = dict[str, Any]


def render(found: Object) -> RenderableType:
    """What :meth:`mlk8s.sim.Cluster.explain` answers, for 80 columns and more."""
    pod = found["pod"]
    title = f"{pod['namespace']}/{pod['name']}: {pod['phase']}"
    if pod["node"]:
        title += f" on {pod['node']}"
    elif pod["nominated"]:
        title += f", node {pod['nominated']} is being cleared for it"
    parts: list[RenderableType] = [_table(title, found["nodes"])]
    if found["message"]:
        parts.append(Text(found["message"]))
    for each in (found["preemption"] or {}).get("nodes") or ():
        victims = ", ".join(each["victims"])
        best = " (best)" if each["best"] else ""
        parts.append(Text(f"Preemption on {each['name']}{best} would end: {victims}"))
    return Group(*parts)


def _table(title: str, nodes: list[Object]) -> Table:
    table = Table(title=Text(title), title_justify="left")
    table.add_column("node", overflow="fold")
    table.add_column("verdict")
    table.add_column("score", justify="right")
    table.add_column("because", overflow="fold")
    for node in sorted(nodes, key=lambda each: (-(each["total"] or 0), each["name"])):
        total = "" if node["total"] is None else str(node["total"])
        table.add_row(Text(node["name"]), _verdict(node), total, Text(_because(node)))
    return table


def _verdict(node: Object) -> str:
    if node["chosen"]:
        return "chosen"
    if node["fits"]:
        return "as good" if node["best"] else "fits"
    return "no"


def _because(node: Object) -> str:
    if node["fits"]:
        scores = [each for each in node["scores"] if each["weighted"]]
        return ", ".join(f"{each['plugin']} {each['weighted']}" for each in scores)
    against = [each for each in node["verdicts"] if each["reasons"]]
    decided = [each for each in against if each["decided"]]
    others = [each for each in against if not each["decided"]]
    text = "; ".join(
        f"{each['plugin']}: {', '.join(each['reasons'])}" for each in decided or against
    )
    if decided and others:
        text += f" (also {', '.join(each['plugin'] for each in others)})"
    return text
