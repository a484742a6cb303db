"""Starts a Ray with four logical GPUs, and a gang of program.py beside another job.

Run it: python run.py.
"""

import importlib.util
import json
import os
import threading
import time
from typing import Any

import ray
from ray.util import placement_group, placement_group_table, remove_placement_group

from mlk8s import raylocal

GPUS, SIZE, OTHERS = 4, 3, 2
WAITS_S, STARTS_S, STANDS_S, GIVES_BACK_S, LOOKS_EVERY_S = 8.0, 120.0, 5.0, 5.0, 0.05


class Worker:
    """One of the gang."""

    def up(self) -> str:
        """Its GPU, once it has one."""
        return os.environ.get("CUDA_VISIBLE_DEVICES", "")


def watch(file: str = "program.py") -> dict[str, Any]:
    """What is to be said of a gang that comes while another job has two of the GPUs."""
    spec = importlib.util.spec_from_file_location("program", file)
    assert spec is not None and spec.loader is not None
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    with raylocal.running(cpus=2, gpus=GPUS):
        first = placement_group([{"GPU": OTHERS}])
        first.wait(STARTS_S)
        # What is free is known a moment later.
        until(lambda: free() == GPUS - OTHERS, STARTS_S)
        gang: dict[str, Any] = {}

        def start() -> None:
            # What it raises goes to stderr; that it raised is seen by the missing workers.
            gang.update(program.start(ray.remote(num_cpus=0)(Worker), SIZE))

        thread = threading.Thread(target=start, daemon=True)
        thread.start()
        until(lambda: free() < GPUS - OTHERS or waits() or not thread.is_alive(), WAITS_S)
        seen: dict[str, Any] = {"waits_as_one": waits(), "taken": GPUS - OTHERS - free()}
        second = placement_group([{"GPU": GPUS - OTHERS}])
        seen["another_ran"] = second.wait(3)
        for other in (first, second):
            remove_placement_group(other)
        join(thread)
        seen["ended"], seen["started"] = not thread.is_alive(), "workers" in gang
        if seen["started"]:
            devices = ray.get([worker.up.remote() for worker in gang["workers"]])
            seen["devices"] = sorted(devices)
            program.stop(gang)
            until(lambda: free() == GPUS, GIVES_BACK_S)
        seen["free_at_the_end"] = free()
    return seen


def join(thread: threading.Thread) -> None:
    """Wait for the end of start(), unless it stands still.

    With nothing free for some time, and nothing that waits, the gang has reserved what its workers
    do not use.
    """
    moved, end = time.monotonic(), time.monotonic() + STARTS_S
    while thread.is_alive() and time.monotonic() < end:
        if free() or waits():
            moved = time.monotonic()
        elif time.monotonic() > moved + STANDS_S:
            return
        time.sleep(LOOKS_EVERY_S)


def free() -> int:
    """GPUs that nobody has or has reserved."""
    return int(ray.available_resources().get("GPU", 0))


def waits() -> bool:
    """Whether there is a placement group that is not placed yet."""
    return any(each["state"] == "PENDING" for each in placement_group_table().values())


def until(look: Any, within_s: float) -> None:
    """Look again and again, until there is something to see or the time is up."""
    end = time.monotonic() + within_s
    while not look() and time.monotonic() < end:
        time.sleep(LOOKS_EVERY_S)


if __name__ == "__main__":
    print(json.dumps(watch(), indent=1))
