"""The server process: started by :class:`mlk8s.sim.Cluster`, gone when its owner is.

Run as ``python -m mlk8s.sim.process``; the first line on standard output says that it is ready.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import secrets
import shutil
import signal
import ssl
import sys
import time
from pathlib import Path

import trustme
import yaml
from aiohttp import web

from mlk8s.sim import addons
from mlk8s.sim.kubelet.reaper import Reaper
from mlk8s.sim.nodes.spec import SpecError, load
from mlk8s.sim.server import Server
from mlk8s.sim.simulator import Simulator
from mlk8s.sim.status import StatusError

_HOST = "127.0.0.1"
_CHECK_EVERY_S = 1.0
# Bytes of a URL or a header; selectors of clients may be long.
_LONGEST_LINE = 256 * 1024
# Walks of a nested object take several calls for each of its levels (bodies.DEEPEST).
_RECURSION = 4_000


def main(arguments: list[str] | None = None) -> None:
    """Serve one cluster until it is told to stop, its owner ends, or nobody uses it."""
    parser = argparse.ArgumentParser(prog="mlk8s.sim.process", description=__doc__)
    parser.add_argument("--directory", type=Path, required=True, help="the cluster's own folder")
    parser.add_argument("--nodes", default="course")
    parser.add_argument("--addons", default="", help="names separated by commas")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--manual-clock", action="store_true")
    parser.add_argument("--seed", type=int)
    parser.add_argument("--owner", type=int, help="stop when this process ends")
    parser.add_argument("--idle", type=float, help="stop after so many seconds without a request")
    sys.setrecursionlimit(_RECURSION)
    asyncio.run(_serve(parser.parse_args(arguments)))


async def _serve(options: argparse.Namespace) -> None:
    directory: Path = options.directory
    logging.basicConfig(filename=directory / "server.log", level=logging.WARNING)
    # A client that speaks no HTTP is none of this server's errors; its own are logged by Server.
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)
    try:
        specs = load(options.nodes)
    except SpecError as error:
        sys.exit(str(error))
    wanted = [name.strip() for name in options.addons.split(",") if name.strip()]
    try:
        for name in wanted:
            addons.find(name)
    except StatusError as error:
        sys.exit(error.message)
    reaper = Reaper.start(directory)
    stopping = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        loop.add_signal_handler(number, stopping.set)
    authority = trustme.CA(organization_name="mlk8s embedded cluster")
    root_ca = authority.cert_pem.bytes().decode()
    simulator = Simulator(
        specs,
        directory,
        manual=options.manual_clock,
        seed=options.seed,
        reaper=reaper,
        root_ca=root_ca,
    )
    token = secrets.token_urlsafe(24)
    server = Server(simulator, token, stopping.set)
    await simulator.start()
    for name in wanted:
        simulator.addons.enable(name)
    certificate = authority.issue_cert(_HOST, "localhost", "kubernetes.default.svc")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    runner = web.AppRunner(
        server.application(),
        access_log=None,
        shutdown_timeout=0.5,
        max_line_size=_LONGEST_LINE,
        max_field_size=_LONGEST_LINE,
    )
    await runner.setup()
    site = web.TCPSite(runner, _HOST, options.port, ssl_context=context, backlog=1024)
    await site.start()
    port = runner.addresses[0][1]
    url = f"https://{_HOST}:{port}"
    state = {
        "pid": os.getpid(),
        "url": url,
        "token": token,
        "nodes": options.nodes,
        "started": time.time(),
        "kubeconfig": str(directory / "kubeconfig"),
    }
    (directory / "ca.crt").write_text(root_ca)
    _write_private(directory / "kubeconfig", _kubeconfig(url, token, root_ca))
    _write_private(directory / "state.json", json.dumps(state))
    print("ready", flush=True)
    watcher = asyncio.create_task(_watch(options, simulator, stopping))
    await stopping.wait()
    watcher.cancel()
    server.hub.close()
    await runner.cleanup()
    await simulator.stop()
    shutil.rmtree(directory, ignore_errors=True)
    reaper.close()


async def _watch(
    options: argparse.Namespace, simulator: Simulator, stopping: asyncio.Event
) -> None:
    """Stop when the owner ends or nobody asks for anything any more."""
    while True:
        await asyncio.sleep(_CHECK_EVERY_S)
        if options.owner and not _alive(options.owner):
            stopping.set()
        if options.idle and time.monotonic() - simulator.last_request > options.idle:
            stopping.set()


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    # A zombie has ended; only nobody has asked for its status yet.
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return sys.platform != "linux"
    return state != "Z"


def _write_private(path: Path, text: str) -> None:
    path.touch(mode=0o600)
    path.write_text(text)


def _kubeconfig(url: str, token: str, authority: str) -> str:
    import base64

    name = "mlk8s-simulated"
    data = base64.b64encode(authority.encode()).decode()
    return yaml.safe_dump(
        {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {"name": name, "cluster": {"server": url, "certificate-authority-data": data}}
            ],
            "users": [{"name": name, "user": {"token": token}}],
            "contexts": [
                {"name": name, "context": {"cluster": name, "user": name, "namespace": "default"}}
            ],
            "current-context": name,
        },
        sort_keys=False,
    )


if __name__ == "__main__":
    main()
