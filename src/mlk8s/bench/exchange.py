"""What a collective operation is given and what it has to leave, on one rank.

The values are whole numbers that depend on the position and on the rank, small enough for float32
to add them exactly, so a result is either equal to what it has to be or wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

#: float32, the default of nccl-tests.
ELEMENT_BYTES = 4
#: The root of a broadcast and the sender of send_recv; who receives from it.
SOURCE, TARGET = 0, 1
#: Values count from 1 to this prime and begin again, so no two parts of a buffer are alike.
PERIOD = 8191
#: Sums of values up to PERIOD·(1 + … + n) are exact below 2²⁴, so for n up to this.
MAX_RANKS = 63
#: Elements that are written or compared at once.
SLICE = 2**20


@dataclass(frozen=True)
class Part:
    """A stretch of a buffer and what belongs in it.

    Attributes:
        buffer: shape (elements,), float32.
        first: position of its first element in the whole buffer of the operation.
        weight: element i holds ((first + i) mod PERIOD + 1) · weight; rank r passes in the weight
            r + 1, so a sum over n ranks has n(n + 1)/2.
        count: 1 to PERIOD, repeated: what element 0 on holds for the weight 1, float32.
    """

    buffer: torch.Tensor
    first: int
    weight: int
    count: torch.Tensor

    def fill(self) -> None:
        """Write what belongs in it."""
        import torch

        for _, elements, values in self._slices():
            torch.mul(values, self.weight, out=elements)

    def verify(self, what: str) -> None:
        """Compare every element with what belongs there.

        Args:
            what: the operation, for the message.

        Raises:
            ArithmeticError: one differs.
        """
        for begin, elements, values in self._slices():
            right = values * self.weight
            wrong = (elements != right).nonzero()
            if len(wrong):
                i = int(wrong[0])
                raise ArithmeticError(
                    f"{what} gave {elements[i].item():.9g} at element {self.first + begin + i}, "
                    f"where {right[i].item():.9g} is right"
                )

    def _slices(self) -> Iterator[tuple[int, torch.Tensor, torch.Tensor]]:
        """Index, elements and their values for the weight 1, a slice at a time."""
        for begin in range(0, self.buffer.numel(), SLICE):
            elements = self.buffer[begin : begin + SLICE]
            offset = (self.first + begin) % PERIOD
            yield begin, elements, self.count[offset : offset + elements.numel()]


@dataclass(frozen=True)
class Exchange:
    """One operation as this rank takes part in it; calling it enqueues it once.

    Attributes:
        call: the operation on its buffers.
        given: what it is given.
        results: what it has to leave, once, from what was given.
    """

    call: Callable[[], Any]
    given: list[Part]
    results: list[Part]

    def prepare(self) -> None:
        """Write what the call is given over whatever an earlier call left."""
        for part in self.results:
            part.buffer.zero_()
        for part in self.given:
            part.fill()

    def verify(self, what: str) -> None:
        """Call once, on all ranks, and compare the results.

        Args:
            what: the operation, for the message.

        Raises:
            ArithmeticError: a result is wrong.
        """
        self.prepare()
        self.call()
        for part in self.results:
            part.verify(what)


def make(operation: str, elements: int, device: str) -> Exchange:
    """The operation with buffers of its own, where ``torch.distributed`` is set up.

    Args:
        operation: ``all_reduce``, ``all_gather``, ``reduce_scatter``, ``broadcast`` or
            ``send_recv``.
        elements: of the whole buffer: gathered or unreduced, where parts of it are smaller. A
            multiple of the ranks.
        device: where the buffers are.
    """
    import torch
    import torch.distributed as dist

    rank, ranks = dist.get_rank(), dist.get_world_size()
    share = elements // ranks
    own, total = rank + 1, ranks * (ranks + 1) // 2
    whole = torch.empty(elements, device=device)
    count = torch.arange(min(SLICE, elements) + PERIOD, device=device) % PERIOD + 1
    count = count.to(whole.dtype)

    def part(buffer: torch.Tensor, first: int, weight: int) -> Part:
        return Part(buffer, first, weight, count)

    given = [part(whole, 0, own)]
    if operation == "all_reduce":
        return Exchange(lambda: dist.all_reduce(whole), given, [part(whole, 0, total)])
    if operation == "broadcast":
        sent = part(whole, 0, SOURCE + 1)
        return Exchange(lambda: dist.broadcast(whole, SOURCE), given, [sent])
    if operation == "send_recv":
        if rank == SOURCE:
            return Exchange(lambda: dist.send(whole, TARGET), given, [])
        if rank == TARGET:
            sent = part(whole, 0, SOURCE + 1)
            return Exchange(lambda: dist.recv(whole, SOURCE), given, [sent])
        return Exchange(lambda: None, [], [])
    piece = torch.empty(share, device=device)
    # PyTorch 2.13 renamed these two, and warns at every call by the old name.
    if operation == "all_gather":
        gather: Any = getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor
        pieces = enumerate(whole.split(share))
        return Exchange(
            lambda: gather(whole, piece),
            [part(piece, rank * share, own)],
            [part(buffer, r * share, r + 1) for r, buffer in pieces],
        )
    scatter: Any = getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor
    return Exchange(lambda: scatter(piece, whole), given, [part(piece, rank * share, total)])
