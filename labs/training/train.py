#!/usr/bin/env python3
"""Train the small language model: here, on several processes, in a pod.

A thin command over mlk8s.lm, whose training.py holds the loop. All options have defaults that end
well on two cores; --help says how to run it elsewhere.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
from pathlib import Path

from mlk8s.errors import Mlk8sError
from mlk8s.lm import judging, model, task, training

HOW = """\
A request in words becomes a Kubernetes manifest, in two stages:

  1. Pre-training: a new model learns what manifests look like.
       ./train.py pretrain --out base
  2. Fine-tuning: it learns to answer a request; LoRA trains thin matrices beside its weights,
     "full" trains all of them.
       ./train.py finetune --base base --out tuned --method lora --judge 64

With --checkpoints a run that was ended goes on from its last checkpoint: give the same command
again. A pod that is evicted gets SIGTERM, and then one is written as well.
       ./train.py finetune --base base --out tuned --checkpoints ck --every 50

Several processes share each batch; --batch is that of all of them together:
       torchrun --nproc-per-node 2 train.py pretrain --out base
On GPUs, one process for each:
       torchrun --nproc-per-node 4 train.py pretrain --out base --device cuda --precision bf16

On a cluster, Kubeflow Trainer sets what torchrun needs: see README.md beside this file.
"""


def options() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        description="Train the course's small language model.",
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("stage", choices=("pretrain", "finetune"), help="what to do")
    add("--out", type=Path, required=True, help="folder for the model, in Hugging Face's format")
    add("--base", help="finetune: folder of the model to start from, or a name on the hub")
    add("--method", choices=("lora", "full"), default="lora", help="finetune: which weights")
    add("--rank", type=int, default=16, help="finetune: rank of the LoRA matrices (default 16)")
    add("--texts", type=int, default=8000, help="texts or examples to train on (default 8000)")
    add("--steps", type=int, help="updates of the weights (default: the stage's plan)")
    add("--batch", type=int, help="rows of a step, over all processes")
    add("--lr", type=float, help="highest learning rate")
    add("--seed", type=int, default=0, help="of weights and order of the data (default 0)")
    add("--device", choices=("cpu", "cuda"), default="cpu", help="where to compute (default cpu)")
    add("--precision", choices=("fp32", "bf16"), help="of the matrix products (default fp32)")
    add("--threads", type=int, help="of each process on a CPU (default 1)")
    add("--checkpoints", type=Path, help="folder for checkpoints, on a volume in a cluster")
    add("--every", type=int, default=0, help="steps between two checkpoints")
    add(
        "--print-every", type=int, default=20, help="steps between two lines of output (default 20)"
    )
    add("--judge", type=int, default=0, help="finetune: held-out requests to judge by at the end")
    return parser


def plan_of(chosen: argparse.Namespace) -> training.Plan:
    """The stage's plan with what the command line changes."""
    plans = {"lora": training.LORA, "full": training.FULL}
    plan = training.PRETRAIN if chosen.stage == "pretrain" else plans[chosen.method]
    names = ("steps", "batch", "lr", "seed", "precision", "threads")
    given = {name: getattr(chosen, name) for name in names if getattr(chosen, name) is not None}
    return dataclasses.replace(plan, **given)


def run(chosen: argparse.Namespace) -> None:
    """Train, save, judge. Under torchrun every process comes here; the first one writes."""

    def log(done: training.Step) -> None:
        if done.step % chosen.print_every == 0 or done.step == done.steps:
            # Katib reads metrics in this form.
            print(
                f"step={done.step} loss={done.loss:.4f} lr={done.lr:.2e} "
                f"tokens_per_s={done.tokens_per_s:.0f}",
                flush=True,
            )

    plan = plan_of(chosen)
    where = {"device": chosen.device, "folder": chosen.checkpoints, "every": chosen.every}
    if chosen.stage == "pretrain":
        start = model.create(seed=chosen.seed)
        texts = task.corpus(chosen.texts, seed=chosen.seed)
        done = training.pretrain(start, texts, plan, report=log, **where)
    else:
        start = model.load(chosen.base)
        examples = task.examples(chosen.texts, seed=chosen.seed)
        done = training.finetune(
            start, examples, plan, method=chosen.method, rank=chosen.rank, report=log, **where
        )
    if int(os.environ.get("RANK", "0")) != 0:
        return
    tuned = done.model.merged() if chosen.stage == "finetune" and chosen.method == "lora" else start
    tuned.save(chosen.out)
    print(
        f"{done.parameters.trainable:,} of {done.parameters.total:,} parameters trained, "
        f"{done.tokens:,} tokens in {done.seconds:.1f} s on {done.processes} processes, "
        f"peak memory {done.peak_memory_bytes / 2**20:.0f} MiB; the model is in {chosen.out}"
    )
    if chosen.judge:
        found = judging.judge(tuned, task.examples(chosen.judge, seed=1, split="held out"))
        print(
            f"valid={found.valid:.3f} right_kind={found.right_kind:.3f} "
            f"right_fields={found.right_fields:.3f} exact={found.exact:.3f}"
        )


def main() -> int:
    """The command."""
    parser = options()
    chosen = parser.parse_args()
    if chosen.stage == "finetune" and not chosen.base:
        parser.error("finetune needs --base: the folder that pretrain has written")
    try:
        run(chosen)
    except Mlk8sError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
