"""``exec`` and ``attach`` over WebSockets, as ``kubectl`` (v5) and the Python client (v4) speak it.

Each message begins with the number of its channel: 0 standard input, 1 output, 2 error output,
3 the final ``Status``, 4 the terminal's size, 255 (v5) the end of a channel
(``k8s.io/apimachinery/pkg/util/remotecommand``).
"""

from __future__ import annotations

import asyncio
import json
import secrets
from contextlib import suppress

from aiohttp import WSMsgType, web

from mlk8s.sim.kubelet.container import Container
from mlk8s.sim.kubelet.kubelet import Kubelet
from mlk8s.sim.kubelet.launch import Local, NoCommand
from mlk8s.sim.kubelet.logs import choose_container
from mlk8s.sim.kubelet.process import Exit, Process
from mlk8s.sim.kubelet.worker import Worker
from mlk8s.sim.status import Object, StatusError, bad_request

V5 = "v5.channel.k8s.io"
V4 = "v4.channel.k8s.io"
STDIN, STDOUT, STDERR, ERROR, RESIZE, CLOSE = 0, 1, 2, 3, 4, 255
# A command given to exec may run longer than a container: somebody sits in front of it.
EXEC_LIMIT_S = 3600.0
# Pieces of output that wait for the client before the process has to.
_AHEAD = 32
_SUCCESS: Object = {"metadata": {}, "status": "Success"}


async def exec_stream(
    request: web.Request, kubelet: Kubelet, namespace: str, name: str
) -> web.StreamResponse:
    """Serve ``pods/exec`` or ``pods/attach``; the last part of the path says which.

    Raises:
        StatusError: 404 or 400 before the connection is upgraded.
    """
    query = request.query
    pod = kubelet.api.get("pods", namespace, name)
    container_name = choose_container(pod, query.get("container", ""))
    node = pod["spec"].get("nodeName")
    if not node:
        raise bad_request(f"pod {name} does not have a host assigned")
    if not kubelet.fleet.serves(node):
        raise StatusError(
            500, "InternalError", f"error dialing backend: dial tcp: lookup {node}: no such host"
        )
    socket = web.WebSocketResponse(protocols=(V5, V4), max_msg_size=32 * 1024 * 1024)
    if not socket.can_prepare(request).ok:
        raise bad_request("Upgrade request required")
    attach = request.path.rstrip("/").endswith("/attach")
    command = query.getall("command", [])
    if not attach and not command:
        raise bad_request("you must specify at least one command for the container")
    worker = kubelet.workers.get((namespace, name))
    found = [
        each
        for each in (worker.containers if worker is not None else ())
        if each.name == container_name and each.running
    ]
    missing = f'unable to upgrade connection: container not found ("{container_name}")'
    offered = request.headers.get("Sec-WebSocket-Protocol", "")
    if (not found or worker is None) and V5 not in offered:
        raise StatusError(500, "InternalError", missing)
    await socket.prepare(request)
    session = _Session(socket, query)
    if not found or worker is None:
        await session.finish(_internal(missing))
    elif attach:
        await session.attach(found[0])
    else:
        await session.execute(kubelet, worker, found[0], command)
    await socket.close()
    return socket


