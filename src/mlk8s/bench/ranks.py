"""One process for each rank of a job on this host, and none of them left behind.

A rank runs a generator function with ``torch.distributed`` set up; what rank 0 yields reaches the
caller as it is measured. It is not a launcher for several hosts: that is ``torchrun``.

Each rank holds two pipes to its parent. Its standard input is a lifeline: it closes when the
parent ends, however it ends, and the rank with it. The other carries the reports, and closes when
the rank ends; a dead rank is seen at once, and the others, which may wait for it in a kernel that
never returns, are killed.
"""

from __future__ import annotations

import importlib
import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from pathlib import Path
from types import TracebackType
from typing import Any

from mlk8s.errors import Mlk8sError

#: What a rank executes. Not ``-m``: importing the package has imported this module by then.
CODE = "from mlk8s.bench import ranks; ranks.main()"


def run(
    function: Callable[..., Iterator[Any]],
    arguments: Mapping[str, Any],
    *,
    processes: int,
    backend: str,
    timeout_s: float,
) -> Generator[Any, None, None]:
    """Run a function on every rank, and hand on what rank 0 yields.

    Every process has ended when the iterator has: exhausted, closed, or left by an error.

    Args:
        function: ``function(device, **arguments)``, a generator function at the top of a module
            that the ranks can import; ``device`` is ``cpu`` or ``cuda:<rank>``. It yields JSON
            values.
        arguments: JSON values, the same for all ranks.
        processes: how many ranks.
        backend: ``gloo`` for processors, ``nccl`` for one GPU a rank.
        timeout_s: longest wait for the next report, s.

    Yields:
        What the function yields on rank 0.

    Raises:
        Mlk8sError: a rank failed (with the last line that it wrote), or none reported in time.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mlk8s-ranks-")))
        job = {
            "function": f"{function.__module__}:{function.__qualname__}",
            "arguments": arguments,
            "backend": backend,
            "store": str(folder / "store"),
            "timeout_s": timeout_s,
        }
        environment = {**os.environ, "WORLD_SIZE": str(processes)}
        if backend == "gloo":
            # Left alone, gloo binds to what the host name resolves to: a network, or nothing.
            environment["GLOO_SOCKET_IFNAME"] = _loopback()
        logs = [folder / f"rank-{rank}.log" for rank in range(processes)]
        started: list[subprocess.Popen[bytes]] = []
        stack.callback(_end, started)
        with _ctrl_c_later():  # inside Popen it would leave a process that nobody knows
            for rank, log in enumerate(logs):
                process = subprocess.Popen(
                    # -P: a torch.py in the working directory is not PyTorch.
                    [sys.executable, "-P", "-c", CODE, json.dumps(job)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=stack.enter_context(log.open("wb")),
                    # The names that torchrun sets.
                    env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                    # Ctrl-C goes to a terminal's whole process group; the parent alone answers.
                    start_new_session=True,
                )
                started.append(process)
        yield from _reports(started, logs, timeout_s)


def _reports(
    started: list[subprocess.Popen[bytes]], logs: list[Path], timeout_s: float
) -> Iterator[Any]:
    """Hand on the lines of the ranks' pipes until all have ended well."""
    pending = bytearray()
    deadline = time.monotonic() + timeout_s
    with selectors.DefaultSelector() as selector:
        for rank, process in enumerate(started):
            assert process.stdout is not None
            selector.register(process.stdout, selectors.EVENT_READ, rank)
        while selector.get_map():
            # In the order of the events, which names the culprit as a rule: the pipe of a rank that
            # dies closes before its sockets do, by which the others learn of it.
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready:
                raise _silent(len(started), timeout_s)
            for key, _ in ready:
                chunk = os.read(key.fd, 65536)
                if not chunk:
                    selector.unregister(key.fileobj)
                    _ended_well(key.data, started, logs, timeout_s)
                pending += chunk
            while b"\n" in pending:
                line, _, rest = pending.partition(b"\n")
                pending = bytearray(rest)
                yield json.loads(line)
                deadline = time.monotonic() + timeout_s


