"""``mlk8s cluster up|down|…``: the embedded cluster, from a terminal."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mlk8s.cluster.addons import NEXT_STEP
from mlk8s.errors import ClusterError, ClusterUnavailable, UsageError

app = typer.Typer(
    help="A Kubernetes cluster that comes with pip, and questions to any cluster.\n\n"
    "inventory, why and run ask the embedded cluster, or with MLK8S_CLUSTER=live the one of your "
    "kubeconfig. All else is about the embedded one.",
    epilog="Begin with: [bold]mlk8s cluster up[/bold] · [bold]export KUBECONFIG=$(mlk8s cluster "
    "kubeconfig)[/bold] · [bold]kubectl get nodes[/bold] · [bold]mlk8s cluster inventory[/bold] · "
    "[bold]mlk8s cluster down[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
console = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
OWN = "The embedded cluster"


def folder() -> Path:
    """Where the cluster of ``mlk8s cluster up`` keeps its files."""
    from mlk8s.sim.handle import runtime_directory

    return runtime_directory() / "up"


def embedded() -> Any:
    """The cluster that ``mlk8s cluster up`` started.

    Raises:
        ClusterUnavailable: none is up.
    """
    from mlk8s.sim import Cluster
    from mlk8s.sim import ClusterError as Broken

    try:
        return Cluster.attach(folder())
    except Broken as error:
        raise ClusterUnavailable(
            "No embedded cluster is up.", "start one: mlk8s cluster up."
        ) from error


def print_json(value: Any) -> None:
    """JSON on standard output."""
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))


def say(text: str) -> None:
    """A sentence on standard output, as it stands."""
    console.print(text, soft_wrap=True, markup=False, highlight=False)


def new_table(title: str, *columns: str) -> Any:
    """A table that folds in a narrow terminal."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    return table


@app.command(
    rich_help_panel=OWN,
    epilog="Examples: [bold]mlk8s cluster up[/bold] · [bold]mlk8s cluster up --nodes h100x8,cpu*2"
    "[/bold] · [bold]mlk8s cluster up --nodes lab.yaml --manual-clock[/bold]. Presets: [bold]mlk8s "
    "cluster presets[/bold]",
)
def up(
    nodes: Annotated[
        str, typer.Option(help="Presets separated by commas, or a YAML file.")
    ] = "course",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Loopback port; 0 takes a free one.")
    ] = 0,
    idle: Annotated[
        float, typer.Option(min=0.01, help="Stop after so many hours without a request.")
    ] = 12.0,
    owner: Annotated[
        int | None, typer.Option(help="Stop when the process with this id ends, however it ends.")
    ] = None,
    manual_clock: Annotated[
        bool, typer.Option("--manual-clock", help="Time passes by `mlk8s cluster advance` alone.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Make names and choices repeatable.")] = None,
    addons: Annotated[
        str, typer.Option(help="Add-ons to enable, separated by commas: mlk8s cluster addon list.")
    ] = "",
    as_json: Json = False,
) -> None:
    """Start the embedded cluster in the background.

    It listens on loopback only and has a kubeconfig of its own; yours is not touched.
    """
    from mlk8s.sim import Cluster
    from mlk8s.sim import ClusterError as Broken
    from mlk8s.sim.handle import launch

    where = folder()
    if where.is_dir():
        try:
            running = Cluster.attach(where)
        except Broken:
            # It was killed: its files are of no use to anybody.
            shutil.rmtree(where)
        else:
            raise UsageError(
                f"An embedded cluster is up already (nodes: {running.nodes}, {running.url}).",
                "use it, or end it first: mlk8s cluster down.",
            )
    where.mkdir(mode=0o700)
    options = ["--idle", str(idle * 3600), "--port", str(port)]
    options += ["--owner", str(owner)] if owner is not None else []
    options += ["--manual-clock"] if manual_clock else []
    options += ["--seed", str(seed)] if seed is not None else []
    options += ["--addons", addons] if addons else []
    try:
        launch(where, nodes, options)
    except Broken as error:
        raise ClusterUnavailable(
            f"The embedded cluster did not start: {str(error).rstrip('.')}.",
            "correct what the message names; presets: mlk8s cluster presets; add-ons: mlk8s "
            "cluster addon list.",
        ) from error
    cluster = Cluster.attach(where)
    if as_json:
        print_json({"url": cluster.url, "kubeconfig": str(cluster.kubeconfig), "nodes": nodes})
        return
    say(
        f"A simulated cluster is up at {cluster.url} (nodes: {nodes}). For kubectl:\n"
        f"export KUBECONFIG={cluster.kubeconfig}"
    )


@app.command(rich_help_panel=OWN)
def down(as_json: Json = False) -> None:
    """End the embedded cluster: its pods, processes and files. Nothing of it is left."""
    embedded().stop()
    print_json({"up": False}) if as_json else say("The simulated cluster is gone.")


@app.command(rich_help_panel=OWN)
def status(as_json: Json = False) -> None:
    """Show what is up, and what the embedded cluster does not model."""
    cluster = embedded()
    found = {**cluster.status(), "url": cluster.url, "kubeconfig": str(cluster.kubeconfig)}
    if as_json:
        print_json(found)
        return
    from rich.text import Text

    limits = found.pop("limits")
    table = new_table("Embedded cluster", "what", "value")
    for name, value in found.items():
        shown = ", ".join(map(str, value)) or "–" if isinstance(value, list) else value
        shown = {True: "yes", False: "no"}[shown] if isinstance(shown, bool) else shown
        table.add_row(name, Text(str(shown)))
    console.print(table)
    table = new_table("Limits", "part", "not modeled", "instead")
    for row in limits:
        table.add_row(*map(Text, row))
    console.print(table)


