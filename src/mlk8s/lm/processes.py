"""This process among those that train together: which rank, on which device, and how they meet.

``torchrun`` and Kubeflow Trainer start the processes and set the variables. Without
``WORLD_SIZE`` there is one process, and nothing here talks to a network.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from mlk8s.errors import GpuUnavailable, UsageError

if TYPE_CHECKING:
    import torch


#: How long ranks wait for one another, s; PyTorch's own limit is half an hour with gloo. After a
#: crash a rank can meet the agent of a peer that is about to end, and then waits for nobody. Ended
#: itself, it is started again, and they find each other.
WAIT_S = {"cpu": 60.0, "cuda": 600.0}


@dataclass(frozen=True)
class Ranks:
    """One process of those that train together.

    Attributes:
        rank: this process's number; 0 writes and reports.
        size: how many there are.
        device: where this one computes, ``cpu`` or ``cuda:<local rank>``.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and reports."""
        return self.rank == 0

    def wrap(self, network: Any) -> Any:
        """The network as this process runs it: gradients are averaged over the ranks."""
        if self.size == 1:
            return network
        from torch.nn.parallel import DistributedDataParallel

        ids = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=ids)

    def summed(self, *values: float) -> list[float]:
        """Each value summed over the ranks."""
        if self.size == 1:
            return list(values)
        import torch
        import torch.distributed as dist

        found = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(found)
        return [float(value) for value in found]


@contextmanager
def joined(device: str) -> Iterator[Ranks]:
    """Meet the other processes, and part from them at the end.

    Args:
        device: ``cpu`` (the ranks talk through gloo) or ``cuda`` (NCCL, one GPU a rank).

    Raises:
        UsageError: another device.
        GpuUnavailable: ``cuda``, and PyTorch finds none.
        RuntimeError: PyTorch's: a rank did not come within :data:`WAIT_S`, or ended.
    """
    import torch
    import torch.distributed as dist

    if device not in ("cpu", "cuda"):
        raise UsageError(f"device={device!r} is unknown.", "pass 'cpu' or 'cuda'.")
    if device == "cuda" and not torch.cuda.is_available():
        raise GpuUnavailable(
            "Training was asked for on cuda, and PyTorch finds no GPU.",
            "pass device='cpu', or see what is missing with: mlk8s doctor.",
        )
    place = torch.device("cpu")
    if device == "cuda":
        place = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
        torch.cuda.set_device(place)
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        yield Ranks(0, 1, place)
        return
    mine = not dist.is_initialized()
    if mine:
        patience = timedelta(seconds=WAIT_S[device])
        dist.init_process_group("nccl" if device == "cuda" else "gloo", timeout=patience)
    try:
        yield Ranks(dist.get_rank(), dist.get_world_size(), place)
        # Whoever leaves first closes connections on which the others still wait.
        dist.barrier()
    finally:
        if mine:
            dist.destroy_process_group()


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Let PyTorch use so many threads; the order in which it sums depends on their number."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
