"""What a GPU does: benchmarks that say how they measured, and the arithmetic beside them."""

from mlk8s.bench import (
    collective,
    decoder,
    flops,
    matmul,
    memory,
    roofline,
    sampler,
    sharing,
    sharing_neighbor,
    softmax,
    timing,
    transfer,
    waves,
)

__all__ = [
    "collective",
    "decoder",
    "flops",
    "matmul",
    "memory",
    "roofline",
    "sampler",
    "sharing",
    "sharing_neighbor",
    "softmax",
    "timing",
    "transfer",
    "waves",
]
