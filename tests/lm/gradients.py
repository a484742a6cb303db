"""A process of test_training: the gradients of one batch, as its rank computes them.

Run by torchrun, or alone; the first rank writes them to the file that the command line names.
"""

from __future__ import annotations

import sys

import torch

from mlk8s.lm import data, model, task
from mlk8s.lm.loop import Loop
from mlk8s.lm.plan import Plan
from mlk8s.lm.processes import joined, threads


def main(file: str) -> None:
    small = model.create(seed=0)
    rows = data.pairs(small.tokenizer, task.examples(8), 160)
    # Rows of very different length, so that a mean of the ranks' means would be another number.
    rows = sorted(rows, key=lambda row: row.targets)
    with joined("cpu") as ranks, threads(1):
        loop = Loop(small, rows, Plan(steps=1, batch=8), ranks)
        loss = loop.loss(rows)
        loss.backward()
        found = {name: parameter.grad for name, parameter in loop.named.items()}
        [whole] = ranks.summed(loss.item() / ranks.size)
        if ranks.first:
            torch.save({"loss": whole, "gradients": found}, file)


if __name__ == "__main__":
    main(sys.argv[1])
