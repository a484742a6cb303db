"""``mlk8s cluster``: the embedded cluster, and questions to any cluster, from a terminal."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mlk8s.errors import ClusterUnavailable, UsageError

app = typer.Typer(
    help="A Kubernetes cluster that comes with pip, and questions to any cluster. up, down, "
    "status, kubeconfig, reset, explain, fault: the embedded one. inventory, why, run: that one, "
    "or the one of your kubeconfig with MLK8S_CLUSTER=live.",
    no_args_is_help=True,
)
console = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Namespace = Annotated[str, typer.Option("--namespace", "-n", help="The pod's namespace.")]


def _folder() -> Path:
    from mlk8s.sim.handle import runtime_directory

    return runtime_directory() / "up"


def _embedded() -> Any:
    from mlk8s.sim import Cluster, ClusterError

    try:
        return Cluster.attach(_folder())
    except ClusterError as error:
        raise ClusterUnavailable(
            "No embedded cluster is up.", "start one: mlk8s cluster up."
        ) from error


@app.command(epilog="Presets: mlk8s cluster presets. Example: mlk8s cluster up --nodes h100x8,cpu")
def up(
    nodes: Annotated[
        str, typer.Option(help="Presets separated by commas, or a YAML file.")
    ] = "course",
    port: Annotated[int, typer.Option(help="Loopback port; 0 takes a free one.")] = 0,
    idle: Annotated[
        float, typer.Option(min=1, help="Stop after so many hours without a request.")
    ] = 12.0,
    owner: Annotated[
        int | None, typer.Option(help="Stop when the process with this id ends, however it ends.")
    ] = None,
    manual_clock: Annotated[
        bool, typer.Option("--manual-clock", help="Time passes by `mlk8s cluster advance` alone.")
    ] = False,
    seed: Annotated[int | None, typer.Option(help="Make names and choices repeatable.")] = None,
    as_json: Json = False,
) -> None:
    """Start the embedded cluster in the background.

    It listens on loopback only and has a kubeconfig of its own; yours is not touched.
    """
    from mlk8s.sim import Cluster, ClusterError
    from mlk8s.sim.handle import launch

    folder = _folder()
    if folder.is_dir():
        try:
            running = Cluster.attach(folder)
        except ClusterError:
            # It was killed: its files are of no use to anybody.
            shutil.rmtree(folder)
        else:
            raise UsageError(
                f"An embedded cluster is up already (nodes: {running.nodes}, {running.url}).",
                "use it, or end it first: mlk8s cluster down.",
            )
    folder.mkdir(mode=0o700)
    options = ["--idle", str(idle * 3600), "--port", str(port)]
    options += ["--owner", str(owner)] if owner is not None else []
    options += ["--manual-clock"] if manual_clock else []
    options += ["--seed", str(seed)] if seed is not None else []
    try:
        launch(folder, nodes, options)
    except ClusterError as error:
        raise ClusterUnavailable(
            f"The embedded cluster did not start: {error}",
            "correct what the message names; presets: mlk8s cluster presets.",
        ) from error
    cluster = Cluster.attach(folder)
    if as_json:
        _print_json({"url": cluster.url, "kubeconfig": str(cluster.kubeconfig)})
        return
    console.print(
        f"A simulated cluster is up at {cluster.url} (nodes: {nodes}).\n"
        f"export KUBECONFIG={cluster.kubeconfig}",
        soft_wrap=True,
        markup=False,
        highlight=False,
    )


@app.command()
def down() -> None:
    """End the embedded cluster: its pods, processes and files. Nothing of it is left."""
    _embedded().stop()
    console.print("The simulated cluster is gone.")


@app.command()
def status(as_json: Json = False) -> None:
    """Show what is up, and what the embedded cluster does not model."""
    cluster = _embedded()
    found = cluster.status()
    if as_json:
        _print_json({**found, "url": cluster.url, "kubeconfig": str(cluster.kubeconfig)})
        return
    from rich.table import Table as RichTable
    from rich.text import Text

    limits = found.pop("limits")
    table = RichTable("what", "value", title="Embedded cluster", title_justify="left")
    for name, value in {**found, "url": cluster.url, "kubeconfig": cluster.kubeconfig}.items():
        shown = ", ".join(map(str, value)) if isinstance(value, list) else value
        table.add_row(name, Text(str(shown), overflow="fold"))
    console.print(table)
    table = RichTable("not modelled", "instead", title="Limits", title_justify="left")
    for what, instead in limits:
        table.add_row(Text(what), Text(instead))
    console.print(table)


@app.command()
def kubeconfig(
    export: Annotated[
        bool, typer.Option("--export", help="Print a shell's export line instead.")
    ] = False,
) -> None:
    """Print the path of the embedded cluster's kubeconfig."""
    path = _embedded().kubeconfig
    print(f"export KUBECONFIG={path}" if export else path)


@app.command()
def reset() -> None:
    """Throw all objects away and start anew, with the same nodes and address."""
    _embedded().reset()
    console.print("The simulated cluster is as new.")


