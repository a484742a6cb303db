"""What the embedded cluster does not model: one list, shown by ``status`` and in the book."""

from __future__ import annotations

# (what, what happens instead)
LIMITS: tuple[tuple[str, str], ...] = (
    ("GPUs", "no CUDA code runs; devices are entries in a table, and nothing is measured on them"),
    ("containers", "no images, no isolation: a pod is a local process, a recorded log, or waits"),
)
