"""The keys and values of all tokens that are being served, in blocks of one pool: paged attention.

The pool is allocated once, so that a server knows at its start how many tokens it can hold. A
request gets whole blocks from it, wherever they are, and gives them back at its end; nothing is
copied when requests join or leave a batch. The idea is vLLM's (Kwon et al., SOSP 2023, section
4.1). What a GPU kernel does there is done here by two index operations, which copy what one step
reads: right for a model of the course's size.

An instance stands where transformers expects its own ``Cache``: the attention layers of Llama call
:meth:`update` and nothing else (transformers 5.23, models/llama/modeling_llama.py) as long as
positions and a mask of four dimensions are given to the model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: Tokens in a block; vLLM's default (vllm/config/cache.py, DEFAULT_BLOCK_SIZE).
BLOCK_TOKENS = 16


class PagedKvCache:
    """A pool of blocks for the keys and values of every layer.

    Args:
        layers: attention layers.
        heads: key-value heads of a layer.
        head_dim: width of a head.
        tokens: how many tokens the pool is to hold; rounded up to whole blocks.
        dtype: of the model's activations.
        device: where it is allocated.
    """

    def __init__(
        self,
        layers: int,
        heads: int,
        head_dim: int,
        tokens: int,
        dtype: torch.dtype,
        device: str,
    ) -> None:
        import torch

        self.blocks = blocks_for(tokens)
        # Block 0 belongs to nobody: rows and positions that only fill up a batch are written there.
        shape = ((self.blocks + 1) * BLOCK_TOKENS, heads, head_dim)
        self._keys = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self._values = [torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)]
        self._free = list(range(self.blocks, 0, -1))
        self._write: torch.Tensor | None = None
        self._read: torch.Tensor | None = None
        self._rows = 0

    @property
    def nbytes(self) -> int:
        """Bytes that the pool's tensors hold, as their storages say; one spare block included."""
        pool = [*self._keys, *self._values]
        return sum(tensor.untyped_storage().nbytes() for tensor in pool)

    @property
    def token_bytes(self) -> int:
        """Bytes that one token takes: those of the pool over the tokens that it has room for."""
        return self.nbytes // ((self.blocks + 1) * BLOCK_TOKENS)

    @property
    def used_blocks(self) -> int:
        """Blocks that are given to requests."""
        return self.blocks - len(self._free)

    def take(self, tokens: int) -> list[int] | None:
        """Reserve blocks for so many tokens.

        Returns:
            The blocks, or ``None`` where too few are free now.
        """
        count = blocks_for(tokens)
        if count > len(self._free):
            return None
        return [self._free.pop() for _ in range(count)]

    def give_back(self, blocks: Sequence[int]) -> None:
        """Free blocks that :meth:`take` gave."""
        self._free.extend(blocks)

    def plan(
        self, tables: torch.Tensor, positions: torch.Tensor, real: torch.Tensor, length: int
    ) -> torch.Tensor:
        """Say where the next forward pass writes its tokens, and what its attention reads.

        Args:
            tables: the blocks of each row in order, (rows, blocks), filled up with 0.
            positions: of the tokens in their rows, (rows, queries).
            real: which of those tokens exist; the others fill up their row.
            length: the longest row after this pass, in tokens.

        Returns:
            The mask for the model, (rows, 1, queries, keys): a token sees itself and what is before
            it in its own row.
        """
        import torch

        rows = tables.shape[0]
        offsets = torch.arange(BLOCK_TOKENS, device=tables.device)
        slots = (tables[:, : blocks_for(length), None] * BLOCK_TOKENS + offsets).flatten(1)
        self._rows = rows
        self._read = slots.flatten()
        self._write = torch.where(real, slots.gather(1, positions), 0).flatten()
        keys = torch.arange(slots.shape[1], device=tables.device)
        return (keys <= positions[:, :, None])[:, None]

    def update(
        self, key: torch.Tensor, value: torch.Tensor, layer: int, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Store one layer's new keys and values, and return all that its attention needs.

        Args:
            key: (rows, heads, queries, head_dim).
            value: the same.
            layer: index of the layer.

        Returns:
            Keys and values, (rows, heads, keys, head_dim).
        """
        assert self._write is not None and self._read is not None, "plan() comes first"
        found = []
        for pool, new in ((self._keys[layer], key), (self._values[layer], value)):
            pool.index_copy_(0, self._write, new.transpose(1, 2).flatten(0, 1))
            read = pool.index_select(0, self._read)
            found.append(read.view(self._rows, -1, *read.shape[1:]).transpose(1, 2))
        return found[0], found[1]


def blocks_for(tokens: int) -> int:
    """Blocks that hold so many tokens."""
    return -(-tokens // BLOCK_TOKENS)
