#!/usr/bin/env python3
"""A data set larger than the object store, through a language model: streamed and not.

Each row is a request with the log that came with it. Reading makes the rows, CPU workers find the
request in the log and tokenize it, and actors that hold the model score it: how surprising it is,
in nats per token. What leaves a stage is a few bytes a row; what enters the first is large.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.provenance import Finding, Table

HOW = """\
Three ways through the same stages:
  materialized  the first stage runs to its end before the second begins, as .materialize() asks
  streamed      blocks flow through all stages; a stage waits when the next one is behind
  fused         streamed, and making and tokenizing are one stage, as Ray Data makes of two stages
                whose workers ask for the same: the large blocks never become objects

A block between two stages is an object in the store. Streaming needs room for the blocks under way;
materializing needs room for all of them, and what does not fit is spilled to disk and read back.

  ./data.py                             # 320 MiB through a store of 100
  ./data.py --mib 640                   # twice the data: streaming's peak stays
  ./data.py --model tuned               # score with a model that labs/training has saved
"""
WAYS = ("materialized", "streamed", "fused")
#: Rows of a block; with 64 KiB each a block is 4 MiB.
ROWS = 64
MARK = b"\nrequest: "


def options() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        description="Push a data set through a model, in less memory than it has.",
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--mib", type=int, default=320, help="size of the data set (default 320)")
    add("--store-mib", type=int, default=100, help="size of the object store (default 100)")
    add("--kib", type=int, default=64, help="of a row: a request and its log (default 64)")
    add("--limit-mib", type=int, default=32, help="of blocks under way (default 32)")
    add("--model", type=Path, help="folder of the model (default: a new one, random weights)")
    add("--scorers", type=int, default=1, help="actors that hold the model (default 1)")
    add("--cpus", type=int, default=2, help="logical CPUs of Ray (default 2)")
    add("--way", choices=WAYS, action="append", help="only this one (default: all three)")
    return parser


class Scorer:
    """Holds the model; an actor makes one, and keeps it for all its batches.

    Args:
        folder: of the model; ``None`` makes a new one with random weights.
    """

    def __init__(self, folder: str | None) -> None:
        import torch

        from mlk8s.lm import model

        torch.set_num_threads(1)
        self.model = model.load(folder) if folder else model.create(seed=0)
        self.model.network.eval()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The mean loss of each request, nats per token."""
        import torch

        rows = [torch.as_tensor(ids.tolist()) for ids in batch["ids"]]
        width = max(len(row) for row in rows)
        inputs = torch.zeros(len(rows), width, dtype=torch.long)
        labels = torch.full((len(rows), width), -100)
        for at, row in enumerate(rows):
            inputs[at, : len(row)] = labels[at, : len(row)] = row
        with torch.inference_mode():
            logits = self.model.network(input_ids=inputs).logits[:, :-1]
            losses = torch.nn.functional.cross_entropy(
                logits.transpose(1, 2), labels[:, 1:], ignore_index=-100, reduction="none"
            )
        counts = (labels[:, 1:] != -100).sum(dim=1)
        return {"number": batch["number"], "loss": (losses.sum(dim=1) / counts).numpy()}


class Tokenizer:
    """Finds the request in the log and turns it into tokens.

    Args:
        folder: of the model; ``None`` takes the course's tokenizer.
    """

    def __init__(self, folder: str | None) -> None:
        from mlk8s.lm import tokenizer

        if folder:
            from transformers import AutoTokenizer

            self.words: Any = AutoTokenizer.from_pretrained(folder, local_files_only=True)
        else:
            self.words = tokenizer.train()

    def __call__(self, batch: dict[str, Any]) -> dict[str, Any]:
        """The requests' tokens, without their logs."""
        import numpy

        texts = [bytes(raw).rpartition(MARK)[2].decode() for raw in batch["raw"]]
        ids = numpy.empty(len(texts), dtype=object)
        for at, found in enumerate(self.words(texts)["input_ids"]):
            ids[at] = numpy.asarray(found, dtype="int32")
        return {"number": batch["number"], "ids": ids}


