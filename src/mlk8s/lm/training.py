"""Pre-training and fine-tuning: one loop, in which only the data and the trained weights differ.

The loop is AdamW with a warm-up and a cosine, on a fixed number of steps. It runs in one process
or, under ``torchrun`` and Kubeflow Trainer, in several, where a step is the same step: the batch is
split, the gradients are those of the whole batch.

What is guaranteed: on a CPU the same plan, data and number of threads and processes give the same
weights bit by bit, on the same machine and versions, also when the run was stopped and resumed. On
another machine, and between one process and several, results agree up to rounding, which training
amplifies. On a GPU some kernels add in an order that varies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.lm import checkpoint, data, progress
from mlk8s.lm.loop import Loop
from mlk8s.lm.model import Model, Parameters
from mlk8s.lm.plan import FULL, LORA, PRETRAIN, Plan
from mlk8s.lm.processes import Ranks, joined, threads
from mlk8s.lm.task import Example

__all__ = ["FULL", "LORA", "PRETRAIN", "Method", "Plan", "Run", "Step", "finetune", "pretrain"]

Method = Literal["lora", "full"]


@dataclass(frozen=True)
class Step:
    """What is known after a step.

    Attributes:
        step: counted from 1.
        steps: of the whole run.
        loss: mean over the batch's predicted tokens, nats.
        lr: learning rate.
        tokens_per_s: since this process began.
    """

    step: int
    steps: int
    loss: float
    lr: float
    tokens_per_s: float


@dataclass(frozen=True)
class Run:
    """A training that is done.

    Attributes:
        model: what came out; with method ``lora`` a network with adapters.
        losses: of every step, also of those before a resumption, nats per predicted token.
        parameters: how many there are, and how many were trained.
        tokens: read by this process and its peers since the start or the resumption, without
            padding.
        seconds: they took.
        cpu_seconds: of this process.
        peak_memory_bytes: on a GPU what PyTorch held at most; on a CPU the most that this process
            ever had resident, whatever it was for.
        processes: that trained together.
        resumed_at: steps that a checkpoint had done already.
    """

    model: Model
    losses: tuple[float, ...]
    parameters: Parameters
    tokens: int
    seconds: float
    cpu_seconds: float
    peak_memory_bytes: int
    processes: int
    resumed_at: int

    @property
    def tokens_per_s(self) -> float:
        """Throughput, over all processes."""
        return self.tokens / self.seconds


def pretrain(
    model: Model,
    texts: Iterable[str],
    plan: Plan = PRETRAIN,
    *,
    device: str = "cpu",
    folder: Path | None = None,
    every: int = 0,
    report: Callable[[Step], object] | None = None,
) -> Run:
    """Train all weights to continue texts.

    Args:
        model: changed in place.
        texts: documents; :func:`mlk8s.lm.task.corpus` makes some.
        plan: how.
        device: ``cpu`` or ``cuda``.
        folder: for the checkpoint. One that is there already is where the run begins.
        every: steps between two checkpoints; 0 for one when the process is told to stop.
        report: called after every step, on rank 0.

    Raises:
        UsageError: the data does not suit the plan, or the checkpoint is of another run.
        GpuUnavailable: ``cuda``, and there is none.
    """
    rows = data.packed(model.tokenizer, texts, plan.length)
    return _train(model, rows, plan, "pretrain", device, folder, every, report)


def finetune(
    model: Model,
    examples: Iterable[Example],
    plan: Plan | None = None,
    *,
    method: Method = "lora",
    rank: int = 16,
    device: str = "cpu",
    folder: Path | None = None,
    every: int = 0,
    report: Callable[[Step], object] | None = None,
) -> Run:
    """Train a model to answer requests. Only the answers count for the loss.

    Args:
        model: changed in place; load it again to compare methods.
        examples: :func:`mlk8s.lm.task.examples` makes some.
        plan: how; by default :data:`LORA` or :data:`FULL`.
        method: ``full`` trains all weights; ``lora`` keeps them and trains two thin matrices
            beside each (Hu et al., arXiv:2106.09685).
        rank: columns of the thin matrices.
        device: ``cpu`` or ``cuda``.
        folder: for the checkpoint; see :func:`pretrain`.
        every: steps between two checkpoints.
        report: called after every step, on rank 0.

    Raises:
        UsageError: the method is unknown, the data does not suit the plan, or the checkpoint is
            of another run.
        GpuUnavailable: ``cuda``, and there is none.
    """
    if method not in ("lora", "full"):
        raise UsageError(f"method={method!r} is unknown.", "pass 'lora' or 'full'.")
    plan = plan or (LORA if method == "lora" else FULL)
    rows = data.pairs(model.tokenizer, examples, plan.length)
    name = "full"
    if method == "lora":
        name = f"lora of rank {rank}"
        model = _with_adapters(model, rank, plan.seed)
    return _train(model, rows, plan, name, device, folder, every, report)


def _with_adapters(model: Model, rank: int, seed: int) -> Model:
    import torch
    from peft import LoraConfig, get_peft_model

    # Alpha of twice the rank, a common choice; the update is scaled by alpha / rank.
    config = LoraConfig(
        r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM"
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return Model(get_peft_model(model.network, config), model.tokenizer)


def _train(
    model: Model,
    rows: Sequence[data.Row],
    plan: Plan,
    method: str,
    device: str,
    folder: Path | None,
    every: int,
    report: Callable[[Step], object] | None,
) -> Run:
    identity = {
        "method": method,
        "plan": json.dumps({k: v for k, v in asdict(plan).items() if k != "threads"}),
        "data": data.fingerprint(rows),
    }
    with progress.held_back() as stop, joined(device) as ranks, threads(plan.threads):
        loop = Loop(model, rows, plan, ranks)
        state = loop.resume(folder, identity) if folder else checkpoint.State(identity)
        begun, cpu, tokens, resumed = time.perf_counter(), time.process_time(), 0, state.step
        stopped = 0.0
        with progress.bar(method, state.step, plan.steps, shown=ranks.first) as show:
            while state.step < plan.steps:
                loss, read = loop.step(state.step)
                tokens += read
                # All ranks leave after the same step, or the others would wait for this one.
                loss, stopped = ranks.summed(loss, float(bool(stop)))
                state.step += 1
                state.losses.append(loss)
                speed = tokens / (time.perf_counter() - begun)
                show(state.step, f"loss {loss:.3f}")
                if report and ranks.first:
                    report(Step(state.step, plan.steps, loss, loop.lr, speed))
                due = every and state.step % every == 0
                if folder and ranks.first and (due or stopped):
                    checkpoint.write(folder, loop.saved(state))
                if stopped:
                    break
            if stopped and not stop:
                raise Mlk8sError(
                    f"Another process was told to stop, so this one did, after step {state.step}.",
                    "start all of them again; with a folder for checkpoints they go on from there.",
                )
        seconds, cpu = time.perf_counter() - begun, time.process_time() - cpu
        return Run(
            model, tuple(state.losses), model.parameters, tokens, seconds, cpu,
            _peak_memory(ranks), ranks.size, resumed,
        )  # fmt: skip


def _peak_memory(ranks: Ranks) -> int:
    import resource
    import sys

    import torch

    if ranks.device.type == "cuda":
        return torch.cuda.max_memory_allocated(ranks.device)
    # KiB on Linux, bytes on macOS.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