@app.command()
def presets() -> None:
    """List the node presets of --nodes."""
    from rich.table import Table as RichTable

    from mlk8s.sim.nodes.spec import presets as known

    table = RichTable("preset", "nodes")
    for name, text in known().items():
        table.add_row(name, text)
    console.print(table)


@app.command()
def advance(
    seconds: Annotated[float, typer.Argument(min=0, help="Simulated seconds.")],
) -> None:
    """Let time pass on a cluster that was started with --manual-clock."""
    _forwarded(lambda cluster: cluster.advance(seconds))


@app.command()
def explain(
    pod: Annotated[str, typer.Argument(help="The pod's name.")],
    namespace: Namespace = "default",
    as_json: Json = False,
) -> None:
    """Show the scheduler's decision: each node, each plugin's verdict and score."""
    found = _forwarded(lambda cluster: cluster.explain(pod, namespace))
    if as_json:
        _print_json(found)
        return
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable("node", "verdict", "decided by", "score", title=f"{namespace}/{pod}")
    for node in found["nodes"]:
        decided = [p for p in node["plugins"] if p["code"] not in ("Success", "Skip")]
        reasons = "; ".join(f"{p['plugin']}: {', '.join(p['reasons'])}" for p in decided)
        scores = ", ".join(f"{s['plugin']} {s['weighted']}" for s in node.get("scores", ()))
        verdict = "chosen" if node["chosen"] else "rejected" if decided else "possible"
        total = f"{node['total']} ({scores})" if scores else ""
        table.add_row(node["node"], verdict, Text(reasons), Text(total))
    console.print(table)
    if found.get("message"):
        console.print(Text(found["message"]))


fault_app = typer.Typer(help="Break the embedded cluster on purpose.", no_args_is_help=True)
app.add_typer(fault_app, name="fault")


@fault_app.command("list")
def fault_list(as_json: Json = False) -> None:
    """The faults, with what an operator sees and which are on."""
    found = _embedded().faults()
    if as_json:
        _print_json(found)
        return
    from rich.table import Table as RichTable
    from rich.text import Text

    table = RichTable("fault", "on", "what an operator sees")
    for fault in found:
        table.add_row(fault["name"], "on" if fault["active"] else "", Text(fault["symptom"]))
    console.print(table)


@fault_app.command("on")
def fault_on(
    name: Annotated[str, typer.Argument(help="See: mlk8s cluster fault list.")],
    node: Annotated[str | None, typer.Option(help="On this node alone.")] = None,
) -> None:
    """Switch a fault on."""
    _forwarded(lambda cluster: cluster.fault_on(name, node))


@fault_app.command("off")
def fault_off(name: Annotated[str, typer.Argument(help="A fault that is on.")]) -> None:
    """Switch a fault off."""
    _forwarded(lambda cluster: cluster.fault_off(name))


def _forwarded(call: Any) -> Any:
    from mlk8s.errors import ClusterError as Refused
    from mlk8s.sim import ClusterError

    try:
        return call(_embedded())
    except ClusterError as error:
        raise Refused(str(error).rstrip(".") + ".", "correct the argument.") from error


def _connection() -> Any:
    import os

    from mlk8s.cluster.connect import VARIABLE, attach, connect

    if os.environ.get(VARIABLE, "simulated") != "simulated":
        return connect()
    try:
        return attach(_embedded())
    except ClusterUnavailable as error:
        raise ClusterUnavailable(
            error.problem,
            f"start one: mlk8s cluster up; or ask the cluster of your kubeconfig: {VARIABLE}=live.",
        ) from error


@app.command("inventory")
def show_inventory(as_json: Json = False) -> None:
    """What GPUs the cluster has: capacity, allocatable, requested, free, and who holds them."""
    from mlk8s.cluster.inventory import inventory

    found = inventory(_connection())
    if as_json:
        _print_json(found.as_json())
    else:
        console.print(found)


@app.command("why")
def show_why(
    pod: Annotated[
        str, typer.Argument(help="NAME, NAMESPACE/NAME, job/NAME or NAMESPACE/job/NAME.")
    ],
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Instead of writing it before the name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Why a pod waits or fails, in plain words, with the cluster's own words as evidence."""
    from mlk8s.cluster.why import why

    answer = why(f"{namespace}/{pod}" if namespace else pod, _connection())
    if as_json:
        _print_json(answer.as_json())
    else:
        console.print(answer)


@app.command("run")
def run_manifest(
    manifest: Annotated[Path, typer.Argument(help="A YAML file with one Pod or Job.")],
    timeout: Annotated[float, typer.Option(help="Give up after so many seconds.")] = 600.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it there when it has ended.")] = False,
) -> None:
    """Submit a pod or job, follow its phases and logs, and delete it, whatever happens.

    Exit status 0 when it succeeded, 1 when it failed.
    """
    from mlk8s.cluster.manifests import Manifest
    from mlk8s.cluster.workloads import run

    result = run(
        Manifest.load(manifest),
        _connection(),
        timeout_s=timeout,
        keep=keep,
        show=lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True),
    )
    console.print(result.text, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if result.succeeded else 1)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False, default=str))
