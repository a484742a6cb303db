"""``mlk8s exercise``: the exercises from a terminal."""

from __future__ import annotations

import json
import os
import shlex
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from mlk8s.errors import ClusterUnavailable

if TYPE_CHECKING:
    from mlk8s.cluster import Connection
    from mlk8s.course.exercises.catalogue import Exercise
    from mlk8s.course.exercises.engine import Engine
    from mlk8s.course.exercises.show import Overview, Page

app = typer.Typer(
    help="Exercises that check themselves: start one, solve it, have it checked.\n\n"
    "Answers are files in work/exercises beside the course (MLK8S_WORK moves work), or what you "
    "change in the cluster. The cluster is that of mlk8s cluster up, or with MLK8S_CLUSTER=live "
    "the one of your kubeconfig; each exercise works in a namespace of its own.",
    epilog="Begin with: [bold]mlk8s cluster up[/bold] · [bold]mlk8s exercise list[/bold] · "
    "[bold]mlk8s exercise start 5.1[/bold] · [bold]mlk8s exercise check 5.1[/bold]",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
console = Console()

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Name = Annotated[str, typer.Argument(help="5.3, the-taint or 5.3-the-taint.", show_default=False)]


@app.command("list")
def show_list(
    chapter: Annotated[
        int | None, typer.Option("--chapter", "-c", help="Only those of this chapter.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Show all exercises, and how far you are."""
    with _engine(as_json) as engine:
        _print(engine.overview(chapter), as_json)


@app.command(
    epilog="Examples: [bold]mlk8s exercise start 5.3[/bold] · [bold]mlk8s exercise start 5.2 "
    "--new-cluster[/bold]"
)
def start(
    name: Name,
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            "-f",
            help="Begin anew: the cluster as the task says, and the starter's files; yours move "
            "to before-reset.",
        ),
    ] = False,
    new_cluster: Annotated[
        bool,
        typer.Option(
            "--new-cluster",
            help="Start the embedded cluster with the nodes that the exercise needs; one that is "
            "up ends, with all that is in it. Its kubeconfig keeps its path.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Put the starter's files in place, prepare the cluster, and show the task.

    Files that are there are never overwritten. An exercise that is under way stays as you left it.
    """
    if new_cluster:
        _renew(name, quiet=as_json)
    with _engine(as_json) as engine:
        _print(engine.start(name, force=force), as_json)


@app.command()
def check(
    name: Name,
    clean: Annotated[
        bool, typer.Option("--clean", help="When solved, remove from the cluster what it made.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Judge your answer: what is wrong and where to look, or what was proven.

    Exit status 0 when it is solved, 1 when not. What is not the answer's fault (the cluster is
    gone) is an error on stderr, and does not count as a try.
    """
    with _engine(as_json) as engine:
        found = engine.check(name, clean=clean)
        _print(found, as_json)
    raise typer.Exit(0 if found.good else 1)


@app.command()
def hint(name: Name, as_json: Json = False) -> None:
    """Show the next hint; each says more than the one before."""
    with _engine(as_json) as engine:
        _print(engine.hint(name), as_json)


@app.command()
def solution(name: Name, as_json: Json = False) -> None:
    """Show a solution and its explanation. Your files stay as they are."""
    with _engine(as_json) as engine:
        _print(engine.solution(name), as_json)


@app.command()
def reset(name: Name, as_json: Json = False) -> None:
    """Remove the exercise from the cluster and put the starter's files back.

    Files that you changed move to the folder before-reset. What you solved stays solved.
    """
    with _engine(as_json) as engine:
        _print(engine.reset(name), as_json)


@app.command(
    epilog="Examples: [bold]mlk8s exercise test[/bold] · [bold]mlk8s exercise test 5.3[/bold]"
)
def test(
    names: Annotated[
        list[str] | None, typer.Argument(help="Exercises; all if empty.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """For authors: prove that the starter fails, the solution passes, and each wrong answer fails.

    Runs on embedded clusters of its own; yours and your files are not touched. Exit status 1 when
    an exercise is not proven.
    """
    from mlk8s.course.exercises import catalogue, prove

    where = catalogue.find_folder()
    chosen = [catalogue.find(name, where) for name in names] if names else catalogue.load_all(where)
    proofs = []
    with prove.Clusters() as clusters:
        for exercise in chosen:
            proof = prove.prove(exercise, clusters)
            proofs.append(proof)
            if not as_json:
                console.print(proof)
    if as_json:
        _print_json([proof.as_json() for proof in proofs])
    raise typer.Exit(0 if all(proof.holds for proof in proofs) else 1)


@contextmanager
def _engine(quiet: bool) -> Iterator[Engine]:
    """The engine of a terminal; what it waits for stands beside a spinner, or on stderr."""
    from rich.markup import escape

    from mlk8s.course.exercises.catalogue import find_folder
    from mlk8s.course.exercises.engine import Engine, home

    where = find_folder()
    shown = Console(stderr=True)
    with shown.status("Looking") as status:

        def say(text: str) -> None:
            if shown.is_terminal:
                status.update(escape(f"Waiting for {text}"))
            elif not quiet:
                shown.print(f"Waiting for {text}.", markup=False, highlight=False, soft_wrap=True)

        yield Engine(
            exercises=where,
            home=home(where),
            connect=_connect,
            command=lambda verb, number: f"mlk8s exercise {verb} {number}",
            say=say,
        )


def _connect(exercise: Exercise) -> Connection:
    from mlk8s.cluster import attach, connect
    from mlk8s.cluster.connect import wants_live
    from mlk8s.cluster.embedded import embedded
    from mlk8s.course.exercises.catalogue import NODES

    if wants_live():
        connection = connect()
        # Which cluster a command is about to touch.
        print(connection.text, file=sys.stderr)
        return connection
    renew = f"mlk8s exercise start {exercise.number} --new-cluster"
    try:
        cluster = embedded()
    except ClusterUnavailable as error:
        nodes = "" if exercise.nodes == NODES else f" --nodes {shlex.quote(exercise.nodes)}"
        raise ClusterUnavailable(
            error.problem, f"start one: mlk8s cluster up{nodes}; or do both at once: {renew}."
        ) from error
    if cluster.nodes != exercise.nodes:
        raise ClusterUnavailable(
            f"Exercise {exercise.number} is made for the nodes {exercise.nodes}, and the embedded "
            f"cluster that is up has {cluster.nodes}.",
            f"replace it, with all that is in it: {renew}.",
        )
    return attach(cluster)


def _renew(name: str, *, quiet: bool) -> None:
    """Start the embedded cluster with the nodes of an exercise, in the place of one that is up."""
    from mlk8s.cluster.connect import VARIABLE, wants_live
    from mlk8s.cluster.embedded import folder
    from mlk8s.cluster.embedded import up as start_cluster
    from mlk8s.course.exercises import catalogue
    from mlk8s.errors import UsageError
    from mlk8s.sim import Cluster
    from mlk8s.sim import ClusterError as Broken

    exercise = catalogue.find(name, catalogue.find_folder())
    if wants_live():
        raise UsageError(
            f"--new-cluster is for the embedded cluster, and {VARIABLE}={os.environ[VARIABLE]}.",
            f"leave it out, or unset {VARIABLE}.",
        )
    if not exercise.needs.cluster:
        raise UsageError(f"Exercise {exercise.number} needs no cluster.", "leave it out.")
    # None may be up; files of one that was killed are removed by the start.
    with suppress(Broken):
        Cluster.attach(folder()).stop()
    # With --json standard output is for the JSON alone.
    with redirect_stdout(sys.stderr) if quiet else nullcontext():
        start_cluster(nodes=exercise.nodes, as_json=quiet)


def _print(found: Page | Overview, as_json: bool) -> None:
    _print_json(found.as_json()) if as_json else console.print(found)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))