def made(batch: dict[str, Any], size: int) -> dict[str, Any]:
    """Rows of so many bytes: a log, and the request at its end. The same for the same numbers."""
    import numpy

    from mlk8s.lm import task

    numbers = batch["id"]
    requests = task.examples(len(numbers), seed=int(numbers[0]))
    raw = numpy.empty(len(numbers), dtype=object)
    for at, example in enumerate(requests):
        end = MARK + example.request.encode()
        line = f"{numbers[at]:08d} GET /healthz 200 OK\n".encode()
        raw[at] = (line * (size // len(line) + 1))[: size - len(end)] + end
    return {"number": numbers, "raw": raw}


def pipeline(
    rows: int, size: int, way: str, folder: Path | None, *, scorers: int = 1, limit: int = 32
) -> Any:
    """The data set of the losses: nothing runs before it is read, but what the way asks for.

    Args:
        rows: how many.
        size: of a row, bytes.
        way: one of :data:`WAYS`.
        folder: of the model, or ``None``.
        scorers: actors that hold it.
        limit: MiB of blocks between the stages at which Ray Data holds the earlier ones back.
    """
    import ray
    from ray.data import ActorPoolStrategy

    where = str(folder.resolve()) if folder else None
    one = ActorPoolStrategy(size=1)
    limits = ray.data.ExecutionResources.for_limits(object_store_memory=limit * raylocal.MIB)
    ray.data.DataContext.get_current().execution_options.resource_limits = limits
    source = ray.data.range(rows, override_num_blocks=max(1, rows // ROWS))
    # Stages whose workers ask for different resources stay apart.
    share = 0.5 if way == "fused" else 0.25
    data = source.map_batches(made, batch_size=ROWS, fn_kwargs={"size": size}, num_cpus=share)
    if way == "materialized":
        data = data.materialize()
    prepared = data.map_batches(
        Tokenizer, batch_size=ROWS, fn_constructor_args=[where], compute=one, num_cpus=0.5
    )
    pool = ActorPoolStrategy(size=scorers)
    return prepared.map_batches(
        Scorer, batch_size=ROWS, fn_constructor_args=[where], compute=pool, num_cpus=0.5
    )


def measure(
    local: raylocal.Local,
    *,
    mib: int = 320,
    kib: int = 64,
    ways: tuple[str, ...] = WAYS,
    model: Path | None = None,
    scorers: int = 1,
    limit: int = 32,
) -> Table:
    """Run the pipeline each way, and watch the object store.

    Args:
        local: the Ray that runs.
        mib: size of the data set.
        kib: size of a row.
        ways: of :data:`WAYS`.
        model: folder, or ``None`` for a new one with random weights.
        scorers: actors that hold it.
        limit: see :func:`pipeline`.

    Raises:
        UsageError: the data set has not a single block.
    """
    rows = mib * 1024 // kib
    if rows < ROWS:
        raise UsageError(
            f"{mib} MiB in rows of {kib} KiB are {rows} rows, and a block has {ROWS}.",
            "ask for more data, or smaller rows.",
        )
    found = []
    for way in ways:
        begun, first, scored, total = time.perf_counter(), 0.0, 0, 0.0
        with local.watched() as peak:
            data = pipeline(rows, kib * 1024, way, model, scorers=scorers, limit=limit)
            for batch in data.iter_batches(batch_size=None):
                first = first or time.perf_counter() - begun
                scored += len(batch["loss"])
                total += float(batch["loss"].sum())
        seconds = time.perf_counter() - begun
        found.append(
            {
                "way": way,
                "rows": scored,
                "mean loss [nats/token]": round(total / scored, 4),
                "data [MiB]": mib,
                "store [MiB]": local.head.machine.store_mib,
                "peak in store [MiB]": round(peak.used_mib, 1),
                "spilled [MiB]": round(peak.spilled_mib, 1),
                "read back [MiB]": round(peak.restored_mib, 1),
                "first result [s]": round(first, 2),
                "all [s]": round(seconds, 2),
            }
        )
    method = "wall clock of the driver; the store's use sampled every 0.1 s through the raylet"
    return Table(
        found,
        raylocal.provenance(method, "torch", "transformers", "pyarrow"),
        title="One data set through the pipeline",
    )


def main() -> int:
    """The command."""
    chosen = options().parse_args()
    try:
        with raylocal.running(cpus=chosen.cpus, store_mib=chosen.store_mib) as local:
            found = measure(
                local,
                mib=chosen.mib,
                kib=chosen.kib,
                ways=tuple(chosen.way or WAYS),
                model=chosen.model,
                scorers=chosen.scorers,
                limit=chosen.limit_mib,
            )
    except Mlk8sError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; Ray has been stopped", file=sys.stderr)
        return 130
    print(found)
    for row in found:
        print(
            Finding(
                f"{row['way']}: at most {row['peak in store [MiB]']:.0f} MiB of "
                f"{row['data [MiB]']} were in the store at once, "
                f"{row['spilled [MiB]']:.0f} MiB went to disk.",
                *found.provenance,
            ).text
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
