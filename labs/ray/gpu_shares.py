#!/usr/bin/env python3
"""Fractions of a GPU: what actors with num_gpus=0.25 get, and what holds them to it.

Ray counts fractions when it places actors, and sets ``CUDA_VISIBLE_DEVICES``. See ``gpu.py`` for
``device="cpu"``.
"""

from __future__ import annotations

import os
import runpy
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlk8s import raylocal
from mlk8s.gpu import nvml

HOW = """\
  fractional  actors with num_gpus=0.25 on one GPU, and one with num_gpus=1
  limits      what num_gpus=0.25 holds an actor to

  ./gpu_shares.py fractional            # a minute
  ./gpu_shares.py limits
  ./gpu_shares.py limits --device cpu   # without a GPU: tiny sizes, to see that it runs
"""
COMMON = runpy.run_path(str(Path(__file__).with_name("gpu_common.py")))
#: One call of each: rows of so many tokens through a model of these sizes.
LOADS: tuple[dict[str, Any], ...] = (
    {"model": "the example's", "sizes": {}, "rows": 16, "tokens": 96},
    {"model": "medium", "sizes": COMMON["MEDIUM"], "rows": 64, "tokens": 512},
)
#: num_gpus of an actor, and how many of them work at the same time.
SHARES: tuple[tuple[float, tuple[int, ...]], ...] = ((1.0, (1,)), (0.25, (1, 2, 4)))
GIB = 2**30


class Tenant:
    """An actor that shares the GPU.

    Args:
        device: ``cuda`` or ``cpu``.
        folder: of the tokenizer.
    """

    create = staticmethod(COMMON["created"])
    score = staticmethod(COMMON["losses"])

    def __init__(self, device: str, folder: str) -> None:
        import torch

        torch.set_num_threads(1)
        self.device = device
        self.folder = folder
        self.network: Any = None
        self.inputs: Any = None
        self.held: Any = None

    def sees(self) -> dict[str, Any]:
        """What Ray lets it see of the machine's GPUs."""
        import torch

        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        return {"CUDA_VISIBLE_DEVICES": shown, "cuda": torch.cuda.is_available()}

    def prepare(self, load: Mapping[str, Any]) -> float:
        """Make a model and a batch, run it once, and return what PyTorch then holds, MiB."""
        import torch

        self.network = None
        if self.device == "cuda":
            torch.cuda.empty_cache()
        self.network = self.create(self.device, load["sizes"], self.folder)
        self.inputs = torch.randint(0, 256, (load["rows"], load["tokens"]), device=self.device)
        self.call()
        if self.device == "cpu":
            return 0.0
        torch.cuda.empty_cache()
        self.call()
        return float(torch.cuda.memory_reserved() / raylocal.MIB)

    def call(self) -> None:
        """One batch, to its end."""
        self.score(self.network, self.inputs).cpu()

    def run(self, begin: float, end: float) -> list[float]:
        """Call until ``end``; how long those took that ended after ``begin``, s.

        Args:
            begin: by ``time.perf_counter()``, which the processes of a machine share.
            end: likewise.
        """
        took = []
        now = time.perf_counter()
        while now < end:
            self.call()
            before, now = now, time.perf_counter()
            if begin <= now <= end:
                took.append(now - before)
        return took

    def multiply(self, size: int, end: float) -> None:
        """Keep the device full with products of large matrices until ``end``."""
        import torch

        kind = torch.bfloat16 if self.device == "cuda" else torch.float32
        a = torch.ones(size, size, device=self.device, dtype=kind)
        out = torch.empty_like(a)
        while time.perf_counter() < end:
            for _ in range(4):
                torch.mm(a, a, out=out)
            out[0, 0].item()

    def allocate(self, share: float) -> dict[str, Any]:
        """Take a share of the device's memory, and keep it."""
        import psutil
        import torch

        gpu = self.device == "cuda"
        total = torch.cuda.mem_get_info()[1] if gpu else psutil.virtual_memory().total
        try:
            self.held = torch.empty(int(share * total), dtype=torch.uint8, device=self.device)
        except torch.OutOfMemoryError as error:
            return {"gib": 0.0, "error": str(error).split(". ")[0]}
        return {"gib": round(self.held.numel() / GIB, 1), "error": None}

    def release(self) -> None:
        """Give the memory back."""
        import torch

        self.held = None
        if self.device == "cuda":
            torch.cuda.empty_cache()


def _used_mib(device: str) -> float | None:
    """Memory in use on the GPU by all processes, MiB."""
    if device == "cpu":
        return None
    found = nvml.read(nvml.open_nvml().nvmlDeviceGetMemoryInfo, nvml.handle(0))
    return None if isinstance(found, str) else round(found.used / raylocal.MIB, 1)


