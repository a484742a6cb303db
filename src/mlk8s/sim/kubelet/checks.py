"""How a probe asks a container: a command in it, or a request to where its process listens.

Its words are those of Kubernetes: ``pkg/probe/{exec,http,tcp}`` and ``pkg/kubelet/prober``. Probes
are asked in this machine's time. A redirect counts as an answer and is not followed.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING

import aiohttp
from yarl import URL

from mlk8s.sim import dial
from mlk8s.sim.kubelet.container import Container
from mlk8s.sim.kubelet.launch import NoCommand
from mlk8s.sim.kubelet.process import Exit
from mlk8s.sim.status import Object

if TYPE_CHECKING:
    from mlk8s.sim.kubelet.kubelet import Kubelet
    from mlk8s.sim.kubelet.worker import Worker

# pkg/kubelet/prober: so much of a command's output is kept.
_OUTPUT_BYTES = 10 * 1024
_HEADERS = {"User-Agent": "kube-probe/1.36", "Accept": "*/*"}
_NETWORKED = ("httpGet", "tcpSocket")
Done = Callable[[int, str], None]


def asks(container: Container, probe: Object) -> bool:
    """Whether a probe really asks; all others pass in their time.

    Commands run in processes; requests go to ports that a process was given on this machine.
    """
    if container.simulated != "process":
        return False
    return "exec" in probe or port_of(container, probe) in container.ports


def port_of(container: Container, probe: Object) -> int:
    """The port of the container that a probe goes to; 0 where it goes elsewhere."""
    kind = next((each for each in _NETWORKED if each in probe), "")
    if not kind or probe[kind].get("host"):
        return 0
    wanted = probe[kind]["port"]
    if isinstance(wanted, int):
        return wanted
    named = (each for each in container.spec.get("ports") or () if each.get("name") == wanted)
    return next((int(each["containerPort"]) for each in named), 0)


class Checks:
    """Carries out single probes.

    Args:
        kubelet: of the containers.
    """

    def __init__(self, kubelet: Kubelet) -> None:
        self._kubelet = kubelet
        self._asking: set[asyncio.Task[None]] = set()

    def stop(self) -> None:
        """Give up what is being asked."""
        for task in self._asking:
            task.cancel()

    def ask(self, container: Container, probe: Object, done: Done) -> None:
        """Begin to ask.

        Args:
            container: with its process.
            probe: one of which :func:`asks` is true.
            done: called later with 0 for a success, and with what the probe says of a failure.
        """
        worker = self._kubelet.workers.get(container.pod)
        if worker is None:
            return

        def told(code: int, output: str) -> None:
            done(code, output)
            self._kubelet.enqueue(container.pod)

        limit = float(probe.get("timeoutSeconds") or 1)
        if "exec" in probe:
            self._execute(worker, container, probe, limit, told)
            return
        task = asyncio.ensure_future(self._request(container, probe, worker.ip, limit, told))
        self._asking.add(task)
        task.add_done_callback(self._asking.discard)

    async def _request(
        self, container: Container, probe: Object, address: str, limit: float, done: Done
    ) -> None:
        declared = port_of(container, probe)
        port = container.ports[declared]
        try:
            async with asyncio.timeout(limit):
                if "httpGet" in probe:
                    failed = await _http(probe["httpGet"], port)
                else:
                    failed = await _tcp(port)
        except TimeoutError as error:
            failed = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            if "httpGet" not in probe:
                failed = dial.failure(address, declared, error)
        except (OSError, aiohttp.ClientError) as error:
            failed = dial.failure(address, declared, error)
        else:
            done(1 if failed else 0, failed)
            return
        if "httpGet" in probe:
            failed = f'Get "{_url(probe["httpGet"], address, declared)}": {failed}'
        done(1, failed)

    def _execute(
        self, worker: Worker, container: Container, probe: Object, limit: float, done: Done
    ) -> None:
        output: list[bytes] = []
        launcher, pod = self._kubelet.launcher, worker.pod

        def ended(found: Exit, why: str = "") -> None:
            text = why or b"".join(output)[:_OUTPUT_BYTES].decode(errors="replace")
            if found.message:
                shown = " ".join(probe["exec"]["command"])
                text = f'command timed out: "{shown}" timed out after {limit:g}s'
            done(found.code, text)

        environment = launcher.environment(pod, container)
        try:
            command = launcher.resolve(probe["exec"]["command"], environment, container)
            self._kubelet.processes.start(
                command,
                environment,
                launcher.working_directory(container, launcher.home(pod, container)),
                lambda _, data: output.append(data),
                ended,
                wall_s=limit,
            )
        except (NoCommand, OSError) as error:
            asyncio.get_running_loop().call_soon(ended, Exit(127), str(error))


async def _tcp(port: int) -> str:
    """Open a connection, and close it again."""
    _, writer = await asyncio.open_connection(dial.LOOPBACK, port)
    writer.close()
    return ""


async def _http(wanted: Object, port: int) -> str:
    """Ask for a path; gives what is wrong with the answer."""
    headers = _HEADERS | {each["name"]: each["value"] for each in wanted.get("httpHeaders") or ()}
    url = _url(wanted, dial.LOOPBACK, port)
    async with (
        dial.session() as client,
        client.get(URL(url, encoded=True), headers=headers, allow_redirects=False) as answer,
    ):
        if 200 <= answer.status < 400:
            return ""
        return f"HTTP probe failed with statuscode: {answer.status}"


def _url(wanted: Object, address: str, port: int) -> str:
    scheme = str(wanted.get("scheme") or "HTTP").lower()
    path = str(wanted.get("path") or "/")
    return f"{scheme}://{address}:{port}{path if path.startswith('/') else f'/{path}'}"
