"""A gang of workers, each with a GPU of its own: all of them, or none."""

from typing import Any

import ray


def start(worker: Any, size: int) -> dict[str, Any]:
    """Start a gang; returns when all of it is up.

    Args:
        worker: an actor class: worker.options(num_gpus=1).remote(). Its method up() answers when
            it runs.
        size: how many of them.

    Returns:
        ``workers``: the actors; whatever else stop() needs.
    """
    workers = []
    for _ in range(size):
        workers.append(worker.options(num_gpus=1).remote())
        ray.get(workers[-1].up.remote())
    return {"workers": workers}


def stop(gang: dict[str, Any]) -> None:
    """End it, and give back all that it has."""
    for each in gang["workers"]:
        ray.kill(each)
