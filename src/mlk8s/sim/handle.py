"""A running embedded cluster, seen from outside: started, asked, and stopped."""

from __future__ import annotations

import json
import os
import select
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from mlk8s.sim.status import Object

_READY_WITHIN_S = 30.0
_STOPPED_WITHIN_S = 10.0


class ClusterError(Exception):
    """The embedded cluster cannot do what was asked; the message says what to do about it."""


class Cluster:
    """An embedded cluster in a process of its own.

    A context manager: nothing of it is left after the block, nor after a crash of this process.

    Args:
        nodes: presets separated by commas, or a YAML file (:mod:`mlk8s.sim.nodes.spec`).
        manual_clock: time stands still until :meth:`advance`.
        seed: makes names, uids and the choice among equal nodes repeatable.
        port: on loopback; 0 takes a free one.
        addons: names of the add-ons that are on from the start.

    Raises:
        ClusterError: it does not start; the message holds what it said.
    """

    def __init__(
        self,
        nodes: str = "course",
        *,
        manual_clock: bool = False,
        seed: int | None = None,
        port: int = 0,
        addons: Sequence[str] = (),
    ) -> None:
        directory = Path(tempfile.mkdtemp(prefix="cluster-", dir=runtime_directory()))
        options = ["--owner", str(os.getpid()), "--port", str(port)]
        options += ["--manual-clock"] if manual_clock else []
        options += ["--seed", str(seed)] if seed is not None else []
        options += ["--addons", ",".join(addons)] if addons else []
        launch(directory, nodes, options)
        self._open(directory)

    @classmethod
    def attach(cls, directory: Path) -> Cluster:
        """The cluster that runs in a folder.

        Raises:
            ClusterError: none does.
        """
        found = cls.__new__(cls)
        found._open(directory)
        return found

    def _open(self, directory: Path) -> None:
        self.directory = directory
        try:
            state = json.loads((directory / "state.json").read_text())
            os.kill(state["pid"], 0)
        except (OSError, json.JSONDecodeError) as error:
            raise ClusterError(
                f"No embedded cluster runs in {directory}. Next: start one with `mlk8s cluster up`."
            ) from error
        self.pid: int = state["pid"]
        self.url: str = state["url"]
        self.token: str = state["token"]
        self.nodes: str = state["nodes"]
        self.started: float = state["started"]
        self.kubeconfig = Path(state["kubeconfig"])
        self._context = ssl.create_default_context(cafile=str(directory / "ca.crt"))

    def __enter__(self) -> Cluster:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """End the cluster, its pods' processes and its files; harmless when it is gone."""
        try:
            os.kill(self.pid, signal.SIGTERM)
        except ProcessLookupError:
            pass
        else:
            _wait_for_end(self.pid)
        shutil.rmtree(self.directory, ignore_errors=True)

    # -- what a real cluster does not have -------------------------------------------------------

    def status(self) -> Object:
        """Version, nodes, number of objects, clock, faults that are on, limits."""
        found: Object = self._ask("GET", "/mlk8s/status")
        return found

    def reset(self) -> None:
        """Forget all objects and start anew with the same nodes; all add-ons are off."""
        self._ask("POST", "/mlk8s/reset")

    def advance(self, seconds: float) -> None:
        """Let simulated time pass (with ``manual_clock`` alone)."""
        self._ask("POST", "/mlk8s/advance", {"seconds": seconds})

    def explain(self, pod: str, namespace: str = "default") -> Object:
        """For each node each scheduler plugin's verdict and score for a pod."""
        found: Object = self._ask("GET", f"/mlk8s/explain/{namespace}/{pod}")
        return found

    def devices(self, node: str) -> list[Object]:
        """The GPU devices of a node, and which pod holds each."""
        found: Any = self._ask("GET", f"/mlk8s/devices/{node}")
        return list(found)

    def addons(self) -> list[Object]:
        """The add-ons that can be enabled, with the version modeled, and which are on."""
        found: Any = self._ask("GET", "/mlk8s/addons")
        return list(found)

    def enable(self, addon: str) -> None:
        """Install an add-on; harmless where it is on."""
        self._ask("PUT", f"/mlk8s/addons/{addon}")

    def disable(self, addon: str) -> None:
        """Remove an add-on with its definitions and their objects; harmless where it is off."""
        self._ask("DELETE", f"/mlk8s/addons/{addon}")

    def faults(self) -> list[Object]:
        """The faults that can be switched on, and which are."""
        found: Any = self._ask("GET", "/mlk8s/faults")
        return list(found)

    def fault_on(self, name: str, node: str | None = None) -> None:
        """Switch a fault on, on one node or wherever it applies."""
        where = f"?node={node}" if node else ""
        self._ask("PUT", f"/mlk8s/faults/{name}{where}")

    def fault_off(self, name: str) -> None:
        """Switch a fault off; what it broke stays as a repair would find it."""
        self._ask("DELETE", f"/mlk8s/faults/{name}")

    @contextmanager
    def fault(self, name: str, node: str | None = None) -> Iterator[None]:
        """A fault that is on inside the block."""
        self.fault_on(name, node)
        try:
            yield
        finally:
            self.fault_off(name)

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        request = urllib.request.Request(
            self.url + path,
            method=method,
            data=None if body is None else json.dumps(body).encode(),
            headers={
                "Authorization": f"Bearer {self.token}",
                "Content-Type": "application/json",
            },
        )
        try:
            with urllib.request.urlopen(request, context=self._context) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise ClusterError(json.load(error)["message"]) from error
        except urllib.error.URLError as error:
            raise ClusterError(
                f"The embedded cluster at {self.url} does not answer ({error.reason}). Next: start "
                "a new one."
            ) from error


