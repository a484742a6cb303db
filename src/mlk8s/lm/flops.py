"""How much arithmetic training takes, and which share of a device's peak that is.

The rule of thumb is 6·N·D: six FLOPs for each of N parameters and each of D tokens, two in the
forward pass and four in the backward pass (Kaplan et al., arXiv:2001.08361, section 2.1).
:mod:`mlk8s.bench.decoder` counts operation by operation; here are the rule, the attention term that
it leaves out, what LoRA saves, and the utilization.
"""

from __future__ import annotations

from dataclasses import dataclass

from mlk8s.bench.decoder import Decoder, mfu
from mlk8s.bench.flops import require
from mlk8s.lm.memory import lora_parameters


@dataclass(frozen=True)
class Training:
    """FLOPs of training a token.

    Attributes:
        weights: products with the weights, forward and backward.
        attention: products of queries with keys and of probabilities with values.
    """

    weights: int
    attention: int

    @property
    def total(self) -> int:
        """Both; element-wise operations are a few percent more."""
        return self.weights + self.attention


def per_token(decoder: Decoder, context: int, *, rank: int | None = None) -> Training:
    """FLOPs of a training step for each token.

    Frozen weights have no gradient of their own: of their backward pass only the half remains that
    hands the gradient on to the layer below. So LoRA takes 4 FLOPs for each frozen parameter in
    place of 6, and 6 for each of its own: a third less at most, while it saves most of the memory.

    Args:
        decoder: the architecture.
        context: tokens of a row. All pairs of them are counted, as PaLM's formula does
            (Chowdhery et al., arXiv:2204.02311, appendix B: 12 · layers · heads · head size ·
            context); causal attention needs half of that.
        rank: of LoRA adapters; ``None`` trains all weights.

    Raises:
        UsageError: a size that is not a whole number of at least 1.
    """
    require(context=context)
    head = decoder.head_size
    attention = 12 * decoder.layers * decoder.heads * head * context
    if rank is None:
        return Training(6 * decoder.matmul_parameters, attention)
    adapters = lora_parameters(decoder, rank)
    # Below the first layer's queries, keys and values nothing is trained: their matrices, and the
    # first of the two beside each, hand no gradient on.
    kv = decoder.kv_heads * head
    below = 2 * decoder.width * (decoder.heads * head + 2 * kv + 3 * rank)
    return Training(4 * decoder.matmul_parameters + 6 * adapters - below, attention)


def utilization(
    decoder: Decoder,
    context: int,
    tokens_per_s: float,
    peak_tflops: float,
    *,
    rank: int | None = None,
) -> float:
    """Model FLOPs utilization (MFU): the share of the peak that the training reaches.

    Args:
        decoder: the architecture.
        context: tokens of a row, on average.
        tokens_per_s: throughput over all devices, without padding.
        peak_tflops: dense peak of all devices together, TFLOP/s, such as
            ``mlk8s.gpu.catalogue.get("h100-sxm").dense_tflops("bf16")`` times their number.
        rank: as in :func:`per_token`.

    Raises:
        UsageError: an argument that is not positive.
    """
    return mfu(per_token(decoder, context, rank=rank).total * tokens_per_s, 1.0, peak_tflops)
