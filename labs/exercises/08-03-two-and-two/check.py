"""A gang of three beside jobs of two, on four logical GPUs of a real Ray."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mlk8s.course.exercises import Work, Wrong
from mlk8s.errors import Mlk8sError

RUN, GPUS, SIZE = "run.py", 4, 3
WITHIN_S = 400.0


def check(work: Work) -> str:
    """Judge what run.py saw."""
    given = Path(__file__).parent / "starter" / RUN
    if work.file(RUN).read_text("utf-8") != given.read_text("utf-8"):
        raise Wrong(f"{RUN} is not as it was. It only shows what program.py does.")
    work.file("program.py")
    seen = _watch(work)
    if seen["ended"] and not seen["started"]:
        raise Wrong(f"start() failed, or gave no workers. See its error: python {RUN}")
    if seen["taken"]:
        raise Wrong(
            f"The gang of {SIZE} did not fit, and took {seen['taken']} of the two free GPUs. "
            "Another one that does the same has the rest, and both wait for ever. What takes all "
            "of them or none?"
        )
    if not seen["waits_as_one"]:
        raise Wrong(
            "The gang took nothing, and nothing in Ray waits for it. If it looks by itself at what "
            "is free, two programs look at the same moment and both see room. What could Ray hold "
            "for it?"
        )
    if not seen["another_ran"]:
        raise Wrong("The gang waits, and a job of two GPUs does not run although two are free.")
    if not seen["started"]:
        raise Wrong(
            f"The other jobs are gone, {SIZE} of {GPUS} GPUs are reserved, and not all workers "
            "come up: no GPU is left outside of the reservation. How do the workers know of it?"
        )
    if len(set(seen["devices"])) != SIZE:
        raise Wrong(f"The workers see the GPUs {seen['devices']}; each is to have its own.")
    if seen["free_at_the_end"] != GPUS:
        free = seen["free_at_the_end"]
        raise Wrong(
            f"After stop() {free} of {GPUS} GPUs {'is' if free == 1 else 'are'} free. The workers "
            "are gone; their reservation is not."
        )
    return "The gang waited as one, took nothing, started whole, and gave everything back."


def _watch(work: Work) -> dict[str, Any]:
    """What run.py saw; a Ray that does not start is no fault of the reader."""
    try:
        return dict(work.call(RUN, "watch", within_s=WITHIN_S))
    except Wrong as wrong:
        if "Mlk8sError: A node with" in str(wrong):
            raise Mlk8sError(
                "No Ray starts on this machine, so your answer was not judged.",
                "close what else is running, and check again.",
            ) from wrong
        raise
