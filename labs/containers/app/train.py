"""Train the small model, y = sin(x), and write its weights for the server."""

from __future__ import annotations

import argparse
from pathlib import Path

import network
import torch


def main() -> None:
    """Train, report, save."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("/models/model.pt"))
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    # The health check of the image looks at its age: a training that hangs is not healthy.
    parser.add_argument("--heartbeat", type=Path, default=Path("/tmp/heartbeat"))
    options = parser.parse_args()
    device = network.device(options.device)
    torch.manual_seed(0)
    model = network.build().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    x = torch.linspace(-3.2, 3.2, 256, device=device).unsqueeze(1)
    for step in range(1, options.steps + 1):
        loss = torch.nn.functional.mse_loss(model(x), torch.sin(x))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        if step % 100 == 0 or step == options.steps:
            options.heartbeat.touch()
            print(f"step {step}: loss {loss.item():.6f}", flush=True)
    network.save(model, options.out)
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
