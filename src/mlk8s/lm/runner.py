"""One step of many generations at once: a forward pass over whatever is in the batch, and sampling.

:class:`ModelRunner` knows a model, its tokenizer and the pool of keys and values. It does not know
who waits for a token: that is :mod:`mlk8s.lm.engine`'s business.

A greedy generation gives the same tokens whatever is in the batch with it, up to the rounding of
the data type: a matrix product of eight rows may add in another order than one of a single row, so
where two tokens' logits are equal to the last digits of float32, either may win.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlk8s.errors import UsageError
from mlk8s.lm.kv_cache import BLOCK_TOKENS, PagedKvCache, blocks_for

if TYPE_CHECKING:
    import torch

#: What a folder must hold to be served, as ``save_pretrained`` of model and tokenizer writes it.
FILES = ("config.json", "model.safetensors", "tokenizer.json")


@dataclass(frozen=True)
class Sampling:
    """How a generation picks its tokens, and when it ends.

    The defaults are those of OpenAI's completions.

    Attributes:
        max_tokens: new tokens at most.
        temperature: 0 takes the likeliest token; above, logits are divided by it before sampling.
        seed: makes sampling repeatable; ``None`` takes a fresh seed.
        stop: texts that end it; they are not part of the answer.
        ignore_eos: go on past the end-of-text token, so that a load test gets the length that it
            asks for (vLLM's field of the same name).
    """

    max_tokens: int = 16
    temperature: float = 1.0
    seed: int | None = None
    stop: tuple[str, ...] = ()
    ignore_eos: bool = False


@dataclass(eq=False)
class Generation:
    """One text in the making.

    Attributes:
        prompt: its tokens.
        sampling: see :class:`Sampling`.
        tokens: what has been generated.
        blocks: the blocks of the pool that hold its keys and values.
        random: source of its random numbers, its own, so that its neighbors do not matter.
    """

    prompt: Sequence[int]
    sampling: Sampling
    tokens: list[int] = field(default_factory=list)
    blocks: list[int] = field(default_factory=list)
    random: torch.Generator | None = None

    @property
    def most(self) -> int:
        """Tokens that it may come to, the prompt included."""
        return len(self.prompt) + self.sampling.max_tokens


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds no model, before anything slow is imported.

    Raises:
        UsageError: it is missing, or files of :data:`FILES` are.
    """
    if not folder.is_dir():
        raise UsageError(
            f"There is no folder {folder}.",
            "give --model_dir the folder that save_pretrained wrote.",
        )
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise UsageError(
            f"The folder {folder} has no {', '.join(missing)}.",
            "save model and tokenizer with save_pretrained into the same folder; an adapter of "
            "peft has to be merged first.",
        )


class ModelRunner:
    """A loaded model with its tokenizer and its pool of keys and values.

    Args:
        folder: a Llama-like causal model and a fast tokenizer, as ``save_pretrained`` writes them.
        max_model_len: longest prompt and answer together, tokens; ``None`` takes the model's.
        kv_cache_tokens: size of the pool in tokens; ``None`` takes ``max_batch_size`` times
            ``max_model_len``, so that no request ever waits for memory.
        max_batch_size: requests that run together at most.
        device: ``cpu`` or ``cuda``.

    Raises:
        UsageError: the folder holds no model, the context is longer than the model's positions, the
            pool is smaller than the context, or there is no such device.
    """

    def __init__(
        self,
        folder: Path,
        *,
        max_model_len: int | None = None,
        kv_cache_tokens: int | None = None,
        max_batch_size: int = 1,
        device: str = "cpu",
    ) -> None:
        check_folder(folder)
        os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a local folder asks no hub
        import torch
        from transformers import PreTrainedTokenizerFast
        from transformers.models.llama.modeling_llama import LlamaForCausalLM
        from transformers.utils.logging import disable_progress_bar

        if device == "cuda" and not torch.cuda.is_available():
            raise UsageError("PyTorch finds no CUDA device here.", "use --device cpu.")
        disable_progress_bar()
        self.device = device
        self.tokenizer: Any = PreTrainedTokenizerFast.from_pretrained(folder)
        # Any: transformers' decorators hide from mypy what its methods take.
        self.model: Any = LlamaForCausalLM.from_pretrained(folder)
        self.model.to(device).eval()
        config: Any = self.model.config
        self.max_model_len = max_model_len or int(config.max_position_embeddings)
        if self.max_model_len > config.max_position_embeddings:
            raise UsageError(
                f"--max_model_len {self.max_model_len} is more than the "
                f"{config.max_position_embeddings} positions of the model in {folder}.",
                "give a smaller one.",
            )
        pool = kv_cache_tokens or max_batch_size * self.max_model_len
        if pool < self.max_model_len:
            raise UsageError(
                f"A KV cache of {pool} tokens cannot hold one request of --max_model_len "
                f"{self.max_model_len}.",
                "give --kv_cache_tokens at least that, or a smaller --max_model_len.",
            )
        self.cache = PagedKvCache(
            config.num_hidden_layers,
            config.num_key_value_heads,
            config.head_dim,
            pool,
            self.model.dtype,
            device,
        )
        stated = self.model.generation_config.eos_token_id
        listed = stated if isinstance(stated, list) else [stated]
        self.eos = frozenset(
            token for token in (*listed, self.tokenizer.eos_token_id) if token is not None
        )

    def encode(self, text: str) -> list[int]:
        """The tokens of a text, with those that the tokenizer adds to a text."""
        tokens: list[int] = self.tokenizer(text)["input_ids"]
        return tokens

    def start(self, generation: Generation) -> bool:
        """Reserve room for all that a generation may come to; ``False`` where there is none now."""
        blocks = self.cache.take(generation.most)
        if blocks is None:
            return False
        generation.blocks = blocks
        return True

    def end(self, generation: Generation) -> None:
        """Free what a generation reserved."""
        self.cache.give_back(generation.blocks)
        generation.blocks = []

    def prefill(self, generations: Sequence[Generation]) -> list[int]:
        """Read the prompts, and return the first new token of each."""
        return self._step([(g.prompt, 0, g.blocks) for g in generations], generations)

    def decode(self, generations: Sequence[Generation], rows: int) -> list[int]:
        """Read the newest token of each generation, and return the next one.

        Args:
            generations: those that have a token already.
            rows: of the batch; where it is more than there are generations, rows of nothing fill
                it up, which cost what a generation costs.
        """
        inputs: list[tuple[Sequence[int], int, Sequence[int]]] = [
            (g.tokens[-1:], len(g.prompt) + len(g.tokens) - 1, g.blocks) for g in generations
        ]
        inputs += [((0,), 0, ())] * (rows - len(inputs))
        return self._step(inputs, generations)

    def _step(
        self,
        rows: Sequence[tuple[Sequence[int], int, Sequence[int]]],
        generations: Sequence[Generation],
    ) -> list[int]:
        """One forward pass over (tokens, position of the first, blocks) of each row."""
        import torch

        with torch.inference_mode():
            logits = self._forward(rows)[: len(generations)]
            best = logits.argmax(dim=-1).tolist()
            for row, generation in enumerate(generations):
                if generation.sampling.temperature > 0:
                    best[row] = _sample(logits[row], generation)
        tokens: list[int] = best
        return tokens

    def _forward(self, rows: Sequence[tuple[Sequence[int], int, Sequence[int]]]) -> torch.Tensor:
        """Logits after the last token of each row, float32, on the processor."""
        import torch

        widest = max(len(tokens) for tokens, _, _ in rows)
        length = max(start + len(tokens) for tokens, start, _ in rows)
        used = blocks_for(length)
        ids = torch.zeros(len(rows), widest, dtype=torch.long)
        positions = torch.zeros(len(rows), widest, dtype=torch.long)
        real = torch.zeros(len(rows), widest, dtype=torch.bool)
        tables = torch.zeros(len(rows), used, dtype=torch.long)
        for row, (tokens, start, blocks) in enumerate(rows):
            count = len(tokens)
            ids[row, :count] = torch.tensor(tokens)
            positions[row, :count] = torch.arange(start, start + count)
            real[row, :count] = bool(blocks)
            held = blocks[:used]
            tables[row, : len(held)] = torch.tensor(held, dtype=torch.long)
        last = torch.tensor([len(tokens) - 1 for tokens, _, _ in rows])
        ids, positions, real, tables, last = (
            tensor.to(self.device) for tensor in (ids, positions, real, tables, last)
        )
        mask = self.cache.plan(tables, positions, real, length)
        hidden = self.model.model(
            input_ids=ids,
            position_ids=positions,
            attention_mask=mask,
            past_key_values=self.cache,
            use_cache=True,
        ).last_hidden_state
        chosen = hidden[torch.arange(len(rows), device=self.device), last]
        logits: torch.Tensor = self.model.lm_head(chosen).float().cpu()
        return logits


def _sample(logits: torch.Tensor, generation: Generation) -> int:
    """A token at random, with the probabilities that the temperature makes of the logits."""
    import torch

    if generation.random is None:
        generation.random = torch.Generator()
        if generation.sampling.seed is None:
            generation.random.seed()
        else:
            generation.random.manual_seed(generation.sampling.seed)
    # Relative to the largest and in float64, so that a tiny temperature gives zeros and no NaN.
    distance = (logits - logits.max()).double()
    chances = torch.softmax(distance / generation.sampling.temperature, dim=-1)
    return int(torch.multinomial(chances, 1, generator=generation.random))


def warm_up(runner: ModelRunner) -> None:
    """Run one request of two tokens, so that the first one of a client finds everything in place.

    It also shows, before the server calls itself ready, that the model computes.
    """
    trial = Generation([0] * min(BLOCK_TOKENS, runner.max_model_len - 2), Sampling(2, 0.0))
    assert runner.start(trial), "an empty pool has room for one request"
    trial.tokens += runner.prefill([trial])
    runner.decode([trial], 1)
    runner.end(trial)
