"""``mlk8s mig``: how a GPU can be cut, from a terminal. Nothing here changes a GPU."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from mlk8s.errors import UsageError
from mlk8s.gpu import mig

app = typer.Typer(
    help="Plan MIG: what fits on a GPU, where, and how to get there. No GPU is changed.",
    no_args_is_help=True,
)

Json = Annotated[bool, typer.Option("--json", help="Print JSON for a program.")]
Gpu = Annotated[
    str | None,
    typer.Option(
        "--gpu",
        "-g",
        help="a30, a100-40gb, h100-80gb, …; where not given, the GPU that answers as MLK8S_GPU "
        "says, in the words of its driver.",
    ),
]
Profiles = Annotated[list[str], typer.Argument(help="Profiles, such as 3g.40gb 1g.10gb 1g.10gb.")]


def _geometry(gpu: str | None) -> mig.Geometry:
    return mig.here() if gpu is None else mig.geometry(gpu)


@app.command("profiles", epilog="Example: mlk8s mig profiles --gpu a100-40gb")
def profiles(gpu: Gpu = None, as_json: Json = False) -> None:
    """The profiles of a GPU: share of SMs and memory, how many, and where they may start."""
    _print(_geometry(gpu).table(), as_json)


@app.command("fits", epilog="Example: mlk8s mig fits 4g.40gb --beside '1g.10gb@6' --gpu h100-80gb")
def fits(
    profiles: Profiles,
    beside: Annotated[
        str, typer.Option(help="Instances that are there and stay: '1g.10gb@0 3g.40gb@4'.")
    ] = "",
    gpu: Gpu = None,
    as_json: Json = False,
) -> None:
    """Whether profiles fit on one GPU together, and where; exit status 1 if they do not."""
    geometry = _geometry(gpu)
    there = mig.Layout.parse(geometry, beside)
    found = mig.fit(geometry, profiles, there)
    if found is None:
        raise UsageError(
            f"{' + '.join(profiles)} do not fit on {geometry.name}"
            + (f" beside {there}." if beside else " together."),
            "see what is in the way with `mlk8s mig plan`."
            if beside and mig.fit(geometry, profiles)
            else "ask for fewer or smaller instances, or spread them with `mlk8s mig pack`.",
        )
    _layout(found, as_json)


@app.command(
    "plan",
    epilog="Example: mlk8s mig plan 4g.40gb 3g.40gb --now '1g.10gb@0 3g.40gb@4' --running 0",
)
def plan(
    profiles: Profiles,
    now: Annotated[str, typer.Option(help="Instances that are there: '1g.10gb@0 3g.40gb@4'.")] = "",
    running: Annotated[
        list[int] | None, typer.Option(help="Start of an instance that runs something; repeat.")
    ] = None,
    gpu: Gpu = None,
    as_json: Json = False,
) -> None:
    """The fewest steps from one layout to another, who is in the way, and the commands."""
    from mlk8s.gpu.mig import asking

    current = mig.Layout.parse(_geometry(gpu), now)
    found = mig.change(current, profiles, running or ())
    after = mig.Layout(current.geometry, (*found.keep, *found.create))
    commands = asking.nvidia_smi(found)
    parted = asking.mig_parted("planned", [after])
    if as_json:
        listed = {
            name: [str(instance) for instance in getattr(found, name)]
            for name in ("keep", "destroy", "create", "blocked_by")
        }
        print(json.dumps({**listed, "commands": commands, "mig-parted": parted}, indent=1))
        return
    import yaml

    print(f"{current.text()}\n\n{found} ({found.steps} steps)\n\n{after.text()}\n")
    print("\n".join(commands) or "# nothing to do")
    print(f"\n{yaml.safe_dump(parted, sort_keys=False)}")
    for name, count in asking.resources([after]).items():
        print(f"{name}: {count}")


@app.command("pack", epilog="Example: mlk8s mig pack ana=8 ben=18:30 eva=40:60 --gpu h100-80gb")
def pack(
    demands: Annotated[
        list[str], typer.Argument(help="NAME=GIB or NAME=GIB:SMS, one for each demand.")
    ],
    gpu: Gpu = None,
    as_json: Json = False,
) -> None:
    """The fewest GPUs on which each demand gets an instance of its own."""
    found = mig.pack(_geometry(gpu), [_demand(text) for text in demands])
    _print(found.table(), as_json)
    if not as_json:
        for index, layout in enumerate(found.layouts):
            print(f"\nGPU {index}\n{layout.text()}")


def _demand(text: str) -> mig.Demand:
    name, _, amount = text.partition("=")
    memory, _, sm = amount.partition(":")
    try:
        return mig.Demand(name, float(memory), int(sm or 0))
    except ValueError:
        raise UsageError(
            f"{text!r} is not a demand.", "write NAME=GIB or NAME=GIB:SMS, such as ana=18:30."
        ) from None


def _layout(layout: mig.Layout, as_json: bool) -> None:
    _print(layout.table(), as_json)
    if not as_json:
        print(f"\n{layout.text()}")


def _print(table: Any, as_json: bool) -> None:
    if as_json:
        rows = [dict(row) for row in table]
        origins = [origin.as_json() for origin in table.provenance]
        print(json.dumps({"rows": rows, "provenance": origins}, indent=1, ensure_ascii=False))
        return
    from rich.console import Console

    Console().print(table)