def _ended_well(
    rank: int, started: list[subprocess.Popen[bytes]], logs: list[Path], timeout_s: float
) -> None:
    """Wait for a rank whose pipe has closed.

    Raises:
        Mlk8sError: it failed.
    """
    try:
        code = started[rank].wait(timeout_s)
    except subprocess.TimeoutExpired as error:
        raise _silent(len(started), timeout_s) from error
    if code == 0:
        return
    # Who lost its connection to a rank that was killed may be seen first.
    killed = [(other, found) for other, one in enumerate(started) if (found := one.poll() or 0) < 0]
    rank, code = killed[0] if killed else (rank, code)
    written = logs[rank].read_text(errors="replace").strip().splitlines()
    last = written[-1].strip() if written else "it wrote nothing."
    if code < 0:
        how = f"was killed by {signal.Signals(-code).name}"
        step = "look for the out-of-memory killer in `dmesg`, then run again with smaller sizes."
    else:
        how = f"ended with exit status {code}"
        step = (
            "mend what the line names and run again; with NCCL, NCCL_DEBUG=INFO and "
            "NCCL_DEBUG_FILE=nccl.%p.log make it say more."
        )
    raise Mlk8sError(
        f"Rank {rank} of {len(started)} {how}, and the others were ended; its last line: {last}",
        step,
    )


def _silent(processes: int, timeout_s: float) -> Mlk8sError:
    return Mlk8sError(
        f"None of the {processes} ranks reported for {timeout_s:g} s, and all were ended: "
        "one is stopped, or waits for what does not come.",
        "look for what holds the processors or the GPUs with `top` and `nvidia-smi`, "
        "then run again.",
    )


@contextmanager
def _ctrl_c_later() -> Iterator[None]:
    """Keep a Ctrl-C that comes meanwhile until the block is done."""
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is ever interrupted
        return
    came: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, frame: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


def _end(started: list[subprocess.Popen[bytes]]) -> None:
    """Kill the ranks that still run. They hold nothing that is worth an orderly end."""
    for process in started:
        process.kill()
    for process in started:
        with process:  # waits, and closes its pipes
            pass


def _loopback() -> str:
    """Name of the loopback interface: ``lo`` on Linux, ``lo0`` on macOS.

    Raises:
        Mlk8sError: no interface has its address.
    """
    import psutil

    for name, addresses in psutil.net_if_addrs().items():
        if any(address.address == "127.0.0.1" for address in addresses):
            return name
    raise Mlk8sError(
        "No network interface has the address 127.0.0.1, over which the ranks would talk.",
        "bring the loopback interface up with `ip link set lo up`.",
    )


# --- in the process of a rank -------------------------------------------------------------------


def main() -> None:
    """Run the job in ``sys.argv[1]`` as the rank that the environment names."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    job = json.loads(sys.argv[1])
    # Reports keep the pipe for themselves: NCCL and others print on standard output.
    reports = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    module, name = job["function"].split(":")
    function = getattr(importlib.import_module(module), name)

    import torch
    import torch.distributed as dist

    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    device = torch.device("cuda", rank) if job["backend"] == "nccl" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    torch.set_num_threads(1)
    # A file, since it needs no port that another process could take meanwhile.
    store = dist.FileStore(job["store"], ranks)  # type: ignore[attr-defined]
    dist.init_process_group(
        job["backend"],
        store=store,
        rank=rank,
        world_size=ranks,
        timeout=timedelta(seconds=job["timeout_s"]),
        device_id=device if device.type == "cuda" else None,
    )
    sys.excepthook = _exit_at_once  # instead of the one that PyTorch has set by now
    for value in function(str(device), **job["arguments"]):
        if rank == 0:
            print(json.dumps(value), file=reports, flush=True)
    # Not a barrier: whoever leaves that first closes connections on which the others still wait.
    store.set(f"ended-{rank}", "")
    store.wait([f"ended-{other}" for other in range(ranks)])
    dist.destroy_process_group()


def _end_with_parent() -> None:
    """Wait for the lifeline to close. Not through sys.stdin, whose lock would outlive the exit."""
    os.read(0, 1)
    os._exit(1)


def _exit_at_once(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print the error and end, before an orderly exit waits for ranks that wait for this one."""
    sys.__excepthook__(kind, error, trace)
    sys.stderr.flush()
    os._exit(1)
