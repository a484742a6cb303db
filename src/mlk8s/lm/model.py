"""The model: Llama's architecture at under a million parameters, or a real model in its place.

A model is its network and its tokenizer. It is kept as a Hugging Face folder (``config.json``,
``model.safetensors``, the tokenizer's files), which every later tool reads: peft, KServe, vLLM.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlk8s.errors import UsageError
from mlk8s.lm import tokenizer as tokenizers

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedTokenizerBase

#: Sizes of the small model, by their names in a Hugging Face ``config.json``.
SMALL: dict[str, Any] = {
    "hidden_size": 128,
    "intermediate_size": 344,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 4,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
_ADAPTER = "adapter_config.json"


@dataclass(frozen=True)
class Parameters:
    """How many numbers a model has.

    Attributes:
        total: all of them; a matrix that is used twice counts once.
        trainable: those that training changes.
    """

    total: int
    trainable: int


@dataclass
class Model:
    """A network and the tokenizer that it was trained with.

    Attributes:
        network: a causal language model of ``transformers``, or of ``peft`` around one.
        tokenizer: of ``transformers``; its end-of-text token ends an answer.
    """

    network: Any
    tokenizer: PreTrainedTokenizerBase

    @property
    def device(self) -> torch.device:
        """Where the network's weights are."""
        found: torch.device = self.network.device
        return found

    @property
    def parameters(self) -> Parameters:
        """How many there are, and how many of them training changes."""
        every = list(self.network.parameters())
        return Parameters(
            sum(each.numel() for each in every),
            sum(each.numel() for each in every if each.requires_grad),
        )

    def save(self, folder: Path | str) -> Path:
        """Write the Hugging Face folder; of a network with adapters the adapters alone."""
        from transformers.utils import logging

        where = Path(folder)
        logging.disable_progress_bar()
        self.network.save_pretrained(where)
        self.tokenizer.save_pretrained(where)
        return where

    def merged(self) -> Model:
        """The same model with its adapters added into the weights: an ordinary network again.

        Raises:
            UsageError: it has no adapters.
        """
        if not hasattr(self.network, "merge_and_unload"):
            raise UsageError(
                "The network has no adapters to merge.",
                "call merged() on what finetune(method='lora') returns.",
            )
        return Model(self.network.merge_and_unload(), self.tokenizer)


def create(
    *,
    seed: int = 0,
    tokenizer: PreTrainedTokenizerBase | None = None,
    sizes: Mapping[str, int] | None = None,
) -> Model:
    """A new model with random weights, by default the course's small one.

    Args:
        seed: of the weights.
        tokenizer: by default one trained now, on the task's texts.
        sizes: to replace some of :data:`SMALL`, by the same names.

    Raises:
        UsageError: a size has no such name.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    if unknown := sorted(set(sizes or {}) - set(SMALL)):
        raise UsageError(
            f"A model has no size {unknown[0]!r}.", f"choose from: {', '.join(SMALL)}."
        )
    words: Any = tokenizers.train() if tokenizer is None else tokenizer
    config = LlamaConfig(
        vocab_size=len(words),
        bos_token_id=None,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
        **(SMALL | dict(sizes or {})),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = LlamaForCausalLM(config)
    return Model(network, words)


def load(folder: Path | str, *, device: str = "cpu") -> Model:
    """Read a model: one of this package, or any causal language model in Hugging Face's format.

    Args:
        folder: with the network and its tokenizer, or with adapters (whose base must be where
            their ``adapter_config.json`` says). A name on the Hugging Face hub where the machine
            reaches it.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: there is nothing that ``transformers`` can read.
    """
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    where = Path(folder)
    local = where.is_dir()
    if local and not any((where / name).is_file() for name in ("config.json", _ADAPTER)):
        raise UsageError(
            f"The folder {where} holds no model: neither config.json nor {_ADAPTER} is there.",
            "name the folder that Model.save has written.",
        )
    logging.disable_progress_bar()
    try:
        if (where / _ADAPTER).is_file():
            from peft import AutoPeftModelForCausalLM

            network = AutoPeftModelForCausalLM.from_pretrained(str(where), local_files_only=local)
        else:
            network = AutoModelForCausalLM.from_pretrained(
                str(folder), attn_implementation="sdpa", local_files_only=local
            )
        words: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=local)
    except (OSError, ValueError) as error:
        raise UsageError(
            f"transformers reads no model from {folder}: {str(error).splitlines()[0]}",
            "name a folder in Hugging Face's format, or a model's name where the hub is reached.",
        ) from error
    if words.pad_token is None:
        # Padding is masked out, so any token serves.
        words.pad_token = words.eos_token
    return Model(network.to(device), words)
