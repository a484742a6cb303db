"""``mlk8s cluster fault``: break the embedded cluster on purpose, from a terminal."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer

from mlk8s.cluster.embedded import (
    OWN,
    Json,
    app,
    console,
    embedded,
    forwarded,
    new_table,
    print_json,
    say,
)

__all__ = ["fault_app"]

fault_app = typer.Typer(
    help="Break the embedded cluster on purpose.",
    no_args_is_help=True,
    epilog="Example: [bold]mlk8s cluster fault on device-unhealthy --node h100-0[/bold], then "
    "[bold]mlk8s cluster inventory[/bold]",
)
app.add_typer(fault_app, name="fault", rich_help_panel=OWN)
_LIST = "list the faults: mlk8s cluster fault list."


@fault_app.command("list")
def fault_list(as_json: Json = False) -> None:
    """The faults, with what an operator sees and which are on."""
    found = embedded().faults()
    if as_json:
        print_json(found)
        return
    from rich.text import Text

    table = new_table("Faults", "fault", "on", "what an operator sees")
    for fault in found:
        table.add_row(fault["name"], "on" if fault["active"] else "", Text(fault["symptom"]))
    console.print(table)


@fault_app.command("on")
def fault_on(
    name: Annotated[str, typer.Argument(help="See: mlk8s cluster fault list.")],
    node: Annotated[str | None, typer.Option(help="On this node alone.")] = None,
    as_json: Json = False,
) -> None:
    """Switch a fault on."""
    _switch(name, lambda cluster: cluster.fault_on(name, node), as_json)


@fault_app.command("off")
def fault_off(
    name: Annotated[str, typer.Argument(help="A fault that is on.")], as_json: Json = False
) -> None:
    """Switch a fault off."""
    _switch(name, lambda cluster: cluster.fault_off(name), as_json)


def _switch(name: str, change: Callable[[Any], None], as_json: bool) -> None:
    def go(cluster: Any) -> Any:
        change(cluster)
        return next(fault for fault in cluster.faults() if fault["name"] == name)

    fault = forwarded(go, _LIST)
    if as_json:
        print_json(fault)
    elif fault["active"]:
        say(f"{name} is on. What an operator sees: {fault['symptom']}.")
    else:
        say(f"{name} is off.")
