#!/usr/bin/env python3
"""Documents through a language model on one GPU: what keeps it waiting, and what keeps it busy.

Ray Data makes the documents, CPU workers tokenize them, an actor with the GPU scores them. Rows of
JSON values come out, with units in their names. With ``device="cpu"`` and small sizes the same code
runs without a GPU; what only a GPU can tell is ``None`` then.
"""

from __future__ import annotations

import json
import os
import runpy
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError, UsageError

HOW = """\
  ./gpu.py                              # some two minutes
  ./gpu.py --device cpu                 # without a GPU: tiny sizes, to see that it runs

Each try changes where the GPU's actor gets its tokens from, and in which portions. GPU-Util says in
which share of time any kernel ran; that of tensor cores, and the FLOP/s, say how well it ran.
"""
COMMON = runpy.run_path(str(Path(__file__).with_name("gpu_common.py")))
#: Workers that tokenize (0: the actor with the GPU does it), rows of a batch on the GPU, and calls
#: of that actor at once: with 2 the next batch is fetched and converted while one computes.
TRIES: tuple[dict[str, int], ...] = (
    {"workers": 0, "batch": 64, "calls": 1},
    {"workers": 1, "batch": 64, "calls": 1},
    {"workers": 2, "batch": 64, "calls": 1},
    {"workers": 4, "batch": 64, "calls": 1},
    {"workers": 8, "batch": 64, "calls": 1},
    {"workers": 8, "batch": 1, "calls": 1},
    {"workers": 8, "batch": 64, "calls": 2},
)
#: Rows of a block.
ROWS = 64
#: The course's tokenizer makes some 125 tokens of a KiB of manifests.
TOKENS_PER_KIB = 100


class Tokenizer:
    """Turns the end of each document into tokens, and keeps the last of them.

    Args:
        folder: of the tokenizer.
        tail: bytes at the end of a document that are read.
        tokens: that are kept.
    """

    def __init__(self, folder: str, tail: int, tokens: int) -> None:
        # One worker is one core; else the first would use all of them.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        from transformers import PreTrainedTokenizerFast

        self.words: Any = PreTrainedTokenizerFast.from_pretrained(folder)
        self.tail = tail
        self.tokens = tokens

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The documents' tokens, without the documents."""
        import numpy

        texts = [bytes(raw)[-self.tail :].decode() for raw in batch["raw"]]
        found = self.words(texts)["input_ids"]
        return {"ids": numpy.asarray([ids[-self.tokens :] for ids in found], dtype="int32")}


