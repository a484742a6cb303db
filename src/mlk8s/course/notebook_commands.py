"""``mlk8s notebooks``: the stored form of notebooks, and what changed in it, from a terminal."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(
    help="Check, repair and compare the stored form of notebooks.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
console = Console()

Paths = Annotated[list[Path] | None, typer.Argument(help="Files or folders.")]


@app.command("check")
def check(paths: Paths = None) -> None:
    """Report notebooks that are not canonical, hold an error or identify a machine."""
    from mlk8s.course import canonical

    problems = canonical.check(paths or [Path("notebooks")])
    for line in problems:
        console.print(line, soft_wrap=True, markup=False, highlight=False)
    raise typer.Exit(1 if problems else 0)


@app.command("fix")
def fix(paths: Paths = None) -> None:
    """Rewrite notebooks in canonical form, outputs kept."""
    from mlk8s.course import canonical

    for path in canonical.fix(paths or [Path("notebooks")]):
        console.print(f"rewrote {path}")


@app.command(
    "diff",
    epilog="Examples: [bold]mlk8s notebooks diff[/bold] (since the last commit) · [bold]mlk8s "
    "notebooks diff notebooks --against main --at-least 2[/bold] · [bold]mlk8s notebooks diff "
    "_build/runs --against notebooks[/bold] (a run against the stored outputs)",
)
def diff(
    paths: Annotated[
        list[Path] | None,
        typer.Argument(help="The new version: files or folders; notebooks and book if empty."),
    ] = None,
    against: Annotated[
        str, typer.Option(help="The old version: a commit, a folder, or a notebook.")
    ] = "HEAD",
    out: Annotated[Path, typer.Option(help="Where the page goes.")] = Path("_build/changes.html"),
    at_least: Annotated[
        float, typer.Option(min=0, help="Leave out numbers that changed by less, in percent.")
    ] = 0.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print JSON for a program, and write no page.")
    ] = False,
) -> None:
    """Show what a change did to outputs and figures, cell by cell and number by number.

    Tables are compared by rows and columns, figures by their series, texts by their lines. Nothing
    is executed: compared are the outputs that are stored.
    """
    from mlk8s.course import canonical
    from mlk8s.course.changes import page, versions

    chosen = paths or [path for path in (Path("notebooks"), Path("book")) if path.is_dir()]
    found = versions.compare(chosen or [Path("notebooks")], against)
    if as_json:
        print(json.dumps([each.as_json() for each in found], indent=1, ensure_ascii=False))
        return
    least = at_least / 100
    page.print_changes(found, least, console)
    out.parent.mkdir(parents=True, exist_ok=True)
    new = ", ".join(map(str, chosen))
    canonical.write_text(out, page.changes_page(found, against, new, least))
    console.print(f"page: {out}", soft_wrap=True)
