"""What the scripts of this folder share: the peer as a process, the verdicts, the exit status."""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NoReturn

from mlk8s.bench import timing
from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.provenance import Device, Kind, Provenance, Scalar, Table

#: Exit statuses beside 0, all that is needed was met.
COULD_NOT_RUN, MISSED = 1, 3  # 2 is argparse's, for arguments that it refuses


def parser(about: str, script: str, peer: str, get: str) -> argparse.ArgumentParser:
    """A parser whose help says what is compared, where the peer comes from, and how to run it.

    Args:
        about: the script's docstring.
        script: its file name.
        peer: the arguments that name the peer in an example; empty if it needs none.
        get: how to get the peer, one sentence.
    """
    live = " ".join(["MLK8S_GPU=live python", f"benchmarks/{script}", peer]).strip()
    return argparse.ArgumentParser(
        description=about.replace("``", ""),
        epilog=f"""\
on this machine's GPU, beside the peer:
  {live}
what was recorded on an H100, without a GPU and without the peer:
  MLK8S_GPU=h100-sxm python benchmarks/{script}

To get the peer: {get}
Exit status: 0 all conditions are met, 1 it could not run, 3 a condition is not met.""",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def require_file(name: str, path: Path | None, option: str, get: str) -> None:
    """Refuse to start a live run without the peer.

    Args:
        name: the peer.
        path: where the reader says it is.
        option: the option that takes the path.
        get: how to get the peer, one sentence.

    Raises:
        UsageError: there is no such file.
    """
    if path is None:
        raise UsageError(f"{name} is missing: {option} was not given.", get)
    if not path.is_file():
        raise UsageError(f"{name} is missing: there is no file {path}.", get)


def count(text: str) -> int:
    """A number of runs, as an argument's type."""
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of runs: use 1 or more")
    return int(text)


def output(name: str, command: Sequence[str | Path], limit_s: float, explained: int = 0) -> str:
    """Run a peer to its end.

    Args:
        name: the peer, for the errors.
        command: program and arguments.
        limit_s: the longest it may take, s.
        explained: an exit status with which it says on its standard output what went wrong.

    Returns:
        What it wrote to its standard output.

    Raises:
        Mlk8sError: it cannot be started, failed, or took too long.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=limit_s, stdin=subprocess.DEVNULL
        )
    except OSError as error:
        raise Mlk8sError(
            f"{name} cannot be started: {error}.", "check that the path names the program itself."
        ) from error
    except subprocess.TimeoutExpired as error:
        raise Mlk8sError(
            f"{name} was stopped after {limit_s:.0f} s without an end.",
            "look with `nvidia-smi` for another process on the GPU, then run this again.",
        ) from error
    if done.returncode not in (0, explained):
        # The last line of a traceback, or of a loader's error, names the cause.
        last = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()][-1:]
        said = last[0].strip() if last else "it wrote nothing"
        raise Mlk8sError(
            f"{name} ended with status {done.returncode}: {said}",
            f"run it by hand and repair that: {' '.join(map(str, command))}.",
        )
    return done.stdout


def variation(values: Sequence[float]) -> float:
    """Coefficient of variation, %: sample standard deviation over mean. Needs two values."""
    return 100 * statistics.stdev(values) / statistics.fmean(values)


def verdict(
    figure: str,
    ours: Scalar,
    needed: str,
    met: bool,
    peer: str | None = None,
    theirs: float | None = None,
) -> dict[str, Scalar]:
    """One row of a script's result.

    Args:
        figure: what was measured, with its unit.
        ours: what ``mlk8s`` measured.
        needed: the condition, as text.
        met: whether it holds.
        peer: the other tool and what it did; none where the condition names a figure.
        theirs: what the peer measured, same unit.
    """
    return {
        "figure": figure,
        "mlk8s": ours,
        "peer": peer,
        "peer's figure": theirs,
        "mlk8s / peer": ours / theirs if isinstance(ours, float) and theirs else None,
        "needed": needed,
        "met": met,
    }


def conditions(title: str, rows: Sequence[Mapping[str, Scalar]], *measured: Table) -> Table:
    """The verdicts with the provenance of all that they were made from."""
    return Table(rows, *(o for table in measured for o in table.provenance), title=title)


def conclude(*tables: Table) -> int:
    """Print what was measured, and last the conditions.

    Returns:
        The exit status: 0, or 3 where a condition is not met.
    """
    print(*tables, sep="\n\n")
    return 0 if all(tables[-1].column("met")) else MISSED


def store(
    about: str, results: Path, measure: Callable[[], dict[str, Any]], show: Callable[[Any], str]
) -> int:
    """The command of a script whose results the book shows: measure, print, store if asked to.

    Args:
        about: the script's docstring.
        results: the file beside the script.
        measure: what it does.
        show: the results as text.
    """
    parser = argparse.ArgumentParser(
        description=about, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--record", action="store_true", help=f"write the results to {results.name} beside this"
    )
    arguments = parser.parse_args()
    found = measure()
    if arguments.record:
        results.write_text(json.dumps(found, indent=1) + "\n")
    print(show(found))
    return 0


def stored(results: Path) -> dict[str, Any]:
    """What ``--record`` has written, marked as recorded.

    Args:
        results: the file beside the script.
    """
    found: dict[str, Any] = json.loads(results.read_text())
    found["origin"]["kind"] = Kind.RECORDED.value
    return found


def origin(here: Provenance) -> dict[str, Any]:
    """Where a run was, in the form in which results are stored."""
    device = here.device.name if here.device else ""
    return {"date": here.date, "cpu": device, "software": dict(here.software)}


def of_processor(results: Mapping[str, Any], kind: Kind, method: str) -> Provenance:
    """The provenance of stored results, or of those that were measured now."""
    told = results["origin"]
    return Provenance(kind, method, told["date"], Device(told["cpu"], "cpu"), told["software"])


def run(main: Callable[[], int]) -> NoReturn:
    """Run a script; an error of the library is one sentence on stderr and exit status 1.

    On a terminal a line there says what is being measured.
    """

    def show(what: str, done: int, total: int) -> None:
        print(f"\r\033[K{what} ({done + 1} of {total})", end="", file=sys.stderr, flush=True)

    try:
        with timing.progress(show) if sys.stderr.isatty() else nullcontext():
            status = main()
    except Mlk8sError as error:
        print(f"mlk8s: {error}", file=sys.stderr)
        sys.exit(COULD_NOT_RUN)
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(status)
