"""The ``mlk8s`` command: what the library does, from a terminal."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict
from datetime import date, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from mlk8s import __version__
from mlk8s.bench.commands import app as bench_app
from mlk8s.cluster.commands import app as cluster_app
from mlk8s.course.exercise_commands import app as exercise_app
from mlk8s.course.notebook_commands import app as notebooks_app
from mlk8s.errors import Mlk8sError
from mlk8s.gpu.mig.commands import app as mig_app

app = typer.Typer(
    name="mlk8s",
    help="Machine Learning for Kubernetes Engineers: look at a GPU, measure it, run the chapters.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
recordings_app = typer.Typer(help="Look at recorded machines.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")
app.add_typer(cluster_app, name="cluster")
app.add_typer(exercise_app, name="exercise")
app.add_typer(mig_app, name="mig")
app.add_typer(recordings_app, name="recordings")
app.add_typer(notebooks_app, name="notebooks")

console = Console()


class Place(StrEnum):
    """Where chapters run."""

    HERE = "here"
    KUBERNETES = "kubernetes"


Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]


def _version(wanted: bool) -> None:
    if wanted:
        print(f"mlk8s {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Options of the command itself."""


@app.command()
def doctor(as_json: Json = False) -> None:
    """Check this machine for every chapter, and say how to repair what is missing.

    Exit status 0 unless something is broken; a machine without a GPU is not broken.
    """
    from mlk8s.course import doctor as checks

    found = checks.examine()
    if as_json:
        print(checks.to_json(found))
    else:
        console.print(checks.render(found))
    raise typer.Exit(checks.exit_status(found))


@app.command()
def gpu(
    section: Annotated[
        str | None,
        typer.Argument(help="identity, clocks, power, thermal, memory, ecc, links, activity, mig"),
    ] = None,
    as_json: Json = False,
) -> None:
    """Show what the driver says about each GPU, as [bold]nvidia-smi -q[/bold] does.

    MLK8S_GPU chooses the source: auto (default), live, or the name of a recording.
    """
    from mlk8s.errors import UsageError
    from mlk8s.gpu import probe, report

    if section and section not in report.SECTIONS:
        raise UsageError(
            f"There is no section {section!r}.", f"use one of: {', '.join(report.SECTIONS)}."
        )
    devices = probe.gpus()
    if as_json:
        out = []
        for device in devices:
            value = {name: asdict(getattr(device, name)) for name in report.SECTIONS}
            chosen = {section: value[section]} if section else value
            out.append({**chosen, "provenance": device.provenance.as_json()})
        _print_json(out)
        return
    for device in devices:
        console.print(device.section(section) if section else device.table())


@app.command()
def record(
    out: Annotated[Path, typer.Option(help="Folder of recordings.")],
    chapter: Annotated[
        list[str] | None, typer.Option("--chapter", "-c", help="Only what this chapter measures.")
    ] = None,
    only: Annotated[
        list[str] | None,
        typer.Option(help="Keep only this measurement or group (ch1, bench/matmul)."),
    ] = None,
) -> None:
    """Measure this GPU machine and write its recording: commands, probe, chapters.

    Needs a live GPU. Nothing is written unless every chapter ended well.
    """
    from mlk8s.course.record import record as record_machine

    for path in record_machine(out, chapters=chapter or (), only=only or (), console=console):
        console.print(f"wrote {path}")