def fractional(
    *,
    device: str = "cuda",
    loads: Sequence[Mapping[str, Any]] = LOADS,
    shares: Sequence[tuple[float, Sequence[int]]] = SHARES,
    seconds: float = 3.0,
    warm_s: float = 0.5,
    cpus: int = 8,
    store_mib: int = raylocal.STORE_MIB,
) -> list[dict[str, Any]]:
    """Run inference in several actors that share the GPU, and in one that has it alone.

    Args:
        device: ``cuda`` or ``cpu``.
        loads: see :data:`LOADS`.
        shares: see :data:`SHARES`.
        seconds: of each measurement.
        warm_s: before it.
        cpus: logical CPUs of Ray.
        store_mib: its object store.

    Returns:
        A row for each load and number of actors. ``used_mib_each`` is what NVML shows for each
        actor: its CUDA context, the model and PyTorch's cache (``reserved_mib_each``).
    """
    import ray

    remote: Any = ray.remote
    found = []
    with COMMON["tokenizer_folder"]() as folder, raylocal.running(cpus, 1, store_mib=store_mib):
        # Once: memory of actors that have ended may be given back after the next ones start.
        before = _used_mib(device)
        for share, counts in shares:
            most = max(counts)
            actors = [
                remote(num_cpus=0.5, num_gpus=share)(Tenant).remote(device, folder)
                for _ in range(most)
            ]
            seen = ray.get([each.sees.remote() for each in actors])
            for load in loads:
                reserved = ray.get([each.prepare.remote(dict(load)) for each in actors])
                used = _used_mib(device)
                for count in counts:
                    with COMMON["Telemetry"](device) as telemetry:
                        begin = time.perf_counter() + warm_s
                        end = begin + seconds
                        took = ray.get([each.run.remote(begin, end) for each in actors[:count]])
                    rates = [len(each) / seconds for each in took]
                    every = [1000 * each for one in took for each in one]
                    found.append(
                        {
                            "model": load["model"],
                            "rows": load["rows"],
                            "tokens": load["tokens"],
                            "num_gpus": share,
                            "actors": count,
                            "rows_per_s": round(sum(rates) * load["rows"], 1),
                            "slowest_rows_per_s": round(min(rates) * load["rows"], 1),
                            "call_ms": round(statistics.median(every), 3) if every else None,
                            "actors_there": most,
                            "reserved_mib_each": round(reserved[0], 1),
                            "used_mib_each": None
                            if used is None or before is None
                            else round((used - before) / most, 1),
                            "cuda_visible_devices": [one["CUDA_VISIBLE_DEVICES"] for one in seen],
                            **telemetry.between(begin, end),
                        }
                    )
            _end(actors)
    return found


def _end(actors: Sequence[Any]) -> None:
    """End actors, and wait until the GPU is Ray's to give again."""
    import ray

    for each in actors:
        ray.kill(each)
    COMMON["wait_until_free"]()


def limits(
    *,
    device: str = "cuda",
    load: Mapping[str, Any] = LOADS[0],
    hog: float = 0.8,
    matrix: int = 8192,
    seconds: float = 3.0,
    wait_s: float = 4.0,
    cpus: int = 8,
    store_mib: int = raylocal.STORE_MIB,
) -> list[dict[str, Any]]:
    """Have an actor with a quarter of the GPU take more than that, beside another one.

    Args:
        device: ``cuda`` or ``cpu``.
        load: what the neighbor runs, see :data:`LOADS`.
        hog: share of the memory that the first actor takes.
        matrix: n of its n×n×n products.
        seconds: of each measurement.
        wait_s: how long an actor for which no share is left is waited for.
        cpus: logical CPUs of Ray.
        store_mib: its object store.

    Returns:
        Rows ``what``, ``value`` and ``unit``.
    """
    import ray

    remote: Any = ray.remote
    with COMMON["tokenizer_folder"]() as folder, raylocal.running(cpus, 1, store_mib=store_mib):
        quarter = remote(num_cpus=0.5, num_gpus=0.25)(Tenant)
        greedy, neighbor = (quarter.remote(device, folder) for _ in range(2))
        none = remote(num_cpus=0.5)(Tenant).remote(device, folder)
        sees = ray.get([each.sees.remote() for each in (greedy, neighbor, none)])
        ray.get(neighbor.prepare.remote(dict(load)))

        took = ray.get(greedy.allocate.remote(hog))
        asked = ray.get(neighbor.allocate.remote(0.25))
        ray.get([each.release.remote() for each in (greedy, neighbor)])

        rates = []
        for beside in (False, True):
            begin = time.perf_counter() + 1
            end = begin + seconds
            busy = [greedy.multiply.remote(matrix, end)] if beside else []
            calls = ray.get(neighbor.run.remote(begin, end))
            ray.get(busy)
            rates.append(round(len(calls) / seconds, 1))

        # A half is left.
        third = remote(num_cpus=0.5, num_gpus=0.75)(Tenant).remote(device, folder)
        ready, _ = ray.wait([third.sees.remote()], timeout=wait_s)
        _end([third, greedy, neighbor, none])
    shown = "CUDA_VISIBLE_DEVICES"
    return [
        _fact("num_gpus=0.25, first actor: CUDA_VISIBLE_DEVICES", sees[0][shown]),
        _fact("num_gpus=0.25, second actor: CUDA_VISIBLE_DEVICES", sees[1][shown]),
        _fact("num_gpus=0: CUDA_VISIBLE_DEVICES", sees[2][shown]),
        _fact("num_gpus=0: PyTorch finds a GPU", sees[2]["cuda"]),
        _fact("memory that the first actor takes", took["gib"], "GiB"),
        _fact("memory that its neighbor gets, asking for a quarter", asked["gib"], "GiB"),
        _fact("the neighbor's error", asked["error"]),
        _fact("the neighbor's calls alone", rates[0], "1/s"),
        _fact("the neighbor's calls beside large products", rates[1], "1/s"),
        _fact("an actor with num_gpus=0.75 beside the two starts", bool(ready)),
    ]


def _fact(what: str, value: Any, unit: str | None = None) -> dict[str, Any]:
    return {"what": what, "value": value, "unit": unit}


TINY = {"model": "the example's", "sizes": {}, "rows": 2, "tokens": 16}

if __name__ == "__main__":
    functions = {
        "fractional": (
            fractional,
            {"loads": (TINY,), "shares": ((1.0, (1,)), (0.5, (1, 2))), "seconds": 0.5},
        ),
        "limits": (
            limits,
            {"load": TINY, "hog": 0.1, "matrix": 512, "seconds": 0.5, "wait_s": 1.0},
        ),
    }
    sys.exit(COMMON["command"]("Share one GPU among actors.", HOW, functions))
