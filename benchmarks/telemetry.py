"""What watching a GPU costs, beside nvitop and nvidia-smi.

``mlk8s.bench.sampler`` measures our sample, both uses of ``nvidia-smi``, and what a matrix product
loses while it is sampled; this script adds nvitop's snapshot of the same fields.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

from _common import conclude, conditions, parser, run, verdict

from mlk8s.bench import sampler, timing
from mlk8s.errors import UsageError
from mlk8s.gpu import source
from mlk8s.gpu.source import measured
from mlk8s.provenance import Table

GET = "install it into this environment: `pip install nvitop`."
OURS = "mlk8s.gpu.watch, one sample"
SAME = "nvitop, the same fields in one oneshot()"
#: nvitop's names of the fields of ``mlk8s.gpu.watch.Sample``. It has none for the clocks event
#: reasons, which our sample reads besides.
FIELDS = (
    "power_usage",
    "sm_clock",
    "memory_clock",
    "temperature",
    "gpu_utilization",
    "memory_utilization",
    "memory_used",
)
#: Largest share of nvidia-smi's cost, and largest loss of a product's rate, %.
OF_NVIDIA_SMI = 1 / 50
LOSS = 0.5


@measured(
    "peers/nvitop",
    "wall clock around each sample on an idle GPU, one every 0.02 s, in alternating blocks of one "
    "way each",
)
def samples(seconds: float, blocks: int) -> list[dict[str, Any]]:
    """Cost of a sample by our watch and by nvitop, median and 99th percentile over all blocks."""
    import torch
    from nvitop import Device  # type: ignore[import-not-found]

    from mlk8s.gpu.watch import watch

    # NVML's order of the devices may differ from CUDA's, so by what both call the device.
    device = Device(uuid=f"GPU-{torch.cuda.get_device_properties(0).uuid}")

    def same() -> None:
        with device.oneshot():
            for field in FIELDS:
                getattr(device, field)()

    def timed(call: Callable[[], Any]) -> list[float]:
        times = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            begin = time.perf_counter()
            call()
            times.append((time.perf_counter() - begin) * 1e3)
            time.sleep(0.02)
        return times

    def ours() -> list[float]:
        with watch(index=None, interval_s=0.02) as watched:
            time.sleep(seconds)
        return [sample.cost_ms for sample in watched.samples]

    ways: dict[str, Callable[[], list[float]]] = {
        OURS: ours,
        SAME: lambda: timed(same),
        "nvitop, Device.as_snapshot() with all its fields": lambda: timed(device.as_snapshot),
    }
    costs: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(blocks):
        timing.step("a sample by each way", number, blocks)
        for way, block in ways.items():
            costs[way] += block()
    return [
        {
            "way": way,
            "samples": len(times),
            "median [ms]": round(statistics.median(times), 4),
            "p99 [ms]": round(statistics.quantiles(times, n=100, method="inclusive")[98], 4),
        }
        for way, times in costs.items()
    ]


def verdicts(beside: Table, cost: Table) -> list[dict[str, Any]]:
    """The conditions, from the samples beside nvitop and from the sampler's own cost."""

    def median(table: Table, way: str) -> float:
        (value,) = table.where(way=way).column("median [ms]")
        return float(value)

    query = "nvidia-smi -q -x"
    near, far = median(beside, OURS), median(cost, OURS)
    nvitop, smi = median(beside, SAME), median(cost, query)
    (loss,) = cost.where(way=OURS).column("rate lost [%]")
    most = OF_NVIDIA_SMI * smi
    return [
        verdict("a sample [ms]", near, "≤ the peer", near <= nvitop, SAME, nvitop),
        verdict("a sample [ms]", far, "≤ 1/50 of the peer", far <= most, query, smi),
        verdict("rate lost at 10 Hz [%]", loss, f"≤ {LOSS}", loss <= LOSS),
    ]


def compare() -> list[Table]:
    """Everything measured, and the conditions last."""
    beside, cost = samples(seconds=1.0, blocks=3), sampler.cost()
    return [
        Table(beside, *beside.provenance, title="Samples beside nvitop"),
        Table(cost, *cost.provenance, title="mlk8s.bench.sampler.cost()"),
        conditions("Telemetry", verdicts(beside, cost), beside, cost),
    ]


def main() -> int:
    """Measure, print the tables, and return the exit status."""
    options = parser(__doc__, "telemetry.py", "", GET)
    options.parse_args()
    if source.is_live():
        if importlib.util.find_spec("nvitop") is None:
            raise UsageError("nvitop is missing: Python finds no package of that name.", GET)
        timing.require("cuda")
    return conclude(*compare())


if __name__ == "__main__":
    run(main)
