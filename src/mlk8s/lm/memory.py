"""What a model needs in memory: to be trained, and to answer. On paper, and measured beside it.

Four things take the memory of training: weights, gradients, the optimizer's state, and the
activations that the backward pass needs again. The first three follow from the number of
parameters alone; activations from the number of tokens. Serving keeps the weights and the KV cache,
:meth:`mlk8s.bench.decoder.Decoder.kv_bytes` for each sequence.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlk8s.bench.decoder import LLAMA_3_8B, Decoder
from mlk8s.bench.flops import require
from mlk8s.errors import UsageError
from mlk8s.provenance import Kind, Provenance, Scalar, Table

if TYPE_CHECKING:
    from mlk8s.lm.data import Row
    from mlk8s.lm.model import Model

Precision = Literal["fp32", "bf16-mixed"]

#: Bytes of a parameter that is trained: weight, gradient, AdamW's two moments and master copy.
#: Mixed precision as in ZeRO (Rajbhandari et al., arXiv:1910.02054, section 3.1): weight and
#: gradient in 16 bits, and in FP32 a copy of the weight and the two moments; 16 bytes together.
#: ``torch.autocast`` divides them otherwise (weights, gradients and moments in FP32, and casts of
#: the weights that live during the forward pass).
TRAINED: Mapping[Precision, Mapping[str, int]] = {
    "fp32": {"weights": 4, "gradients": 4, "optimizer": 8},
    "bf16-mixed": {"weights": 2, "gradients": 2, "optimizer": 12},
}
#: Bytes of an element of an activation.
ITEMSIZE: Mapping[Precision, int] = {"fp32": 4, "bf16-mixed": 2}

#: What the course trains.
SMALL = Decoder(
    layers=4, width=128, heads=4, kv_heads=4, ffn=344, vocabulary=704, head_dim=32, tied=True
)
#: Architectures of models that are known, from their config.json: hidden_size,
#: intermediate_size, num_attention_heads, num_hidden_layers, num_key_value_heads, vocab_size and
#: tie_word_embeddings of HuggingFaceTB/SmolLM2-135M, TinyLlama/TinyLlama-1.1B-Chat-v1.0,
#: meta-llama/Meta-Llama-3-8B and meta-llama/Meta-Llama-3-70B.
KNOWN: Mapping[str, Decoder] = {
    "this course's": SMALL,
    "SmolLM2 135M": Decoder(
        layers=30, width=576, heads=9, kv_heads=3, ffn=1536, vocabulary=49152, tied=True
    ),
    "TinyLlama 1.1B": Decoder(
        layers=22, width=2048, heads=32, kv_heads=4, ffn=5632, vocabulary=32000
    ),
    "Llama 3 8B": LLAMA_3_8B,
    "Llama 3 70B": Decoder(
        layers=80, width=8192, heads=64, kv_heads=8, ffn=28672, vocabulary=128256
    ),
}


@dataclass(frozen=True)
class Need:
    """Memory by what it is for, bytes.

    Attributes:
        weights: of all parameters.
        gradients: of those that are trained.
        optimizer: AdamW's state of those that are trained.
        activations: kept from the forward pass for the backward pass.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it; a GPU needs some more for workspaces and the CUDA context."""
        return self.weights + self.gradients + self.optimizer + self.activations


def architecture(model: Model) -> Decoder:
    """The sizes of a network of Llama's kind, from its configuration.

    Raises:
        UsageError: the configuration is of another kind.
    """
    config = model.network.config
    if config.model_type != "llama":
        raise UsageError(
            f"The arithmetic here is for models of type llama, and this is a {config.model_type}.",
            "describe it yourself: mlk8s.bench.decoder.Decoder(layers=…, width=…).",
        )
    return Decoder(
        layers=config.num_hidden_layers,
        width=config.hidden_size,
        heads=config.num_attention_heads,
        kv_heads=config.num_key_value_heads,
        ffn=config.intermediate_size,
        vocabulary=config.vocab_size,
        head_dim=config.head_dim,
        tied=config.tie_word_embeddings,
    )


def lora_parameters(decoder: Decoder, rank: int) -> int:
    """Parameters of adapters beside all matrices of the layers: rank · (inputs + outputs) each.

    Hu et al., arXiv:2106.09685, section 4.1. The embedding and the LM head have none.

    Args:
        decoder: the architecture.
        rank: columns of the thin matrices.

    Raises:
        UsageError: the rank is no whole number of at least 1.
    """
    require(rank=rank)
    head = decoder.head_size
    q, kv, width, ffn = decoder.heads * head, decoder.kv_heads * head, decoder.width, decoder.ffn
    attention = 2 * (width + q) + 2 * (width + kv)
    feed_forward = (3 if decoder.gated else 2) * (width + ffn)
    return decoder.layers * rank * (attention + feed_forward)


def training(
    decoder: Decoder,
    tokens: int,
    *,
    precision: Precision = "fp32",
    rank: int | None = None,
) -> Need:
    """Memory of a training step with AdamW.

    Args:
        decoder: the architecture.
        tokens: of a batch on one device, padding included.
        precision: see :data:`TRAINED`.
        rank: of LoRA adapters beside frozen weights; ``None`` trains all weights.

    Raises:
        UsageError: a size that is not a whole number of at least 1, or an unknown precision.
    """
    require(tokens=tokens)
    if precision not in TRAINED:
        raise UsageError(f"precision={precision!r} is unknown.", f"pass one of {list(TRAINED)}.")
    each = TRAINED[precision]
    trained = decoder.parameters if rank is None else lora_parameters(decoder, rank)
    frozen = 0 if rank is None else decoder.parameters
    return Need(
        weights=(frozen + trained) * each["weights"],
        gradients=trained * each["gradients"],
        optimizer=trained * each["optimizer"],
        activations=activations(decoder, tokens, rank=rank) * ITEMSIZE[precision],
    )


def activations(decoder: Decoder, tokens: int, *, rank: int | None = None) -> int:
    """Elements that the forward pass of ``transformers``' Llama keeps for the backward pass.

    Counted operation by operation, as Korthikanti et al. (arXiv:2205.05198, section 4.1) do it for
    GPT: what a product, a norm or an activation function needs for its gradient. Attention is
    fused, which keeps its output and a number for each head and position in place of the scores.
    Frozen weights need no gradient, so with adapters less is kept beside them. Nothing is computed
    again (no activation checkpointing).

    Args:
        decoder: the architecture; the feed-forward network gated.
        tokens: of the batch, padding included.
        rank: of LoRA adapters, whose products keep a thin result each.

    Raises:
        UsageError: a size that is not a whole number of at least 1.
    """
    require(tokens=tokens)
    head = decoder.head_size
    q, kv, width, ffn = decoder.heads * head, decoder.kv_heads * head, decoder.width, decoder.ffn
    # A norm keeps its input and the inverse of the root of its mean square; and, for the gradient
    # of its own weights, the product of the two. Its output is kept by the product that reads it.
    trained = rank is None
    norm = (2 if trained else 1) * width + 1
    attention = width + q + 2 * kv + q + decoder.heads
    # SiLU keeps the gate's output; its product with the other half keeps both factors.
    feed_forward = width + 4 * ffn
    # The first thin matrices' results, which the second ones read.
    thin = 0 if rank is None else 7 * rank
    layers = decoder.layers * (2 * norm + attention + feed_forward + thin)
    # The last norm, the LM head's input, and the logarithm of the probabilities.
    ends = norm + (width if trained else 0) + decoder.vocabulary
    # Below the first adapter nothing is trained, so the first norm keeps nothing.
    below = 0 if trained else norm
    return tokens * (layers + ends - below)


def kv_cache(tokens: int, sequences: int = 1, itemsize: int = 2) -> Table:
    """The KV cache of the known models beside their weights.

    Args:
        tokens: of each sequence, prompt and answer.
        sequences: served at a time.
        itemsize: bytes of an element, of weights and cache.

    Raises:
        UsageError: a size that is not a whole number of at least 1.
    """
    require(sequences=sequences)
    rows: list[dict[str, Scalar]] = [
        {
            "model": name,
            "parameters": decoder.parameters,
            "weights [MiB]": decoder.parameters * itemsize / 2**20,
            "cache of a token [KiB]": decoder.kv_bytes(1, itemsize) / 2**10,
            "cache [MiB]": decoder.kv_bytes(tokens, itemsize) * sequences / 2**20,
        }
        for name, decoder in KNOWN.items()
    ]
    method = "2 · layers · KV heads · head size · bytes · tokens · sequences"
    source = "config.json of each model"
    title = f"KV cache of {sequences} sequences of {tokens:,} tokens, {itemsize} bytes an element"
    return Table(rows, Provenance(Kind.SPEC, method, source=source), title=title)


def measured_activations(model: Model, rows: list[Row]) -> int:
    """Bytes that a forward pass of this model really keeps for the backward pass.

    Every tensor that autograd saves is seen by a hook; a memory block counts once, however many
    tensors share it, and the weights, which are there anyway, do not count.

    Args:
        model: as :mod:`mlk8s.lm.training` gives it, or to be trained.
        rows: a batch.
    """
    import torch

    from mlk8s.lm import data

    blocks: dict[int, int] = {}
    own = {each.untyped_storage().data_ptr() for each in model.network.parameters()}

    def keep(tensor: Any) -> Any:
        block = tensor.untyped_storage()
        if block.data_ptr() not in own:
            blocks[block.data_ptr()] = block.nbytes()
        return tensor

    inputs, labels = (t.to(model.device) for t in data.tensors(rows, model.tokenizer.pad_token_id))
    model.network.train()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        logits = model.network(input_ids=inputs).logits
        loss = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1).float(), labels[:, 1:].flatten(), reduction="sum"
        )
    # The graph lives until here, so no block was freed and counted twice at another's address.
    del loss
    return sum(blocks.values())
