"""A gang of workers, each with a GPU of its own: all of them, or none."""

from typing import Any

import ray
from ray.util import placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy


def start(worker: Any, size: int) -> dict[str, Any]:
    """Start a gang; returns when all of it is up.

    Args:
        worker: an actor class: worker.options(num_gpus=1).remote(). Its method up() answers when
            it runs.
        size: how many of them.

    Returns:
        ``workers``: the actors; whatever else stop() needs.
    """
    group = placement_group([{"GPU": 1}] * size)
    ray.get(group.ready())
    placed = PlacementGroupSchedulingStrategy(placement_group=group)
    workers = [worker.options(num_gpus=1, scheduling_strategy=placed).remote() for _ in range(size)]
    ray.get([each.up.remote() for each in workers])
    return {"workers": workers}


def stop(gang: dict[str, Any]) -> None:
    """End it, and give back all that it has."""
    for each in gang["workers"]:
        ray.kill(each)