class Scorer:
    """Holds the model and the GPU.

    Args:
        device: ``cuda`` or ``cpu``.
        sizes: of the model.
        tokenizer: arguments of a :class:`Tokenizer` that works here as well.
    """

    create = staticmethod(COMMON["created"])
    score = staticmethod(COMMON["losses"])

    def __init__(
        self, device: str, sizes: Mapping[str, int], folder: str, tokenizer: Sequence[Any] = ()
    ) -> None:
        import torch

        torch.set_num_threads(1)
        self.device = device
        self.network = self.create(device, sizes, folder)
        self.tokenize = Tokenizer(*tokenizer) if tokenizer else None

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The loss of each document, and when the call ran."""
        import numpy
        import torch

        began = time.perf_counter()
        ids = (self.tokenize(batch) if self.tokenize else batch)["ids"]
        begin, end = _events(self.device)
        if begin:
            begin.record()
        inputs = torch.as_tensor(numpy.array(ids), dtype=torch.long).to(self.device)
        scored = self.score(self.network, inputs)
        if end:
            end.record()
        found = scored.cpu().numpy()  # waits for the device
        rows = len(found)
        busy_s = begin.elapsed_time(end) / 1000 if begin else 0.0
        ended = time.perf_counter()
        columns = {"began": began, "ended": ended, "gpu_s": busy_s, "rows": rows}
        return {"loss": found, **{name: numpy.full(rows, v) for name, v in columns.items()}}


def _events(device: str) -> tuple[Any, Any]:
    import torch

    if device == "cpu":
        return None, None
    return torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)


def made(batch: dict[str, Any], size: int, tail: int) -> dict[str, Any]:
    """Documents of so many bytes: lines of a log, and manifests at their end."""
    import numpy

    from mlk8s.lm import task

    numbers = batch["id"]
    manifests = "".join(task.corpus(8, seed=int(numbers[0]))).encode()
    raw = numpy.empty(len(numbers), dtype=object)
    for at, number in enumerate(numbers):
        line = f"{number:08d} GET /healthz 200 OK\n".encode()
        log = (line * (size // len(line) + 1))[: size - tail]
        turned = manifests[at:] + manifests[:at]
        raw[at] = log + (turned * (tail // len(turned) + 1))[:tail]
    return {"raw": raw}


def inference(
    *,
    device: str = "cuda",
    sizes: Mapping[str, int] = COMMON["LARGE"],
    tries: Sequence[Mapping[str, int]] = TRIES,
    kib: int = 64,
    tail_kib: int = 16,
    tokens: int = 512,
    data_mib: int = 4096,
    seconds: float = 5.0,
    settle_s: float = 1.0,
    cpus: int = 16,
    store_mib: int = 256,
    limit_mib: int = 96,
) -> list[dict[str, Any]]:
    """Score documents with a model on the GPU, with the work in front of it shared out otherwise.

    Args:
        device: ``cuda`` or ``cpu``.
        sizes: of the model.
        tries: see :data:`TRIES`.
        kib: size of a document.
        tail_kib: its end, which is tokenized.
        tokens: of it that are scored.
        data_mib: size of the data set; a try is over before it is.
        seconds: that are measured of each try.
        settle_s: between the first result and the measurement.
        cpus: logical CPUs of Ray: one for each worker, three beside.
        store_mib: its object store.
        limit_mib: blocks under way at which Ray Data holds the earlier stages back.

    Returns:
        A row for each try. ``wait_share`` is the share of time in which the actor with the GPU has
        no batch; ``gpu_share`` the share between its first and last kernel of a batch.
        ``flop_per_row`` counts the model's matrix products and causal attention.

    Raises:
        UsageError: the end of a document has too few tokens, or there are too few CPUs.
    """
    most = max(each["workers"] for each in tries)
    if tokens > tail_kib * TOKENS_PER_KIB:
        raise UsageError(
            f"{tail_kib} KiB may be fewer than {tokens} tokens.", "give a larger tail_kib."
        )
    if cpus < most + 3:
        raise UsageError(
            f"{most} workers do not fit on {cpus} logical CPUs.", f"give cpus={most + 3} or more."
        )
    with (
        COMMON["tokenizer_folder"]() as folder,
        raylocal.running(cpus=cpus, gpus=1, store_mib=store_mib) as local,
    ):
        flop = _flop(sizes, folder, tokens)
        found = []
        for each in tries:
            with local.watched() as peak, COMMON["Telemetry"](device) as seen:
                data = _pipeline(
                    each, device, sizes, folder, kib, tail_kib, tokens, data_mib, limit_mib
                )
                calls, first_s = _calls(data, seconds + settle_s)
            del data
            COMMON["wait_until_free"]()
            row = _rates(calls, settle_s, seen)
            rate = row["rows_per_s"]
            found.append(
                {
                    **each,
                    "first_result_s": round(first_s, 2),
                    **row,
                    "tokens_per_s": round(rate * tokens),
                    "flop_per_row": flop,
                    "tflop_per_s": round(rate * flop / 1e12, 3),
                    "data_mib": data_mib,
                    "read_mib_per_s": round(rate * kib / 1024, 2),
                    "store_mib": store_mib,
                    "store_peak_mib": round(peak.used_mib, 1),
                    "spilled_mib": round(peak.spilled_mib, 1),
                }
            )
    return found


def _pipeline(
    way: Mapping[str, int],
    device: str,
    sizes: Mapping[str, int],
    folder: str,
    kib: int,
    tail_kib: int,
    tokens: int,
    data_mib: int,
    limit_mib: int,
) -> Any:
    import ray
    from ray.data import ActorPoolStrategy, TaskPoolStrategy

    limits = ray.data.ExecutionResources.for_limits(object_store_memory=limit_mib * raylocal.MIB)
    ray.data.DataContext.get_current().execution_options.resource_limits = limits
    rows = max(ROWS, data_mib * 1024 // kib)
    prepare = (folder, tail_kib * 1024, tokens)
    # Stages whose workers ask for different resources stay apart.
    data = ray.data.range(rows, override_num_blocks=rows // ROWS).map_batches(
        made,
        batch_size=ROWS,
        fn_kwargs={"size": kib * 1024, "tail": tail_kib * 1024},
        compute=TaskPoolStrategy(size=2),
        num_cpus=0.5,
    )
    scorer: list[Any] = [device, dict(sizes), folder]
    if way["workers"]:
        data = data.map_batches(
            Tokenizer,
            batch_size=ROWS,
            fn_constructor_args=prepare,
            compute=ActorPoolStrategy(size=way["workers"]),
            num_cpus=1,
        )
    else:
        scorer.append(prepare)
    return data.map_batches(
        Scorer,
        batch_size=way["batch"],
        fn_constructor_args=scorer,
        compute=ActorPoolStrategy(size=1, max_concurrent_calls_per_actor=way["calls"]),
        num_cpus=1,
        num_gpus=1,
    )


def _calls(data: Any, seconds: float) -> tuple[list[tuple[float, ...]], float]:
    """The scorer's calls in order, and the time to the first result, s.

    Args:
        data: the pipeline's end.
        seconds: to go on after the first result.

    Returns:
        Of each call: began, ended, s on the GPU, rows.
    """
    begun, first = time.perf_counter(), 0.0
    found: set[tuple[float, ...]] = set()
    names = ("began", "ended", "gpu_s", "rows")
    for block in data.iter_batches(batch_size=None):
        now = time.perf_counter()
        first = first or now
        found |= set(zip(*(block[name].tolist() for name in names), strict=True))
        if now - first > seconds:
            break
    return sorted(found), first - begun


def _rates(calls: Sequence[tuple[float, ...]], settle_s: float, seen: Any) -> dict[str, Any]:
    """What a sequence of calls comes to once it has settled."""
    counted = [call for call in calls if call[1] > calls[0][1] + settle_s]
    if len(counted) < 2:
        raise Mlk8sError(
            f"The scorer made {len(counted)} calls after {settle_s} s.", "measure more seconds."
        )
    begin, end = counted[0][1], counted[-1][1]
    span, inside = end - begin, counted[1:]
    on_gpu = sum(call[2] for call in inside)
    return {
        "rows_scored": int(sum(call[3] for call in inside)),
        "measured_s": round(span, 2),
        "rows_per_s": round(sum(call[3] for call in inside) / span, 2),
        "call_ms": round(statistics.median(1000 * (call[1] - call[0]) for call in inside), 2),
        "wait_share": round(max(0.0, 1 - sum(call[1] - call[0] for call in inside) / span), 4),
        "gpu_share": round(on_gpu / span, 4) if on_gpu else None,
        **seen.between(begin, end),
    }


def _flop(sizes: Mapping[str, int], folder: str, tokens: int) -> int:
    """FLOPs of one row."""
    from mlk8s.bench.decoder import Decoder
    from mlk8s.lm.model import SMALL

    every = {**SMALL, **sizes}
    vocabulary = len(json.loads(Path(folder, "tokenizer.json").read_text())["model"]["vocab"])
    decoder = Decoder(
        layers=every["num_hidden_layers"],
        width=every["hidden_size"],
        heads=every["num_attention_heads"],
        kv_heads=every["num_key_value_heads"],
        ffn=every["intermediate_size"],
        vocabulary=vocabulary,
        tied=every["tie_word_embeddings"],
    )
    return round(decoder.forward(1, tokens).flops)


#: Sizes at which a processor shows in seconds that all runs.
TINY: dict[str, Any] = {
    "sizes": {},
    "tries": ({"workers": 0, "batch": 64, "calls": 1}, {"workers": 1, "batch": 64, "calls": 2}),
    "kib": 8,
    "tail_kib": 1,
    "tokens": 32,
    "data_mib": 256,
    "seconds": 2.0,
    "settle_s": 0.3,
    "store_mib": 100,
    "limit_mib": 32,
    "cpus": 4,
}


if __name__ == "__main__":
    sys.exit(
        COMMON["command"](
            "Score documents with a model on the GPU.", HOW, {"inference": (inference, TINY)}
        )
    )
