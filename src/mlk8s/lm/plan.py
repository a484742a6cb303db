"""How a training goes: how many steps, of what size, at which learning rate."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

#: The cosine ends at this share of the highest learning rate.
_FLOOR = 0.05


@dataclass(frozen=True)
class Plan:
    """How to train.

    Attributes:
        steps: updates of the weights.
        batch: rows of a step, over all processes together.
        lr: the highest learning rate.
        length: tokens of a row when pre-training, the most that one may have when fine-tuning.
        warmup: steps in which the learning rate grows from near 0.
        weight_decay: of AdamW.
        clip: the gradients' norm is cut to this.
        seed: of the order of the data and of new weights.
        precision: ``bf16`` runs matrix products in bfloat16 and keeps the weights in FP32.
        threads: of PyTorch on a CPU. More are faster where the cores are idle; where others use
            them too, the threads wait for each other and two can be ten times slower than one.
    """

    steps: int
    batch: int = 32
    lr: float = 3e-3
    length: int = 160
    warmup: int = 20
    weight_decay: float = 0.01
    clip: float = 1.0
    seed: int = 0
    precision: Literal["fp32", "bf16"] = "fp32"
    threads: int = 1


#: Plans that suit the small model on two cores.
PRETRAIN = Plan(steps=180, batch=16, lr=5e-3, length=96)
LORA = Plan(steps=350, batch=24, lr=6e-3)
FULL = Plan(steps=350, batch=24, lr=3e-3)


def learning_rate(plan: Plan, step: int) -> float:
    """The learning rate of a step: it grows over the warm-up, and falls by a cosine to 5 %.

    Args:
        plan: with ``lr``, ``warmup`` and ``steps``.
        step: counted from 0.
    """
    grown = min(1.0, (step + 1) / max(1, plan.warmup))
    fallen = _FLOOR + (1 - _FLOOR) * (1 + math.cos(math.pi * step / plan.steps)) / 2
    return plan.lr * grown * fallen
