#!/usr/bin/env python3
"""One model on the GPU behind Ray Serve, and behind the server of chapter 7.

Serve's application is the one of ``serve.py``: a batch is filled once, and ends with its longest
request. Chapter 7's server lets requests join and leave after every token. See ``gpu.py`` for
``device="cpu"``.
"""

from __future__ import annotations

import runpy
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError

HOW = """\
  ./gpu_serving.py                      # some two minutes
  ./gpu_serving.py --device cpu         # without a GPU: tiny sizes, to see that it runs
"""
LABS = Path(__file__).parent
COMMON = runpy.run_path(str(LABS / "gpu_common.py"))


def serving(
    *,
    device: str = "cuda",
    sizes: Mapping[str, int] = COMMON["MEDIUM"],
    clients: Sequence[int] = (1, 2, 4, 8, 16, 32),
    seconds: float = 5.0,
    max_batch: int = 32,
    wait_ms: float = 200,
    cpus: int = 8,
    store_mib: int = raylocal.STORE_MIB,
) -> list[dict[str, Any]]:
    """Latency and throughput of one model behind Ray Serve, and behind chapter 7's server.

    Args:
        device: ``cuda`` or ``cpu``.
        sizes: of the model; its weights are BF16 on a GPU, FP32 on a processor.
        clients: one run for each number.
        seconds: of each run.
        max_batch: requests of a batch, of both servers.
        wait_ms: how long Serve waits for a batch to fill.
        cpus: logical CPUs of Ray.
        store_mib: its object store.

    Returns:
        The rows of :func:`mlk8s.lm.load.row`, with ``server``, ``mean batch`` and what the GPU did.

    Raises:
        Mlk8sError: a server does not start.
    """
    import torch

    from mlk8s.lm import load, model

    serve = runpy.run_path(str(LABS / "serve.py"))
    on_gpu = device == "cuda"
    found = []
    with tempfile.TemporaryDirectory(prefix="mlk8s-model-") as temporary:
        made = model.create(sizes=sizes)
        made.network.to(torch.bfloat16 if on_gpu else torch.float32)
        folder = made.save(Path(temporary) / "model")
        del made
        with (
            raylocal.running(cpus, 1, store_mib=store_mib),
            serve["served"](
                {"model": folder}, max_batch=max_batch, wait_ms=wait_ms, gpus=1 if on_gpu else 0
            ) as target,
        ):
            for number in clients:
                before = len(serve["batches"]())
                row = _level(load, target, number, seconds, device)
                batches = serve["batches"]()[before:]
                mean = round(sum(batches) / len(batches), 2) if batches else None
                found.append({"server": "Ray Serve", **row, "mean batch": mean})
        with _continuous(folder, device, max_batch, target) as target:
            for number in clients:
                steps, rows = _decoded(target)
                row = _level(load, target, number, seconds, device)
                later, more = _decoded(target)
                mean = round((more - rows) / (later - steps), 2) if later > steps else None
                found.append({"server": "continuous batching", **row, "mean batch": mean})
    return found


def _level(load: Any, target: Any, number: int, seconds: float, device: str) -> dict[str, Any]:
    """One number of clients."""
    with COMMON["Telemetry"](device) as seen:
        begin = time.perf_counter()
        [run] = load.closed(target, clients=[number], seconds=seconds).runs
        end = time.perf_counter()
    return {**load.row(run), **seen.between(begin, end)}


@contextmanager
def _continuous(folder: Path, device: str, max_batch: int, like: Any) -> Iterator[Any]:
    """Chapter 7's server, until the end of the block."""
    with ExitStack() as stack:
        with socket.socket() as trial:
            trial.bind(("127.0.0.1", 0))
            port = trial.getsockname()[1]
        log = stack.enter_context(tempfile.TemporaryFile())
        command = [sys.executable, "-m", "mlk8s.lm.serving", "--model_name", like.model]
        command += ["--model_dir", str(folder), "--http_port", str(port)]
        command += ["--device", device, "--max_batch_size", str(max_batch)]
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
        stack.callback(process.wait)
        stack.callback(process.kill)
        url = f"http://127.0.0.1:{port}"
        deadline = time.monotonic() + 120
        while not _ready(url):
            if process.poll() is not None or time.monotonic() > deadline:
                log.seek(0)
                said = log.read().decode(errors="replace").strip().splitlines() or ["nothing"]
                raise Mlk8sError(
                    f"The server did not start: {said[-1]}",
                    f"run it by hand: {shlex.join(command)}",
                )
            time.sleep(0.1)
        yield replace(like, base_url=url)


def _ready(url: str) -> bool:
    try:
        with urlopen(f"{url}/v2/health/ready", timeout=5) as response:
            return bool(response.status == 200)
    except (URLError, TimeoutError, ConnectionError):
        return False


def _decoded(target: Any) -> tuple[float, float]:
    """Steps that the server has decoded, and their rows."""
    with urlopen(f"{target.base_url}/metrics", timeout=30) as response:
        lines = response.read().decode().splitlines()
    steps, rows = (
        sum(float(line.split()[-1]) for line in lines if line.startswith(f"mlk8s:{name}_total"))
        for name in ("decode_steps", "decode_rows")
    )
    return steps, rows


TINY: dict[str, Any] = {"sizes": {}, "clients": (1, 4), "seconds": 1.5, "max_batch": 4}

if __name__ == "__main__":
    about = "Latency and throughput of one model behind two servers, by load."
    sys.exit(COMMON["command"](about, HOW, {"serving": (serving, TINY)}))
