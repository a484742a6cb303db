"""What the scripts for a GPU share: its telemetry, models on it, a command line.

``runpy.run_path`` loads it, as it loads the scripts.
"""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError
from mlk8s.gpu import nvml
from mlk8s.gpu.source import live_provenance
from mlk8s.gpu.watch import watch
from mlk8s.provenance import Table

#: Sizes of models, as chapter 7 has them.
MEDIUM = {
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
}
LARGE = {
    "hidden_size": 2048,
    "intermediate_size": 5632,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "num_key_value_heads": 16,
}


class Activity(threading.Thread):
    """Samples the GPU's own performance counters (GPM, since Hopper) in the background.

    A figure is the mean between two readings, so it misses nothing that lies between them.

    Args:
        every_s: time between two readings, s. NVML asks for at least 0.1.
    """

    #: NVML_GPM_METRIC_SM_UTIL, _ANY_TENSOR_UTIL, _DRAM_BW_UTIL
    METRICS: ClassVar = {
        "sm_active_percent": 2,
        "tensor_active_percent": 5,
        "dram_active_percent": 10,
    }

    def __init__(self, every_s: float = 0.25) -> None:
        super().__init__(name="gpm", daemon=True)
        self._n = nvml.open_nvml()
        self._handle = nvml.handle(0)
        self._every_s = every_s
        self._done = threading.Event()
        self.readings: list[tuple[float, dict[str, float]]] = []

    def run(self) -> None:
        """Read until :meth:`stop`; a device without these counters gives no readings."""
        pair = [nvml.read(self._n.nvmlGpmSampleAlloc) for _ in range(2)]
        if any(isinstance(each, str) for each in pair):
            return
        try:
            older, newer = pair
            known = nvml.read(self._n.nvmlGpmSampleGet, self._handle, older)
            while not isinstance(known, str) and not self._done.wait(self._every_s):
                known = nvml.read(self._n.nvmlGpmSampleGet, self._handle, newer)
                if not isinstance(known, str):
                    self.readings.append((time.perf_counter(), self._compared(older, newer)))
                older, newer = newer, older
        finally:
            for each in pair:
                self._n.nvmlGpmSampleFree(each)

    def _compared(self, older: Any, newer: Any) -> dict[str, float]:
        asked = self._n.c_nvmlGpmMetricsGet_t()
        asked.version = self._n.NVML_GPM_METRICS_GET_VERSION
        asked.numMetrics = len(self.METRICS)
        asked.sample1, asked.sample2 = older, newer
        for at, number in enumerate(self.METRICS.values()):
            asked.metrics[at].metricId = number
        if isinstance(nvml.read(self._n.nvmlGpmMetricsGet, asked), str):
            return {}
        found = zip(self.METRICS, asked.metrics, strict=False)
        return {name: each.value for name, each in found if each.nvmlReturn == 0}

    def stop(self) -> None:
        """End it."""
        self._done.set()
        self.join()


class Telemetry:
    """What the GPU did in a block; all is ``None`` on the processor.

    Args:
        device: ``cuda`` or ``cpu``.
    """

    def __init__(self, device: str) -> None:
        on_gpu = device == "cuda"
        self._watch = watch(index=0, interval_s=0.05) if on_gpu else None
        self._activity = Activity() if on_gpu else None

    def __enter__(self) -> Telemetry:
        if self._watch and self._activity:
            self._watch.__enter__()
            self._activity.start()
        return self

    def __exit__(self, *error: Any) -> None:
        if self._watch and self._activity:
            self._activity.stop()
            self._watch.__exit__(*error)

    def between(self, begin: float, end: float) -> dict[str, float | None]:
        """Means between two readings of ``time.perf_counter()``."""
        samples = self._watch.between(begin, end) if self._watch else []
        counted = self._activity.readings if self._activity else []
        # A reading looks back.
        inside = [values for at, values in counted if begin + 0.25 <= at <= end]
        return {
            "gpu_util_percent": mean([s.gpu_util for s in samples]),
            **{name: mean([v.get(name) for v in inside]) for name in Activity.METRICS},
            "power_w": mean([s.power_w for s in samples]),
        }


def mean(values: Sequence[float | None]) -> float | None:
    """The mean of those that are known, to a tenth."""
    known = [value for value in values if value is not None]
    return round(statistics.fmean(known), 1) if known else None


def losses(network: Any, inputs: Any) -> Any:
    """The mean loss of each row, nats per token."""
    import torch

    with torch.inference_mode():
        logits = network(input_ids=inputs).logits[:, :-1].float()
        each = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), inputs[:, 1:], reduction="none"
        )
        return each.mean(dim=1)


def created(device: str, sizes: Mapping[str, int], folder: str) -> Any:
    """A network with random weights, made where it is used: BF16 on a GPU, FP32 on a processor.

    Args:
        device: ``cuda`` or ``cpu``.
        sizes: see :func:`mlk8s.lm.model.create`.
        folder: of the tokenizer, which says how many tokens there are.
    """
    import torch
    from transformers import PreTrainedTokenizerFast

    from mlk8s.lm import model

    words = PreTrainedTokenizerFast.from_pretrained(folder)
    with torch.device(device):
        network = model.create(sizes=sizes, tokenizer=words).network
    return network.to(torch.bfloat16 if device == "cuda" else torch.float32).eval()


@contextmanager
def tokenizer_folder() -> Iterator[str]:
    """A folder with the course's tokenizer: training it once takes less than in every worker."""
    from mlk8s.lm import tokenizer

    with tempfile.TemporaryDirectory(prefix="mlk8s-tokenizer-") as folder:
        tokenizer.train().save_pretrained(folder)
        yield folder


def wait_until_free() -> None:
    """Wait until the last actors have given the GPU back.

    Raises:
        Mlk8sError: it has not within a minute.
    """
    import ray

    gc.collect()  # the executor ends with its last reference
    deadline = time.monotonic() + 60
    free: Any = ray.available_resources  # without types
    while free().get("GPU", 0) < 1:
        if time.monotonic() > deadline:
            raise Mlk8sError(
                "An actor that was to end keeps the GPU.", "run each part in a process of its own."
            )
        time.sleep(0.05)


def command(
    about: str,
    how: str,
    functions: Mapping[str, tuple[Callable[..., list[dict[str, Any]]], Mapping[str, Any]]],
) -> int:
    """The command of a script that measures.

    Args:
        about: what it does, a sentence.
        how: examples.
        functions: by name, each with what it takes on a processor.
    """
    parser = argparse.ArgumentParser(
        description=about, epilog=how, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    if len(functions) > 1:
        parser.add_argument("what", choices=list(functions))
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: cuda")
    parser.add_argument("--json", action="store_true", help="print the rows alone, as JSON")
    chosen = parser.parse_args()
    function, tiny = functions[getattr(chosen, "what", next(iter(functions)))]
    try:
        if chosen.device == "cpu":
            origin = raylocal.provenance("wall clock; sizes that say nothing of speed", "torch")
            found = Table(function(device="cpu", **tiny), origin)
        else:
            origin = live_provenance("wall clock; NVML and its GPM counters sampled meanwhile")
            found = Table(function(device="cuda"), origin)
    except Mlk8sError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; Ray has been stopped", file=sys.stderr)
        return 130
    print(json.dumps([dict(row) for row in found]) if chosen.json else found)
    return 0
