"""The places that Ray 2.60 chose on four logical GPUs, and what it adds up."""

from __future__ import annotations

import math

from mlk8s.course.exercises import Work, Wrong

QUARTER, GPU_GIB, MODEL_GIB = 4, 80, 24
RIGHT = {
    "on_gpu_0": QUARTER,
    "on_gpu_1": 6 - QUARTER,
    "missing_gib": QUARTER * MODEL_GIB - GPU_GIB,
    "of_three": 2,
    "half_on": 1,
    "free": 0.8,
    "whole": 0,
}
LOOK = {
    "on_gpu_0": "Does Ray spread fractions, or does it fill one GPU first?",
    "on_gpu_1": "What was left over for it by GPU 0?",
    "missing_gib": "What do the models on GPU 0 take together, and does num_gpus limit memory?",
    "of_three": "Draw what is free on each GPU. May a fraction lie on two of them?",
    "half_on": "Which GPU is in use already and has room for exactly that?",
    "free": "Add up what is free on all four, wherever it lies.",
    "whole": "Is there a GPU on which nothing is?",
}


def check(work: Work) -> str:
    """The first wrong one is named."""
    for key, right in RIGHT.items():
        given = work.number(key, "GiB" if key.endswith("gib") else "GPUs or actors")
        if not math.isclose(given, right, abs_tol=0.01):
            raise Wrong(f"{key}: {given:g} is not right. {LOOK[key]}")
    return "0.8 of a GPU are free and no GPU is; and nobody watches the memory."