@app.command(
    rich_help_panel=OWN,
    epilog='Examples: [bold]eval "$(mlk8s cluster kubeconfig --export)"[/bold] · [bold]kubectl '
    '--kubeconfig "$(mlk8s cluster kubeconfig)" get nodes[/bold]',
)
def kubeconfig(
    export: Annotated[
        bool, typer.Option("--export", help="Print a shell's export line instead.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Print the path of the embedded cluster's kubeconfig."""
    path = embedded().kubeconfig
    if as_json:
        print_json({"kubeconfig": str(path)})
    else:
        print(f"export KUBECONFIG={path}" if export else path)


@app.command(rich_help_panel=OWN)
def reset(as_json: Json = False) -> None:
    """Throw all objects away and start anew, with the same nodes and address, without add-ons."""
    cluster = embedded()
    cluster.reset()
    print_json(cluster.status()) if as_json else say("The simulated cluster is as new.")


@app.command(rich_help_panel=OWN)
def presets(as_json: Json = False) -> None:
    """List the node presets of --nodes."""
    from mlk8s.sim.nodes.spec import presets as known

    if as_json:
        print_json(known())
        return
    table = new_table("Presets", "preset", "nodes")
    for name, text in known().items():
        table.add_row(name, text)
    console.print(table)


@app.command(
    rich_help_panel=OWN,
    epilog="Example: [bold]mlk8s cluster up --manual-clock; mlk8s cluster advance 300[/bold]",
)
def advance(
    seconds: Annotated[float, typer.Argument(min=0, help="Simulated seconds.")],
    as_json: Json = False,
) -> None:
    """Let time pass on a cluster that was started with --manual-clock."""

    def go(cluster: Any) -> Any:
        cluster.advance(seconds)
        return cluster.status()["now"]

    now = forwarded(go, "end it and start one with: mlk8s cluster up --manual-clock.")
    print_json({"now": now}) if as_json else say(f"It is {now} in the simulated cluster.")


def forwarded(call: Callable[[Any], Any], next_step: str) -> Any:
    """What the embedded cluster answers to a call; its refusal is an error with a next step."""
    from mlk8s.sim import ClusterError as Broken

    cluster = embedded()
    try:
        return call(cluster)
    except Broken as error:
        message = str(error).rstrip(".")
        raise ClusterError(f"{message[:1].upper()}{message[1:]}.", next_step) from error


@app.command(
    rich_help_panel=OWN,
    epilog="Examples: [bold]mlk8s cluster explain train-0 -n mlk8s-labs[/bold] · [bold]mlk8s "
    "cluster explain train-0 --json | jq '.nodes[] | select(.fits)'[/bold]",
)
def explain(
    pod: Annotated[str, typer.Argument(help="NAME or NAMESPACE/NAME.")],
    namespace: Annotated[
        str, typer.Option("--namespace", "-n", help="The pod's namespace.")
    ] = "mlk8s-labs",
    as_json: Json = False,
) -> None:
    """Show the scheduler's decision: each node, which plugin decided, and the scores."""
    home, _, name = pod.rpartition("/")
    home = home or namespace
    found = forwarded(
        lambda cluster: cluster.explain(name, home), f"list the pods: kubectl get pods -n {home}."
    )
    if as_json:
        print_json(found)
        return
    from mlk8s.cluster.decision import render

    console.print(render(found))


addon = typer.Typer(
    help="Parts of other projects' control loops, modeled from their documentation and source: "
    "Kueue, Kubeflow Trainer, Katib, KServe, KubeRay.\n\n"
    "Off by default. Enabling one brings its CustomResourceDefinitions, its controllers and its "
    "webhooks.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
app.add_typer(addon, name="addon", rich_help_panel=OWN)
Name = Annotated[str, typer.Argument(metavar="NAME", help="As `mlk8s cluster addon list` has it.")]


@addon.command("list")
def list_addons(as_json: Json = False) -> None:
    """List the add-ons: which are on, what version each models, and what it leaves out."""
    found = embedded().addons()
    if as_json:
        print_json(found)
        return
    from rich.text import Text

    table = new_table("Add-ons", "name", "on", "what", "a model of", "not modeled")
    for each in found:
        table.add_row(
            each["name"],
            "yes" if each["active"] else "no",
            Text(each["title"]),
            Text(f"{each['version']} ({each['date']}), {each['source']}"),
            Text("; ".join(each["not_modeled"])),
        )
    console.print(table)


@addon.command(
    epilog="Example: [bold]mlk8s cluster addon enable kueue; kubectl get clusterqueues[/bold]"
)
def enable(name: Name, as_json: Json = False) -> None:
    """Install an add-on. Harmless when it is on."""
    forwarded(lambda cluster: cluster.enable(name), NEXT_STEP)
    _told(name, True, as_json)


@addon.command()
def disable(name: Name, as_json: Json = False) -> None:
    """Remove an add-on, its definitions and all their objects. Harmless when it is off.

    What it did to other objects stays: a Job that it had suspended stays suspended.
    """
    forwarded(lambda cluster: cluster.disable(name), NEXT_STEP)
    _told(name, False, as_json)


def _told(name: str, on: bool, as_json: bool) -> None:
    if as_json:
        print_json({"name": name, "active": on})
    else:
        say(f"Add-on {name} is {'on' if on else 'off'}.")