@app.command(epilog="Example: mlk8s calc memory use=lora model='Llama 3 70B' gpu=h200-sxm")
def calc(
    name: Annotated[
        str | None, typer.Argument(help="memory, roofline, mig, cost; none lists them.")
    ] = None,
    given: Annotated[
        list[str] | None, typer.Argument(help="INPUT=VALUE, for what differs from the default.")
    ] = None,
    inputs: Annotated[
        bool, typer.Option("--inputs", help="List the inputs, what they may be, and the defaults.")
    ] = False,
) -> None:
    """Compute what the book's calculators compute: GPU memory, roofline, MIG, cost per token."""
    from rich.table import Table as RichTable

    from mlk8s.course import calculators
    from mlk8s.errors import UsageError
    from mlk8s.provenance import Table

    if name is None:
        listed = RichTable("calculator", "computes")
        for each in calculators.CALCULATORS:
            listed.add_row(each.name, each.title)
        console.print(listed)
        return
    calculator = calculators.get(name)
    if inputs:
        listed = RichTable("input", "is", "may be", "default")
        for key, (ask, default) in calculator.inputs().items():
            listed.add_row(*(_escaped(text) for text in (key, ask.says(), ask.may_be(), default)))
        console.print(listed)
        return
    typed: dict[str, str] = {}
    for text in given or ():
        key, equals, value = text.partition("=")
        if not equals:
            raise UsageError(
                f"{text!r} is not INPUT=VALUE.", f"list the inputs: mlk8s calc {name} --inputs"
            )
        typed[key] = value
    answer = calculator.read(typed).answer()
    console.print(_escaped(answer.finding.text))
    for part in answer.details:
        print()
        if isinstance(part, Table):
            console.print(part)
        else:  # as it is: the lines are to be copied
            print(part)


@recordings_app.command("list")
def recordings_list(as_json: Json = False) -> None:
    """The recorded machines, with device, driver, date and number of measurements."""
    from mlk8s import recordings

    rows = []
    for name in recordings.names():
        kept = recordings.load(name)
        dates = dict.fromkeys(run.date or "" for run in kept.origins)
        rows.append(
            {
                "recording": name,
                "GPU": kept.device.name,
                "driver": kept.device.driver,
                "dates": ", ".join(dates),
                "measurements": len(kept.entries),
            }
        )
    if as_json:
        _print_json(rows)
        return
    from rich.table import Table as RichTable

    table = RichTable(*rows[0]) if rows else RichTable()
    for row in rows:
        table.add_row(*(_escaped(str(v)) for v in row.values()))
    console.print(table)


@recordings_app.command("diff")
def recordings_diff(
    old: Annotated[Path, typer.Argument(help="A machine's folder, or the name of a recording.")],
    new: Annotated[Path, typer.Argument(help="The other one.")],
    as_json: Json = False,
) -> None:
    """Print what changed between two recordings, figure by figure."""
    from mlk8s import recordings

    def open_recording(path: Path) -> recordings.Recording:
        known = recordings.FOLDER if len(path.parts) == 1 and not path.is_dir() else path.parent
        return recordings.load(path.name, known.resolve())

    rows = recordings.diff(open_recording(old), open_recording(new))
    if as_json:
        _print_json(rows)
        return
    from rich.table import Table as RichTable

    table = RichTable("call", "field", "old", "new", "change")
    for row in rows:
        table.add_row(*(_escaped(v) for v in row.values()))
    console.print(table if rows else "no difference")


CLUSTER = "With --on kubernetes"


