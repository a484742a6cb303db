"""Checkpoints: all that a run needs to go on as if it had never stopped.

One file in a folder, replaced whole: whoever reads it finds the old one or the new one, also when
the writer was killed half-way. It is not the model's folder, which is written once at the end.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mlk8s.errors import UsageError

FILE = "checkpoint.pt"


@dataclass
class State:
    """What a checkpoint holds.

    Attributes:
        identity: what the run is (its plan, its method, its data); another run must not go on
            from here.
        step: steps that are done.
        losses: of each of them.
        weights: the parameters that are trained, by name.
        optimizer: AdamW's moments and counters.
    """

    identity: dict[str, str]
    step: int = 0
    losses: list[float] = field(default_factory=list)
    weights: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)


def write(folder: Path, state: State) -> None:
    """Replace the folder's checkpoint."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".{FILE}.{os.getpid()}"
    with temporary.open("wb") as file:
        torch.save(vars(state), file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / FILE)


def read(folder: Path, identity: dict[str, str]) -> State | None:
    """The folder's checkpoint; ``None`` when there is none.

    Args:
        folder: where :func:`write` wrote.
        identity: of the run that wants to go on.

    Raises:
        UsageError: the checkpoint is of another run.
    """
    import torch

    file = folder / FILE
    if not file.is_file():
        return None
    state = State(**torch.load(file, map_location="cpu", weights_only=True))
    other = [name for name in identity if state.identity.get(name) != identity[name]]
    if other:
        differs = ", ".join(
            f"{name} {state.identity.get(name)} there, {identity[name]} here" for name in other
        )
        raise UsageError(
            f"The checkpoint in {folder} is of another run: {differs}.",
            "continue with the same plan and data, or name an empty folder.",
        )
    return state
