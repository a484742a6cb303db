"""From texts to batches: rows of token numbers, their order, and the tensors of a step.

The order of the rows is a function of the seed and the number of the step, and has no state of its
own: a resumed run goes on with the row that was next, and each rank knows the rows of the others.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mlk8s.errors import UsageError
from mlk8s.lm.task import Example

if TYPE_CHECKING:
    import torch

#: What cross_entropy passes over.
IGNORED = -100
#: Batches are cut from so many rows' worth at a time, sorted by length, to pad less.
_POOL = 4


@dataclass(frozen=True)
class Row:
    """One sequence of a batch.

    Attributes:
        ids: token numbers.
        start: the first token that the model has to predict; those before it are given.
    """

    ids: tuple[int, ...]
    start: int

    @property
    def targets(self) -> int:
        """How many tokens are predicted."""
        return len(self.ids) - self.start


def packed(tokenizer: Any, texts: Iterable[str], length: int) -> list[Row]:
    """Texts for pre-training: one stream, cut into rows of equal length, without padding.

    Args:
        tokenizer: the model's.
        texts: documents; between two stands a line of three dashes, as in a YAML file.
        length: tokens of a row.

    Raises:
        UsageError: the texts are shorter than one row.
    """
    stream = tokenizer("---\n".join(texts)).input_ids
    rows = [
        Row(tuple(stream[at : at + length]), 1) for at in range(0, len(stream) - length + 1, length)
    ]
    if not rows:
        raise UsageError(
            f"The texts have {len(stream)} tokens, and a row has {length}.",
            "pass more texts, or a smaller length.",
        )
    return rows


def pairs(tokenizer: Any, examples: Iterable[Example], longest: int) -> list[Row]:
    """Examples for fine-tuning: the prompt is given, the answer and its end are to be predicted.

    Args:
        tokenizer: the model's.
        examples: requests with their manifests.
        longest: tokens that a row may have.

    Raises:
        UsageError: an example has more.
    """
    rows = []
    for example in examples:
        # Each alone, so that no token spans the border: at the answer's first token the model
        # has seen exactly what it will be given.
        given = tokenizer(example.prompt).input_ids
        answer = tokenizer(example.answer, add_special_tokens=False).input_ids
        row = Row((*given, *answer, tokenizer.eos_token_id), len(given))
        if len(row.ids) > longest:
            raise UsageError(
                f"The example {example.request!r} has {len(row.ids)} tokens, and {longest} are "
                "allowed.",
                "raise the plan's length.",
            )
        rows.append(row)
    return rows


def batch_at(rows: Sequence[Row], step: int, size: int, seed: int) -> list[Row]:
    """The rows of one step, over all ranks.

    Every row comes once an epoch, in another order each; what does not fill a batch is left out of
    that epoch.

    Args:
        rows: all of them.
        step: counted from 0.
        size: rows of a batch.
        seed: of the order.

    Raises:
        UsageError: there are fewer rows than a batch has.
    """
    each = len(rows) // size
    if not each:
        raise UsageError(
            f"A batch has {size} rows, and there are {len(rows)}.",
            "pass more data, or a smaller batch.",
        )
    epoch, at = divmod(step, each)
    lengths = tuple(len(row.ids) for row in rows)
    return [rows[index] for index in _epoch(lengths, size, seed, epoch)[at]]


@lru_cache(maxsize=2)
def _epoch(lengths: tuple[int, ...], size: int, seed: int, epoch: int) -> list[list[int]]:
    draw = random.Random(f"{seed} {epoch}")
    order = list(range(len(lengths)))
    draw.shuffle(order)
    batches = []
    for start in range(0, len(order), _POOL * size):
        pool = sorted(order[start : start + _POOL * size], key=lambda index: lengths[index])
        batches += [pool[at : at + size] for at in range(0, len(pool) - size + 1, size)]
    draw.shuffle(batches)
    return batches


def tensors(rows: Sequence[Row], padding: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Inputs and labels of a batch, padded on the right to its longest row.

    A label is the token itself (the shift by one is the loss function's), or :data:`IGNORED` where
    it is given or padding. In causal attention no token sees what stands to its right, so padding
    there needs no mask.
    """
    import torch

    width = max(len(row.ids) for row in rows)
    inputs = torch.full((len(rows), width), padding)
    labels = torch.full((len(rows), width), IGNORED)
    for index, row in enumerate(rows):
        inputs[index, : len(row.ids)] = torch.tensor(row.ids)
        labels[index, row.start : len(row.ids)] = torch.tensor(row.ids[row.start :])
    return inputs, labels


def fingerprint(rows: Sequence[Row]) -> str:
    """A short hash of the data, by which a checkpoint knows what it was trained on."""
    digest = hashlib.sha256()
    for row in rows:
        digest.update(repr((row.start, row.ids)).encode())
    return digest.hexdigest()[:16]
