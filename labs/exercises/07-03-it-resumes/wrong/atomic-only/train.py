"""Fits a line to noisy points, with momentum, and goes on from its last checkpoint."""

import json
import random
from pathlib import Path

EVERY = 4


def train(folder: str, steps: int) -> list[float]:
    """Train for so many steps in all, over however many starts; the two weights."""
    checkpoint = Path(folder) / "checkpoint.json"
    points = random.Random(0)
    weights, speeds, done = [0.0, 0.0], [0.0, 0.0], 0
    if checkpoint.exists():
        saved = json.loads(checkpoint.read_text())
        weights, done = saved["weights"], saved["step"]
    for step in range(done, steps):
        x = points.uniform(-1, 1)
        error = weights[0] * x + weights[1] - (3 * x + 1 + points.gauss(0, 0.1))
        for index, slope in enumerate((error * x, error)):
            speeds[index] = 0.9 * speeds[index] + slope
            weights[index] -= 0.1 * speeds[index]
        print(f"step={step} loss={error**2:.4f}", flush=True)
        if step % EVERY == 0:
            new = checkpoint.with_suffix(".new")
            new.write_text(json.dumps({"weights": weights, "step": step + 1}))
            new.replace(checkpoint)
    return weights
