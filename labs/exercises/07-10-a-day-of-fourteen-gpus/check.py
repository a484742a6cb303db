"""A design is right when it keeps all bounds; there are several."""

from __future__ import annotations

import math

from mlk8s.course.exercises import Work, Wrong
from mlk8s.lm import memory

MODEL = memory.KNOWN["Llama 3 8B"]
GIB = 2**30
USABLE, SERVERS = 0.9 * 80 * GIB, (8, 6)
NEED = memory.training(MODEL, 4096, precision="bf16-mixed")
STATE = NEED.weights + NEED.gradients + NEED.optimizer
GPU_H = 6 * MODEL.parameters * 1e9 / 400e12 / 3600
NIGHT_H, BUDGET_H = 5.0, 125.0
WRITES_MIN, FAILS_MIN, SLACK = 1.0, 8 * 60.0, 1.1
#: Service → requests at its peak, hours of that, tokens of each, the least replicas, and why.
SERVICES = {
    "chat": (300, 12.0, 4096, 2, "the end of one pod has it silenced for the time of a start"),
    "completion": (400, 24.0, 1024, 1, "somebody waits three minutes for a line of code"),
    "report": (50, 1.0, 8192, 0, ""),
}
SCALERS = ("hpa", "keda")


def check(work: Work) -> str:
    """The training, each service, and the sums."""
    gpus = _training(work)
    sizes = {name: _service(work, name) for name in SERVICES}
    scaler = work.answer("scaler")
    if scaler not in SCALERS:
        raise Wrong(f"scaler: {scaler!r} is none of {' and '.join(SCALERS)}.")
    if scaler == "hpa":
        raise Wrong(
            "scaler: does hpa see requests that wait for a GPU, and does it go to zero anywhere?"
        )
    most = gpus + sum(high for _, high in sizes.values())
    if most > sum(SERVERS):
        raise Wrong(f"Training and services want {most} GPUs side by side; there are 14.")
    hours = GPU_H + sum(_hours(name, low) for name, (low, _) in sizes.items())
    if hours > BUDGET_H:
        raise Wrong(
            f"A day takes {hours:.1f} GPU-hours, and {BUDGET_H:g} are to be had. What runs and is "
            "asked nothing?"
        )
    return f"All bounds are kept: {most} of {sum(SERVERS)} GPUs, {hours:.1f} GPU-hours a day."


def _training(work: Work) -> int:
    gpus, nodes = work.count("training_gpus"), work.count("training_nodes")
    if gpus < 1 or nodes < 1:
        raise Wrong("training_gpus and training_nodes: at least one of each.")
    held = STATE / gpus + NEED.activations
    if held > USABLE:
        raise Wrong(f"training_gpus: each of {gpus} would hold {held / GIB:.0f} GiB; 72 are there.")
    if (hours := GPU_H / gpus) > NIGHT_H:
        raise Wrong(f"training_gpus: it fits, and {gpus} take {hours:.1f} hours; it has 5.")
    if nodes > 1:
        raise Wrong("training_nodes: gradients would go over the slow network. Is there need to?")
    if gpus > max(SERVERS):
        raise Wrong(f"training_gpus: no server has {gpus}.")
    every = work.number("checkpoint_minutes", "minutes")
    if every <= 0:
        raise Wrong("checkpoint_minutes: more than 0.")
    lost, least = _lost(every), _lost(math.sqrt(2 * WRITES_MIN * FAILS_MIN))
    if lost > SLACK * least:
        raise Wrong(
            f"checkpoint_minutes: with {every:g} minutes {100 * lost:.1f} % of the time are lost, "
            f"by writing and by what is done twice; {100 * least:.1f} % are to be had."
        )
    return gpus


def _lost(every: float) -> float:
    """The share of time that writing and repeating take; Young's approximation."""
    return WRITES_MIN / every + every / 2 / FAILS_MIN


def _service(work: Work, name: str) -> tuple[int, int]:
    requests, _, tokens, least, why = SERVICES[name]
    low, high = work.count(f"{name}_min"), work.count(f"{name}_max")
    if low > high:
        raise Wrong(f"{name}_min is more than {name}_max.")
    if low < least:
        raise Wrong(f"{name}_min: with {low}, {why}.")
    if _replicas(requests, tokens) > high:
        raise Wrong(
            f"{name}_max: {high} hold {high * _held(tokens)} requests of {tokens:,} tokens, and "
            f"{requests} come at a time."
        )
    return low, high


def _held(tokens: int) -> int:
    """Requests that fit on one replica."""
    return int((USABLE - 2 * MODEL.parameters) // MODEL.kv_bytes(tokens))


def _replicas(requests: int, tokens: int) -> int:
    return math.ceil(requests / _held(tokens))


def _hours(name: str, low: int) -> float:
    """GPU-hours a day of a service that has as many replicas as it needs."""
    requests, peak_h, tokens, _, _ = SERVICES[name]
    return max(low, _replicas(requests, tokens)) * peak_h + low * (24 - peak_h)
