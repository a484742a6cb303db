"""What a GPU does: benchmarks that say how they measured, and the arithmetic beside them."""

from mlk8s.bench import matmul, sampler, timing

__all__ = ["matmul", "sampler", "timing"]
