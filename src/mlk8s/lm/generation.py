"""Greedy generation for many prompts at once: the likeliest token, until the answer's end.

For judging, where all prompts are known beforehand. Serving, where they come one by one, is
another module's.
"""

from __future__ import annotations

from collections.abc import Sequence

from mlk8s.lm.model import Model
from mlk8s.lm.processes import threads

#: More than the longest answer of the task has.
LONGEST = 128


def generate(
    model: Model, prompts: Sequence[str], *, longest: int = LONGEST, batch: int = 64
) -> list[str]:
    """Continue each prompt.

    Args:
        model: on any device.
        prompts: as :func:`mlk8s.lm.task.prompt` makes them.
        longest: new tokens, at most; an answer that has no end before is cut there.
        batch: prompts at a time.

    Returns:
        The continuations in the prompts' order, without the token that ends them.
    """
    import torch
    from transformers import GenerationConfig

    model.network.eval()
    words = model.tokenizer
    greedy = GenerationConfig(
        do_sample=False,
        max_new_tokens=longest,
        eos_token_id=words.eos_token_id,
        pad_token_id=words.pad_token_id,
    )
    answers: list[str] = []
    # Left, so that every prompt ends where its answer begins.
    words.padding_side = "left"
    for start in range(0, len(prompts), batch):
        inputs = words(
            list(prompts[start : start + batch]),
            padding=True,
            return_tensors="pt",
            return_token_type_ids=False,
        ).to(model.device)
        # A step is too small to be shared between threads.
        with torch.inference_mode(), threads(1):
            found = model.network.generate(**inputs, generation_config=greedy)
        new = found[:, inputs["input_ids"].shape[1] :]
        answers += words.batch_decode(new, skip_special_tokens=True)
    return answers