class _Session:
    """One connection.

    Args:
        socket: after the upgrade.
        query: the request's parameters.
    """

    def __init__(self, socket: web.WebSocketResponse, query: object) -> None:
        self._socket = socket
        flags = query if hasattr(query, "get") else {}

        def flag(name: str) -> bool:
            return str(flags.get(name, "")).lower() in ("1", "true")

        self.stdin, self.tty = flag("stdin"), flag("tty")
        self.shown = {STDOUT: flag("stdout"), STDERR: flag("stderr")}

    async def send(self, channel: int, data: bytes) -> None:
        """Send data on a channel; nothing when the client is gone."""
        with suppress(ConnectionError, RuntimeError):
            await self._socket.send_bytes(bytes([channel]) + data)

    async def finish(self, status: Object) -> None:
        """Send the final Status."""
        await self.send(ERROR, json.dumps(status).encode())

    async def execute(
        self, kubelet: Kubelet, worker: Worker, container: Container, command: list[str]
    ) -> None:
        """Run a command in a container."""
        launcher, pod = kubelet.launcher, worker.pod
        home = launcher.furnish(pod, container, kubelet.seen(pod, container))
        environment = launcher.environment(pod, container)
        if self.tty:
            environment.setdefault("TERM", "xterm")
        output: asyncio.Queue[tuple[int, bytes] | Exit] = asyncio.Queue()
        process: Process | None = None

        def take(channel: int, data: bytes) -> None:
            output.put_nowait((channel, data))
            if output.qsize() > _AHEAD and process is not None:
                process.hold()

        try:
            process = kubelet.processes.start(
                launcher.resolve(command, environment, container),
                environment,
                launcher.working_directory(container, home),
                take,
                output.put_nowait,
                merge=self.tty,
                stdin=self.stdin,
                tty=self.tty,
                wall_s=EXEC_LIMIT_S,
            )
        except (NoCommand, OSError) as error:
            await self.finish(_not_started(error))
            return
        reader = asyncio.create_task(self._receive(process))
        try:
            ended = await self._forward(process, output)
        finally:
            reader.cancel()
            process.kill()
        await self.finish(_SUCCESS if ended.code == 0 else _failure(command, ended.code))

    async def attach(self, container: Container) -> None:
        """Show what a container prints from now on, and give it what the client types."""
        run = container.execution
        assert run is not None
        process = run.process if isinstance(run, Local) else None
        reader = asyncio.create_task(self._receive(process))
        shown = asyncio.create_task(self._show(container))
        await asyncio.wait({reader, shown}, return_when=asyncio.FIRST_COMPLETED)
        reader.cancel()
        shown.cancel()
        if process is not None and self.stdin and container.spec.get("stdinOnce"):
            process.close_input()
        await self.finish(_SUCCESS)

    async def _show(self, container: Container) -> None:
        assert container.execution is not None
        async for data in container.execution.log.read(follow=True, tail=0):
            await self.send(STDOUT, data)

    async def _forward(
        self, process: Process, output: asyncio.Queue[tuple[int, bytes] | Exit]
    ) -> Exit:
        while True:
            item = await output.get()
            if isinstance(item, Exit):
                return item
            channel, data = item
            if self.shown.get(channel):
                await self.send(channel, data)
            if output.qsize() == 0:
                process.go_on()

    async def _receive(self, process: Process | None) -> None:
        """Take what the client sends; when it goes, the process ends."""
        async for message in self._socket:
            if message.type is WSMsgType.TEXT:
                data = message.data.encode()
            elif message.type is WSMsgType.BINARY:
                data = message.data
            else:
                break
            if not data or process is None:
                continue
            channel, data = data[0], data[1:]
            if channel == STDIN and self.stdin and data:
                await process.write(data)
            elif channel == CLOSE and data[:1] == bytes([STDIN]):
                process.close_input()
            elif channel == RESIZE:
                with suppress(ValueError, KeyError, TypeError):
                    size = json.loads(data)
                    process.resize(int(size["Width"]), int(size["Height"]))
        if process is not None:
            process.kill()


def _failure(command: list[str], code: int) -> Object:
    return {
        "metadata": {},
        "status": "Failure",
        "message": "command terminated with non-zero exit code: error executing command "
        f"[{' '.join(command)}], exit code {code}",
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": str(code)}]},
    }


def _internal(message: str) -> Object:
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {message}",
        "reason": "InternalError",
        "details": {"causes": [{"message": message}]},
        "code": 500,
    }


def _not_started(error: Exception) -> Object:
    """What the kubelet's streaming server says where containerd finds nothing to run."""
    text = (
        "error executing command in container: failed to exec in container: failed to start exec "
        f'"{secrets.token_hex(32)}": OCI runtime exec failed: exec failed: unable to start '
        f"container process: {error}"
    )
    return {
        "metadata": {},
        "status": "Failure",
        "message": f"Internal error occurred: {text}",
        "reason": "InternalError",
        "details": {"causes": [{"message": text}]},
        "code": 500,
    }
