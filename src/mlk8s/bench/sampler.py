"""What watching costs: the sampler's price, beside the commands that people use instead."""

from __future__ import annotations

import statistics
import subprocess
import time
from typing import Any

from mlk8s.bench import timing
from mlk8s.gpu.source import measured
from mlk8s.gpu.watch import watch
from mlk8s.provenance import Table

#: What the sampler reads, as ``nvidia-smi`` names it.
QUERY = (
    "power.draw,clocks.sm,clocks.mem,temperature.gpu,utilization.gpu,utilization.memory,"
    "memory.used,clocks_event_reasons.active"
)


def cost(seconds: float = 3.0) -> Table:
    """Cost of one sample by each way, and the rate that a matrix product loses to the sampler.

    Args:
        seconds: how long to sample, and to compute with and without it.

    Returns:
        Rows ``way``, ``median [ms]``, ``p99 [ms]`` and ``rate lost [%]``: how much slower the
        product ran while it was sampled ten times a second, median of four pairs.
    """
    return _cost(seconds=seconds)


@measured("bench/sampler", "wall clock around each sample on an idle GPU, then bf16 8192³ products")
def _cost(seconds: float) -> list[dict[str, Any]]:
    import torch

    timing.require("cuda")
    with watch(index=None, interval_s=0.02) as idle:
        time.sleep(seconds)
    rows = [_row("mlk8s.gpu.watch, one sample", [s.cost_ms for s in idle.samples])]
    commands = {
        "nvidia-smi --query-gpu, the same fields": [f"--query-gpu={QUERY}", "--format=csv"],
        "nvidia-smi -q -x": ["-q", "-x"],
    }
    for name, arguments in commands.items():
        times = []
        for _ in range(10):
            begin = time.perf_counter()
            subprocess.run(["nvidia-smi", *arguments], capture_output=True, check=True)
            times.append((time.perf_counter() - begin) * 1e3)
        rows.append(_row(name, times))

    x = torch.randn(8192, 8192, device="cuda").bfloat16()
    y = torch.empty_like(x)

    def rate() -> float:
        torch.cuda.synchronize()
        begin = time.perf_counter()
        count = 0
        while time.perf_counter() - begin < seconds:
            for _ in range(50):
                torch.mm(x, x, out=y)
            torch.cuda.synchronize()
            count += 50
        return count / (time.perf_counter() - begin)

    rate()  # to the temperature and clocks of a long run
    pairs = []
    # Alternating, since a GPU at its power cap drifts by more than what is looked for.
    for _ in range(4):
        alone = rate()
        with watch(index=None, interval_s=0.1):
            watched = rate()
        pairs.append(100 * (1 - watched / alone))
    rows[0]["rate lost [%]"] = round(statistics.median(pairs), 3)
    return rows


def _row(way: str, times: list[float]) -> dict[str, Any]:
    ordered = sorted(times)
    p99 = ordered[min(len(ordered) - 1, round(0.99 * len(ordered)))]
    return {
        "way": way,
        "median [ms]": round(statistics.median(times), 3),
        "p99 [ms]": round(p99, 3),
        "rate lost [%]": None,
    }
