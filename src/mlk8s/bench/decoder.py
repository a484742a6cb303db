"""What a language model costs on paper: a decoder-only transformer, layer by layer.

Built from the operations of :mod:`mlk8s.bench.flops`, with its conventions. Training, prefill and
one step of generation, and the share of a device's peak that they reach (MFU).
"""

from __future__ import annotations

from dataclasses import dataclass

from mlk8s.bench.flops import (
    GELU_FLOPS,
    Work,
    attention,
    copy,
    elementwise,
    matmul,
    require,
    require_divisor,
    require_rates,
    rms_norm,
    total,
)

#: silu(g)·u = g / (1 + exp(−g)) · u: negate, exp, add, divide, multiply.
SWIGLU_FLOPS = 5
#: Each element of a pair is rotated: x·cos − y·sin. Su et al., RoFormer, arXiv:2104.09864, §3.4.2.
ROTARY_FLOPS = 3


@dataclass(frozen=True)
class Decoder:
    """A decoder-only transformer of Llama's kind (Touvron et al., arXiv:2302.13971).

    Each layer: RMS norm, attention with rotary positions, RMS norm, feed-forward network, no
    biases. After the last, an RMS norm and the LM head.

    Attributes:
        layers: transformer layers.
        width: elements of a token's vector (hidden size).
        heads: query heads.
        kv_heads: key and value heads.
        ffn: width inside the feed-forward network (intermediate size).
        vocabulary: tokens known.
        head_dim: elements of a head; by default width / heads.
        gated: three feed-forward matrices (SwiGLU); else two, with a GELU between them.
        tied: whether the LM head is the embedding matrix.

    Raises:
        UsageError: a size that is not a whole number of at least 1, heads that do not divide the
            width where ``head_dim`` is not given, or key heads that do not divide the heads.
    """

    layers: int
    width: int
    heads: int
    kv_heads: int
    ffn: int
    vocabulary: int
    head_dim: int | None = None
    gated: bool = True
    tied: bool = False

    def __post_init__(self) -> None:
        require(layers=self.layers, width=self.width, heads=self.heads, kv_heads=self.kv_heads)
        require(ffn=self.ffn, vocabulary=self.vocabulary)
        require_divisor("kv_heads", self.kv_heads, "heads", self.heads)
        if self.head_dim is None:
            require_divisor("heads", self.heads, "width", self.width)
        else:
            require(head_dim=self.head_dim)

    @property
    def head_size(self) -> int:
        """Elements of a head."""
        return self.width // self.heads if self.head_dim is None else self.head_dim

    @property
    def matmul_parameters(self) -> int:
        """Weights that multiply every token: the P of "a forward pass takes 2·P FLOPs a token".

        The seven matrices of each layer and the LM head. The embedding is looked up, not
        multiplied, so it counts only where it is the LM head as well.
        """
        projections = 2 * self.width * (self.heads + self.kv_heads) * self.head_size
        feed_forward = (3 if self.gated else 2) * self.width * self.ffn
        return self.layers * (projections + feed_forward) + self.vocabulary * self.width

    @property
    def parameters(self) -> int:
        """All weights, those of the embedding and of the RMS norms included."""
        norms = (2 * self.layers + 1) * self.width
        embedding = 0 if self.tied else self.vocabulary * self.width
        return self.matmul_parameters + norms + embedding

    def kv_bytes(self, context: int, itemsize: int = 2) -> int:
        """KV cache of one sequence, bytes: a key and a value per layer, KV head and position.

        It has to fit in memory beside the weights, once for each sequence served at a time.

        Args:
            context: positions kept.
            itemsize: bytes per element.

        Raises:
            UsageError: a size that is not a whole number of at least 1.
        """
        require(context=context, itemsize=itemsize)
        return 2 * self.layers * self.kv_heads * self.head_size * context * itemsize

    def layer(
        self,
        batch: int,
        tokens: int,
        context: int | None = None,
        causal: bool = True,
        itemsize: int = 2,
    ) -> list[Work]:
        """The operations of one layer, in order, each a kernel of its own.

        Attention is fused; the rest is as the model is published, and an inference engine fuses
        more (Q, K and V into one product, the residual addition into the norm), which saves bytes
        and no FLOPs.

        Args:
            batch: sequences.
            tokens: new positions in each sequence.
            context: positions attended to, the new ones among them; by default the new ones only.
            causal: whether later positions are hidden.
            itemsize: bytes per element, of weights and activations.

        Raises:
            UsageError: a size that is not a whole number of at least 1, or less context than
                tokens in causal attention.
        """
        keys = tokens if context is None else context
        require(batch=batch, tokens=tokens, context=keys, itemsize=itemsize)
        rows, d = batch * tokens, self.head_size
        q, kv = self.heads * d, self.kv_heads * d

        def linear(name: str, inputs: int, outputs: int) -> Work:
            return matmul(rows, outputs, inputs, itemsize=itemsize).named(name)

        def each(name: str, columns: int, inputs: int, flops: int) -> Work:
            work = elementwise(rows * columns, inputs=inputs, flops_each=flops, itemsize=itemsize)
            return work.named(name)

        norm = rms_norm(rows, self.width, itemsize=itemsize)
        mixed = attention(
            batch, self.heads, tokens, keys, d,
            kv_heads=self.kv_heads, causal=causal, itemsize=itemsize,
        )  # fmt: skip
        if self.gated:
            widen = [
                linear("gate projection", self.width, self.ffn),
                linear("up projection", self.width, self.ffn),
                each("SiLU × up", self.ffn, 2, SWIGLU_FLOPS),
            ]
        else:
            widen = [
                linear("up projection", self.width, self.ffn),
                each("GELU", self.ffn, 1, GELU_FLOPS),
            ]
        return [
            norm.named("attention norm"),
            linear("Q projection", self.width, q),
            linear("K projection", self.width, kv),
            linear("V projection", self.width, kv),
            each("rotary positions", q + kv, 1, ROTARY_FLOPS),
            mixed.named("attention"),
            linear("output projection", q, self.width),
            each("attention residual", self.width, 2, 1),
            norm.named("feed-forward norm"),
            *widen,
            linear("down projection", self.ffn, self.width),
            each("feed-forward residual", self.width, 2, 1),
        ]

    def forward(
        self,
        batch: int,
        tokens: int,
        context: int | None = None,
        causal: bool = True,
        itemsize: int = 2,
    ) -> Work:
        """One pass through the model, with logits for every token.

        About 2·:attr:`matmul_parameters` FLOPs a token, and attention on top: 4·width·context per
        layer and token where heads × head_dim is the width, half of it causal.

        Args and errors: as :meth:`layer`.
        """
        layers = self.layer(batch, tokens, context, causal, itemsize) * self.layers
        rows = batch * tokens
        ends = [
            copy(rows * self.width, itemsize),  # the embedding: a row looked up for each token
            rms_norm(rows, self.width, itemsize=itemsize),
            matmul(rows, self.vocabulary, self.width, itemsize=itemsize),
        ]
        return total([*layers, *ends], f"forward, {batch}×{tokens} tokens")

    def decode(self, batch: int, context: int, itemsize: int = 2) -> Work:
        """One step of generation: one new token for each of ``batch`` sequences.

        The weights are read once for all sequences, the KV cache of each sequence for itself. At
        batch 1 every weight is read for 2 FLOPs: bound by memory. A larger batch shares the
        weights and raises the intensity, until the caches outweigh them.

        Args:
            batch: sequences generated together.
            context: positions each token attends to, itself included.
            itemsize: bytes per element, of weights, activations and KV cache.

        Raises:
            UsageError: a size that is not a whole number of at least 1.
        """
        step = self.forward(batch, 1, context, itemsize=itemsize)
        return step.named(f"decode, batch {batch} at {context}")

    def training(
        self,
        batch: int,
        tokens: int,
        recompute: bool = False,
        causal: bool = True,
        itemsize: int = 2,
    ) -> Work:
        """Forward and backward of one step: 3 × forward, some 6·P FLOPs a token.

        Each product C = A·B has two in its backward pass, one for the gradient of A, one for that
        of B, of the same size and traffic. For element-wise operations and norms the factor is a
        rule of thumb. The optimizer's step is not in it (no products, all traffic). FlopCounterMode
        counts 3.5 × for fused attention: its backward kernel computes the scores a second time.

        Args:
            batch: sequences.
            tokens: positions in each sequence.
            recompute: whether activations are computed again in the backward pass in place of
                being kept (activation checkpointing of every layer): 4 × forward. An MFU takes
                the figure without, since recomputing gets the training no further; with it, the
                ratio is called HFU, hardware FLOPs utilization (Chowdhery et al., PaLM,
                arXiv:2204.02311, section 4.1).
            causal: whether later positions are hidden. PaLM's formula, and many after it, count
                all pairs: pass ``False`` to compare with those.
            itemsize: bytes per element, of weights, activations and gradients.

        Raises:
            UsageError: a size that is not a whole number of at least 1.
        """
        step = self.forward(batch, tokens, causal=causal, itemsize=itemsize)
        kind = "training with recomputation" if recompute else "training"
        return (step * (4 if recompute else 3)).named(f"{kind}, {batch}×{tokens} tokens")


