"""``mlk8s cluster inventory|leftovers|why|run``: questions to any cluster, from a terminal."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from mlk8s.cluster.breaking import fault_app
from mlk8s.cluster.embedded import Json, app, console, embedded, print_json
from mlk8s.errors import ClusterUnavailable

__all__ = ["app", "fault_app"]


def connection() -> Any:
    """The cluster that a command is about: that of ``mlk8s cluster up``, or the live one.

    Raises:
        ClusterUnavailable: it is not up, or does not answer.
    """
    from mlk8s.cluster.connect import VARIABLE, attach, connect, wants_live

    if wants_live():
        live = connect()
        # On stderr, so that --json stays JSON: which cluster a command is about to touch.
        print(live.text, file=sys.stderr)
        return live
    try:
        return attach(embedded())
    except ClusterUnavailable as error:
        raise ClusterUnavailable(
            error.problem,
            f"start one: mlk8s cluster up; or ask the cluster of your kubeconfig: {VARIABLE}=live.",
        ) from error


@app.command(
    "inventory",
    rich_help_panel="Any cluster",
    epilog="Examples: [bold]mlk8s cluster inventory[/bold] · [bold]mlk8s cluster inventory --json "
    "| jq .totals[/bold] · [bold]MLK8S_CLUSTER=live mlk8s cluster inventory[/bold]",
)
def show_inventory(as_json: Json = False) -> None:
    """What GPUs the cluster has: capacity, unhealthy, requested, free, and who holds them."""
    from mlk8s.cluster.inventory import inventory

    found = inventory(connection())
    if as_json:
        print_json(found.as_json())
    else:
        console.print(found)


@app.command(
    "leftovers",
    rich_help_panel="Any cluster",
    epilog="Examples: [bold]mlk8s cluster leftovers[/bold] · [bold]MLK8S_CLUSTER=live mlk8s "
    "cluster leftovers[/bold] · rented machines: [bold]make machine ACTION=list[/bold]",
)
def show_leftovers(as_json: Json = False) -> None:
    """What the course made in the cluster and has not removed, with the command that removes each.

    Deletes nothing. Exit status 0 when nothing is left, 1 when something is.
    """
    from mlk8s.cluster.leftovers import leftovers

    found = leftovers(connection())
    if as_json:
        print_json(found.as_json())
    else:
        console.print(str(found), markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(1 if found.left else 0)


@app.command(
    "why",
    rich_help_panel="Any cluster",
    epilog="Examples: [bold]mlk8s cluster why train-0[/bold] (namespace mlk8s-labs) · [bold]mlk8s "
    "cluster why default/train-0[/bold] · [bold]mlk8s cluster why -n default job/train[/bold]",
)
def show_why(
    pod: Annotated[
        str,
        typer.Argument(help="NAME, NAMESPACE/NAME, KIND/NAME or NAMESPACE/KIND/NAME."),
    ],
    namespace: Annotated[
        str | None, typer.Option("--namespace", "-n", help="Instead of writing it before the name.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Why a pod waits or fails, in plain words, with the cluster's own words as evidence.

    A job, deployment, replicaset, statefulset or daemonset is explained by its pod that is worst
    off, or by what keeps it from having one.
    """
    from mlk8s.cluster.why import why

    answer = why(f"{namespace}/{pod}" if namespace else pod, connection())
    if as_json:
        print_json(answer.as_json())
    else:
        console.print(answer)


@app.command(
    "run",
    rich_help_panel="Any cluster",
    epilog="Examples: [bold]mlk8s cluster run job.yaml[/bold] · [bold]mlk8s cluster run pod.yaml "
    "--timeout 60 --keep[/bold] · [bold]kubectl create job x --image=busybox --dry-run=client "
    "-o yaml -- date | mlk8s cluster run -[/bold]",
)
def run_manifest(
    manifest: Annotated[Path, typer.Argument(help="A YAML file with one Pod or Job; - is stdin.")],
    timeout: Annotated[float, typer.Option(min=0, help="Give up after so many seconds.")] = 600.0,
    keep: Annotated[bool, typer.Option("--keep", help="Leave it there when it has ended.")] = False,
    as_json: Json = False,
) -> None:
    """Submit a pod or job, follow its phases and logs, and delete it, whatever happens.

    Ctrl-C deletes it too. Exit status 0 when it succeeded, 1 when it failed, 130 on Ctrl-C.
    """
    from mlk8s.cluster.manifests import Manifest
    from mlk8s.cluster.workloads import run

    # A terminal that closes, a machine that shuts down: clean up as for Ctrl-C.
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)
    body = Manifest.load("/dev/stdin" if str(manifest) == "-" else manifest)
    result = run(
        body,
        connection(),
        timeout_s=timeout,
        keep=keep,
        show=(lambda line: print(line, file=sys.stderr, flush=True)) if as_json else "auto",
    )
    if as_json:
        print_json(result.as_json())
    else:
        console.print(result.text, markup=False, highlight=False, soft_wrap=True)
    raise typer.Exit(0 if result.succeeded else 1)
