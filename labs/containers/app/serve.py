"""Serve the small model over HTTP: GET /healthz, POST /predict with {"x": [numbers]}."""

from __future__ import annotations

import argparse
import json
import signal
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import network
import torch

MOST_BYTES = 1 << 20


def handler(model: torch.nn.Module, device: torch.device) -> type[BaseHTTPRequestHandler]:
    """What answers a request with a model that is loaded."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if self.path == "/healthz":
                self.answer(200, {"device": device.type})
            else:
                self.answer(404, {"error": "there are /healthz and /predict"})

        def do_POST(self) -> None:
            if self.path != "/predict":
                return self.answer(404, {"error": "there are /healthz and /predict"})
            length = int(self.headers.get("Content-Length") or 0)
            if not 0 < length <= MOST_BYTES:
                return self.answer(413, {"error": f"send 1 to {MOST_BYTES} bytes"})
            try:
                x = torch.tensor(json.loads(self.rfile.read(length))["x"], dtype=torch.float32)
            except (ValueError, TypeError, KeyError):
                return self.answer(400, {"error": 'send {"x": [numbers]}'})
            with torch.inference_mode():
                y = model(x.reshape(-1, 1).to(device)).flatten().tolist()
            return self.answer(200, {"y": y})

        def answer(self, status: int, body: Any) -> None:
            payload = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

    return Handler


def main() -> None:
    """Load the model, then listen: a server that listens is ready."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, default=Path("/models/model.pt"))
    parser.add_argument("--host", default="0.0.0.0")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    options = parser.parse_args()
    if not options.model.is_file():
        raise SystemExit(
            f"There is no model at {options.model}. Next: mount the volume that holds it, "
            "or name another file with --model."
        )
    device = network.device(options.device)
    answers = handler(network.load(options.model, device), device)
    server = ThreadingHTTPServer((options.host, options.port), answers)
    # The first process of a container ignores SIGTERM unless it says what to do with it.
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: threading.Thread(target=server.shutdown).start())
    print(f"listening on port {server.server_port}, computing on {device.type}", flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