def runtime_directory() -> Path:
    """Where embedded clusters keep their files: private to the user, gone after a reboot."""
    base = os.environ.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK):
        directory = Path(base) / "mlk8s"
    else:
        directory = Path(tempfile.gettempdir()) / f"mlk8s-{os.getuid()}"
    try:
        directory.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise ClusterError(
            f"{directory} cannot be made ({error.strerror}). Next: set XDG_RUNTIME_DIR to a folder "
            "that can be written to."
        ) from error
    if directory.stat().st_uid != os.getuid():
        raise ClusterError(
            f"{directory} belongs to another user. Next: set XDG_RUNTIME_DIR to a folder of yours."
        )
    return directory


def launch(directory: Path, nodes: str, options: list[str]) -> None:
    """Start a server process and wait until it answers.

    Args:
        directory: the cluster's own folder; removed when the start fails.
        nodes: presets or a YAML file.
        options: more options of :mod:`mlk8s.sim.process`.

    Raises:
        ClusterError: it did not come up.
    """
    command = [sys.executable, "-m", "mlk8s.sim.process", "--directory", str(directory)]
    # A file without a name: the cluster's own folder goes away with a server that fails.
    with tempfile.TemporaryFile("w+") as said:
        process = subprocess.Popen(
            [*command, "--nodes", nodes, *options],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=said,
            start_new_session=True,
            text=True,
        )
        try:
            if _said_ready(process):
                # It outlives this call on purpose; collecting it is not this object's business.
                process.returncode = 0
                return
            status = process.wait()
            said.seek(0)
            lines = said.read().strip().splitlines()
            why = lines[-1] if lines else f"The embedded cluster ended with status {status}."
            raise ClusterError(why)
        except BaseException:
            # Ctrl-C among them: what does not become ready leaves nothing.
            with suppress(ProcessLookupError):
                process.kill()
            process.wait()
            shutil.rmtree(directory, ignore_errors=True)
            raise


def _said_ready(process: subprocess.Popen[str]) -> bool:
    """Whether the server is ready; not, when it has ended before.

    Raises:
        ClusterError: it did not say anything in time.
    """
    assert process.stdout is not None
    with process.stdout as output:
        answered, _, _ = select.select([output], [], [], _READY_WITHIN_S)
        if answered:
            return output.readline().strip() == "ready"
    raise ClusterError(
        f"The embedded cluster is not ready after {_READY_WITHIN_S:g} s. Next: try again when this "
        "machine has less to do."
    )


def _wait_for_end(pid: int) -> None:
    """Wait until the server is gone; kill it when that takes too long."""
    deadline = time.monotonic() + _STOPPED_WITHIN_S
    while time.monotonic() < deadline:
        try:
            if os.waitpid(pid, os.WNOHANG)[0]:
                return
        except ChildProcessError:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return
        time.sleep(0.01)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