#: Meta-Llama-3-8B: its config.json (hidden_size, intermediate_size, num_attention_heads,
#: num_hidden_layers, num_key_value_heads, vocab_size, tie_word_embeddings false).
LLAMA_3_8B = Decoder(
    layers=32, width=4096, heads=32, kv_heads=8, ffn=14336, vocabulary=128256, head_dim=128
)


def mfu(flops_per_step: float, seconds: float, peak_tflops: float) -> float:
    """Model FLOPs utilization: the share of the peak that went into the model's own arithmetic.

    The definition of PaLM (Chowdhery et al., arXiv:2204.02311, section 4.1): FLOPs the model needs
    over what the devices could have done in the time. It compares across machines where "GPU
    utilization" does not, since that reads 100 % as soon as any kernel runs.

    Args:
        flops_per_step: FLOPs of one step over all devices; :meth:`Decoder.training` without
            recomputation.
        seconds: time of the step, s.
        peak_tflops: dense peak of all devices together, TFLOP/s. The sparse figure of a data
            sheet halves the result.

    Returns:
        A share, 0.4 for 40 %.

    Raises:
        UsageError: an argument that is not positive.
    """
    require_rates(flops_per_step=flops_per_step, seconds=seconds, peak_tflops=peak_tflops)
    return flops_per_step / seconds / (peak_tflops * 1e12)
