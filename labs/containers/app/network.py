"""The small model of chapter 4: what training writes and serving reads."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import torch

SIZES = (1, 64, 64, 1)


def build(sizes: tuple[int, ...] = SIZES) -> torch.nn.Sequential:
    """A network of fully connected layers with a hyperbolic tangent between them."""
    layers: list[torch.nn.Module] = []
    for inputs, outputs in pairwise(sizes):
        layers += [torch.nn.Linear(inputs, outputs), torch.nn.Tanh()]
    return torch.nn.Sequential(*layers[:-1])


def save(model: torch.nn.Module, path: Path) -> None:
    """Write the weights; whoever reads meanwhile gets the old file or the new one, never half."""
    beside = path.with_suffix(".part")
    torch.save(model.state_dict(), beside)
    beside.replace(path)


def load(path: Path, device: torch.device) -> torch.nn.Sequential:
    """The model with the weights of a file, ready to answer.

    Args:
        path: what :func:`save` wrote.
        device: where it is to compute.
    """
    model = build()
    # weights_only: a file of weights is data, and must not be able to run code.
    model.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    return model.to(device).eval()


def device(wanted: str) -> torch.device:
    """The device by its name, or an end of the program that says what is missing.

    Args:
        wanted: ``cuda`` or ``cpu``.
    """
    if wanted == "cuda" and not torch.cuda.is_available():
        raise SystemExit(
            "There is no usable GPU in this container. Next: start it with a device "
            "(--device nvidia.com/gpu=all), or say --device cpu."
        )
    return torch.device(wanted)
