"""What a process does that shares a device: the tasks that are timed, and the ways to misbehave.

It runs in the processes of :mod:`mlk8s.bench.sharing_processes`; :mod:`mlk8s.bench.sharing` tells
them what to do, and when.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

from mlk8s.bench.sharing_processes import first_words

#: Task → (size on a GPU, size on a processor, operations in a call). A call ends with a wait for
#: the device, so its time is a latency.
SIZES = {
    "kernel": (2**10, 2**10, 1),  # elements; one kernel that does next to nothing
    "kernels": (2**10, 2**10, 100),  # a hundred of them back to back
    "inference": (1024, 256, 1),  # width of the layers; one request of a small model
    "matmul": (8192, 256, 1),  # n of an n×n×n product, bf16 on a GPU
    "memory": (2**29, 2**23, 1),  # bytes; one copy, twice as much traffic
    "long": (16384, 512, 1),  # n; a kernel of many milliseconds
}
LAYERS = 16
MIB = 2**20
#: A memory hog asks for this much at a time.
PIECE_MIB = 256


def perform(
    state: dict[str, Any], device: str, command: str, at: float = 0.0, **arguments: Any
) -> Any:
    """Carry out a command of the parent.

    Args:
        state: what is kept between commands.
        device: ``cuda`` or ``cpu``.
        command: one of the below.
        at: when to begin, by the monotonic clock, which all processes share.
        arguments: those of the command.

    Returns:
        A JSON value.
    """
    import torch

    time.sleep(max(0.0, at - time.monotonic()))
    if command == "load":
        return None
    if command == "open":
        torch.set_num_threads(1)
        torch.ones(1, device=device).sum().item()
        return None
    if command == "prepare":
        return _prepare(state, device, arguments["task"])
    if command == "run":
        return _run(state["call"], arguments["begin"], arguments["end"])
    if command == "allocate":
        state["held"] = torch.empty(arguments["mib"] * MIB, dtype=torch.uint8, device=device)
        return None
    if command == "hog":
        return _hog(state, device)
    if command == "flood":
        return _flood(state["enqueue"], arguments["end"])
    assert command == "fault", command
    # An index past the end: what a wrong label does to a loss function.
    table = torch.zeros(4, device=device)
    return table[torch.full((1,), 9, device=device)].sum().item()


def _prepare(state: dict[str, Any], device: str, task: str) -> float:
    """Allocate what a task needs, run it once, and return the MiB that PyTorch then holds."""
    import torch

    state.clear()
    if device == "cuda":
        torch.cuda.empty_cache()
    state["enqueue"] = _task(task, device)
    wait = torch.cuda.synchronize if device == "cuda" else _nothing
    state["call"] = partial(_call, state["enqueue"], SIZES[task][2], wait)
    state["call"]()
    return torch.cuda.memory_reserved() / MIB if device == "cuda" else 0.0


def _task(task: str, device: str) -> Callable[[], Any]:
    """What enqueues one operation of a task."""
    import torch

    size = SIZES[task][0 if device == "cuda" else 1]
    if task in ("kernel", "kernels"):
        return partial(torch.ones(size, device=device).mul_, 1.0)
    if task == "memory":
        source = torch.ones(size, dtype=torch.uint8, device=device)
        return partial(torch.empty_like(source).copy_, source)
    kind = torch.bfloat16 if device == "cuda" else torch.float32
    if task == "inference":
        weights = [
            torch.randn(size, size, device=device).to(kind) / size**0.5 for _ in range(LAYERS)
        ]
        return partial(_request, torch.ones(1, size, device=device, dtype=kind), weights)
    a, b = (torch.randn(size, size, device=device).to(kind) for _ in range(2))
    return partial(torch.mm, a, b, out=torch.empty_like(a))


def _request(x: Any, weights: list[Any]) -> Any:
    """One vector through the layers: two small kernels each, one after the other."""
    for weight in weights:
        x = (x @ weight).relu_()
    return x


def _call(enqueue: Callable[[], Any], count: int, wait: Callable[[], Any]) -> None:
    for _ in range(count):
        enqueue()
    wait()


def _nothing() -> None:
    """A processor is done when the call returns."""


def _run(call: Callable[[], None], begin: float, end: float) -> dict[str, Any]:
    """Call until ``end``; what ends after ``begin`` counts, and what comes before warms up.

    Returns:
        ``ends``, µs after ``begin``, ``took``, µs, of each call, and ``error``, empty if all went
        well.
    """
    ends: list[int] = []
    took: list[int] = []
    error = ""
    now = time.monotonic()
    try:
        while now < end:
            call()
            before, now = now, time.monotonic()
            if now >= begin:
                ends.append(round((now - begin) * 1e6))
                took.append(round((now - before) * 1e6))
    except RuntimeError as failure:  # every error of CUDA that PyTorch reports
        error = first_words(failure)
    return {"ends": ends, "took": took, "error": error}


def _hog(state: dict[str, Any], device: str) -> dict[str, Any]:
    """Take memory until there is none, and keep it."""
    import torch

    held = state["held"] = []
    while True:
        try:
            held.append(torch.empty(PIECE_MIB * MIB, dtype=torch.uint8, device=device))
        except torch.OutOfMemoryError as error:
            return {"mib": len(held) * PIECE_MIB, "error": first_words(error)}


def _flood(enqueue: Callable[[], Any], end: float) -> None:
    """Enqueue without waiting, so that much work is in flight when the process is killed."""
    while time.monotonic() < end:
        enqueue()
