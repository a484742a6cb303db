"""The model's own tokenizer: byte-level BPE, trained on the task's texts in under a second.

Byte-level means that no text is unknown: what was not seen in training comes apart into bytes.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from mlk8s.lm import task

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

VOCABULARY = 704
PADDING = "<|pad|>"
#: A line break with the indentation and the key after it (a manifest is mostly such, and a token
#: for each makes it half as long), a word with the space before it, digits one by one (so that a
#: number never seen can be written), each other character alone.
_PIECES = r"\n *(?:- )?[A-Za-z./]+:|\n *|[A-Za-z]+:| ?[A-Za-z]+| ?[0-9]| +|[^A-Za-z0-9 \n]"


def train(texts: Iterable[str] | None = None, *, size: int = VOCABULARY) -> PreTrainedTokenizerFast:
    """Train a tokenizer.

    Args:
        texts: what it is trained on; by default manifests and requests of the training split.
        size: tokens of the vocabulary, at most: 256 bytes, two special tokens, and merges.

    Returns:
        A tokenizer whose ``save_pretrained`` writes a Hugging Face folder.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_PIECES), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        special_tokens=[task.STOP, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts() if texts is None else texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=task.STOP,
        pad_token=PADDING,
        clean_up_tokenization_spaces=False,
        model_input_names=["input_ids", "attention_mask"],
    )


def _texts() -> list[str]:
    return [*task.corpus(1500), *(each.prompt for each in task.examples(1500))]