@app.command(
    epilog="Examples: [bold]mlk8s run 1[/bold] · [bold]mlk8s run --gpu live[/bold] · [bold]mlk8s "
    "cluster up; mlk8s run 1 --on kubernetes[/bold] · [bold]MLK8S_CLUSTER=live mlk8s run --on "
    "kubernetes --deadline 7200[/bold]"
)
def run(
    chapters: Annotated[
        list[str] | None, typer.Argument(help="1, 01, gpu-basics, a path; all if empty.")
    ] = None,
    on: Annotated[
        Place, typer.Option(help="Where: kernels of this machine, or a Job each in a cluster.")
    ] = Place.HERE,
    gpu_source: Annotated[
        str | None,
        typer.Option("--gpu", help="MLK8S_GPU for the kernels: auto, live, recorded, a recording."),
    ] = None,
    update: Annotated[
        bool, typer.Option("--update", help="Write the outputs back into the sources.")
    ] = False,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs", "-j", help="Chapters side by side; one for every two CPUs, in a cluster 1."
        ),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds that one cell may take.")] = 600,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Where executed notebooks go.",
            show_default="_build/runs, for a cluster _build/runs/kubernetes",
        ),
    ] = None,
    parameter: Annotated[
        list[str] | None,
        typer.Option("--parameter", "-p", help="NAME=VALUE for the parameters cell; JSON values."),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Execute chapters that did not change, too.")
    ] = False,
    image: Annotated[
        str | None,
        typer.Option(
            help="Image with the course.",
            show_default="ghcr.io/mlk8s/course:latest",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    resource: Annotated[
        str | None,
        typer.Option(
            help="The device that each pod asks one of; empty for none.",
            show_default="nvidia.com/gpu",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    deadline: Annotated[
        int | None,
        typer.Option(
            help="Seconds that a Job may take, its wait for a GPU included.",
            show_default="3600",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    namespace: Annotated[
        str | None,
        typer.Option(
            help="An existing namespace; else the run makes one and deletes it.",
            rich_help_panel=CLUSTER,
        ),
    ] = None,
    wait_for_nodes: Annotated[
        bool,
        typer.Option(
            "--wait-for-nodes",
            help="Wait where no node could take the pod: an autoscaler adds one.",
            rich_help_panel=CLUSTER,
        ),
    ] = False,
) -> None:
    """Execute chapters in fresh kernels, with progress, time and memory for each.

    A chapter whose sources did not change since its last good run is not executed again.

    [bold]--on kubernetes[/bold] makes a Job of each chapter, follows it, brings the executed
    notebooks back and writes report.html: pass, time, node, GPU, and what changed against the
    stored outputs. The cluster is that of mlk8s cluster up, or with MLK8S_CLUSTER=live the one of
    your kubeconfig. The kernels use the pod's GPU there, and recordings on the embedded cluster. A
    chapter that works with a cluster itself (5 to 8) starts the embedded one inside its pod.
    Ctrl-C deletes the Jobs.
    """
    import os

    values = dict(_parameter(text) for text in parameter or ())
    only_there = {
        "--image": image,
        "--resource": resource,
        "--deadline": deadline,
        "--namespace": namespace,
        "--wait-for-nodes": wait_for_nodes or None,
    }
    only_here = {"--update": update or None, "--force": force or None}
    _refuse_unused(on, only_there if on is Place.HERE else only_here)
    if on is Place.KUBERNETES:
        from mlk8s.cluster.commands import connection
        from mlk8s.course import on_cluster, run_report, submission

        chosen: dict[str, Any] = {
            "image": image,
            "resource": resource,
            "deadline_s": deadline,
            "jobs": jobs,
        }
        options = submission.Options(
            **{name: value for name, value in chosen.items() if value is not None},
            gpu=gpu_source,
            cell_timeout_s=timeout,
            namespace=namespace,
            wait_for_nodes=wait_for_nodes,
            parameters=values,
        )
        folder = out or Path("_build/runs/kubernetes")
        done = on_cluster.run(chapters or (), connection(), options, out=folder, console=console)
        raise typer.Exit(run_report.exit_code(done))

    from mlk8s.course import run as runner
    from mlk8s.gpu import source

    if gpu_source:
        os.environ["MLK8S_GPU"] = gpu_source
    results = runner.run(
        chapters or (),
        update=update,
        jobs=jobs,
        timeout_s=timeout,
        out=out or Path("_build/runs"),
        parameters=values,
        touches_gpu=source.is_live(),
        force=force,
        console=console,
    )
    raise typer.Exit(runner.exit_code(results))


def _refuse_unused(on: Place, options: Mapping[str, object]) -> None:
    from mlk8s.errors import UsageError

    for name, value in options.items():
        if value is not None:
            other = Place.KUBERNETES if on is Place.HERE else Place.HERE
            raise UsageError(
                f"{name} has no meaning with --on {on}.", f"leave it out, or add --on {other}."
            )


@app.command()
def fresh(
    root: Annotated[Path, typer.Option(help="The repository.")] = Path("."),
    today: Annotated[
        datetime | None,
        typer.Option(formats=["%Y-%m-%d"], help="Judge as of this day instead of today."),
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit status 1 if anything is older than its limit.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how old the facts, versions and recordings of the book are, against their limits.

    The dates are those that the data carry: recordings, the catalogue of GPUs, the playbook's
    versions and prices, and the badges in the stored outputs of the chapters. What passes its limit
    first stands first; [bold]where[/bold] names the data file and the pages that show it.

    A measurement or a figure from a source may be a year old, a version or a price half a year
    (mlk8s/course/ages.py). In the built book a page says so itself once what it shows is older,
    by its reader's clock.

    Try [bold]mlk8s fresh --today 2030-01-01[/bold] to see everything overdue, and what to do
    about it.
    """
    from mlk8s.course import ages

    found = ages.survey(root)
    day = today.date() if today else date.today()
    if as_json:
        facts = [fact.as_json(day) for fact in found.facts]
        _print_json({"today": day.isoformat(), "facts": facts, "undated": list(found.undated)})
    else:
        console.print(ages.render(found, day))
    raise typer.Exit(1 if strict and found.over(day) else 0)


def _parameter(text: str) -> tuple[str, Any]:
    from mlk8s.errors import UsageError

    name, equals, value = text.partition("=")
    if not (name.isidentifier() and equals):
        raise UsageError(f"{text!r} is not a parameter.", "write NAME=VALUE, such as n=4096.")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


@app.command()
def serve(
    port: Annotated[int, typer.Option(help="Loopback port; 0 takes a free one.")] = 8000,
    site: Annotated[Path, typer.Option(help="The built site.")] = Path("_build/html"),
) -> None:
    """Serve the built book on loopback until Ctrl-C."""
    from mlk8s.course import site as book

    book.serve(site, port)


@app.command()
def lab(
    port: Annotated[int, typer.Option(help="Loopback port.")] = 8888,
) -> None:
    """Start JupyterLab on loopback, behind a token, in the notebooks' folder."""
    from mlk8s.course.lab import lab as start

    start(port)


@app.command(
    epilog="Examples: [bold]mlk8s quiz 3[/bold] · [bold]mlk8s quiz 3 --answers | less[/bold]"
)
def quiz(
    chapter: Annotated[int | None, typer.Argument(help="Its number; lists them if empty.")] = None,
    answers: Annotated[
        bool, typer.Option("--answers", help="Print the questions with all answers.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Answer a chapter's questions; each answer is told why it is right or wrong.

    Where input or output is not a terminal, the questions are printed and nothing is asked.
    """
    from mlk8s.course import quizzes
    from mlk8s.course.quizzes import page

    if chapter is None:
        for each in map(quizzes.load, quizzes.chapters()):
            console.print(f"mlk8s quiz {each.chapter}: {len(each.questions)} questions")
        return
    found = quizzes.load(chapter)
    if as_json:
        _print_json(found.as_json())
    elif answers or not (sys.stdin.isatty() and console.is_terminal):
        print(page.plain(found, answers=answers))
    else:
        page.ask(found, console)


def _print_json(value: Any) -> None:
    print(json.dumps(value, indent=1, ensure_ascii=False))


def main() -> None:
    """Run the command; an error of the library is one sentence on stderr and exit status 1."""
    status = 0
    try:
        app()
    except* Mlk8sError as errors:
        for error in errors.exceptions:
            Console(stderr=True, soft_wrap=True).print(
                f"[bold red]mlk8s:[/bold red] {_escaped(str(error))}", highlight=False
            )
        status = 1
    except* KeyboardInterrupt:
        status = 130
    sys.exit(status)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)


if __name__ == "__main__":
    main()
