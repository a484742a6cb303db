"""A gang of three beside jobs of two, on four logical GPUs of a real Ray."""

from __future__ import annotations

from pathlib import Path

from mlk8s.course.exercises import Work, Wrong

RUN, GPUS, SIZE = "run.py", 4, 3
STARTER = Path(__file__).parent / "starter"


def check(work: Work) -> str:
    """Judge what run.py saw."""
    work.unchanged(RUN, STARTER, "It only shows what program.py does.")
    work.file("program.py")
    seen = work.ray(RUN, "watch")
    if seen["ended"] and not seen["started"]:
        raise Wrong(f"start() failed, or gave no workers. See its error: python {RUN}")
    if seen["taken"]:
        raise Wrong(
            f"The gang of {SIZE} did not fit, and took {seen['taken']} of the two free GPUs. "
            "Another one that does the same has the rest, and both wait forever. What takes all "
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
