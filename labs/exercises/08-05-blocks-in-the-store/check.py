"""The arithmetic of a pod's memory, the first mistake first."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong

GIB, BLOCK = 2**30, 128 * 2**20
POD, STORE, SHARE = 48 * GIB, 0.3, 0.5
IMAGE, IMAGES = 224 * 224 * 3 * 4, 200_000
ACTORS, EACH_HOLDS, BETWEEN = 2, 2, 4
RAY, ACTOR, DECODER = 2 * GIB, 6 * GIB, GIB
LOOK = {
    "all_gib": "Numbers of 4 bytes; 2³⁰ bytes are a GiB.",
    "rows": "A block has 128 · 2²⁰ bytes, and a part of an image is none.",
    "blocks": "Which part of the pod is the store, and which part of that is Ray Data's?",
    "by_store": "Whose are the blocks that no decoder has?",
    "by_heap": "The pod's memory is one sum. What else is in it, the whole store included?",
    "concurrency": "Both bounds hold at the same time.",
}


def check(work: Work) -> str:
    """Compare, in the order in which one follows from the other."""
    blocks = int(POD * STORE * SHARE // BLOCK)
    by_store = blocks - ACTORS * EACH_HOLDS - BETWEEN
    by_heap = int((POD - POD * STORE - RAY - ACTORS * ACTOR) // DECODER)
    right = {
        "all_gib": IMAGE * IMAGES / GIB,
        "rows": BLOCK // IMAGE,
        "blocks": blocks,
        "by_store": by_store,
        "by_heap": by_heap,
        "concurrency": min(by_store, by_heap),
    }
    for key, value in right.items():
        given = work.number(key, "GiB" if key == "all_gib" else "whole numbers")
        if abs(given - value) > (0.01 * value if key == "all_gib" else 0):
            raise Wrong(f"{key}: {given:g} is not right. {LOOK[key]}")
    return f"{right['concurrency']} decoders: not the store is what ends first."
