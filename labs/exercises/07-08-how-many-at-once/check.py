"""The arithmetic of the chapter, from the architecture in mlk8s.lm.memory."""

from __future__ import annotations

import math
from dataclasses import replace

from mlk8s.course.exercises import Work, Wrong
from mlk8s.lm.memory import KNOWN

MODEL, USABLE, WHOLE, BLOCK, SHORT = KNOWN["Llama 3 8B"], 0.9 * 80 * 2**30, 8192, 16, 1000
ITEMSIZE = 2
LOOK = {
    "weights_gib": "Two bytes for each parameter; a GiB has 2³⁰ bytes.",
    "token_kib": "A key and a value, in every layer. Which heads keep them?",
    "whole": "What do the weights leave over, and what do 8,192 tokens take?",
    "paged": "How many whole blocks does a request of 1,000 tokens keep?",
    "every_head": "How many heads keep keys and values now, and how many did before?",
}


def check(work: Work) -> str:
    """Compare the answers; the first wrong one is named."""
    weights = MODEL.parameters * ITEMSIZE
    left = USABLE - weights
    every = replace(MODEL, kv_heads=MODEL.heads)
    blocks = math.ceil(SHORT / BLOCK) * BLOCK
    right = {
        "weights_gib": weights / 2**30,
        "token_kib": MODEL.kv_bytes(1, ITEMSIZE) / 2**10,
        "whole": left // MODEL.kv_bytes(WHOLE, ITEMSIZE),
        "paged": left // MODEL.kv_bytes(blocks, ITEMSIZE),
        "every_head": left // every.kv_bytes(WHOLE, ITEMSIZE),
    }
    for key, value in right.items():
        given = work.number(key, key.rpartition("_")[2] if "ib" in key else "requests")
        # Counts are whole; sizes have two digits.
        if abs(given - value) > (0.01 if key == "weights_gib" else 0):
            raise Wrong(f"{key}: {given:g} is not right. {LOOK[key]}")
    gain = right["paged"] / right["whole"]
    return f"Blocks make {gain:.0f} times as many short requests as room for the longest would."
