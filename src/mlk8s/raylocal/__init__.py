"""A private Ray on this machine: one node or several, quiet, and gone at the end.

``ray.init()`` joins whatever cluster it finds (``RAY_ADDRESS``, or one whose address a ``ray
start`` left behind), writes a token to the home folder, prints, and leaves its files in ``/tmp``.
What is started here does none of that::

    from mlk8s import raylocal

    with raylocal.running(cpus=2) as local:
        ...                                     # plain Ray: ray.get(f.remote())

It has a folder of its own, requires a token that only its processes know, never joins nor stops
another Ray, and takes its processes and files away at the end: after an error, after Ctrl-C, and
also when this process is killed. Several nodes (raylets with an object store each) on this machine
are for experiments: CPUs and GPUs are logical there, nothing holds a node to what it says it has.

Linux only as far as the guarantee after a kill goes. Nodes beside the head, and killing them, use
what Ray's own tests use (ray 2.60, ``ray.cluster_utils.Cluster``), which may change with Ray.
"""

from __future__ import annotations

import atexit
import logging
import os
import platform
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path
from typing import Any

from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.gpu.source import software
from mlk8s.provenance import Device, Kind, Provenance
from mlk8s.raylocal import isolation

MIB = 2**20
#: Of an object store. Ray refuses less than 75 MiB.
STORE_MIB = 100
#: A node that is killed counts as dead after some 2 s instead of 15 s (Ray's defaults: 3 s, 5).
_HEALTH = {"health_check_period_ms": 500, "health_check_failure_threshold": 3}


@dataclass(frozen=True)
class Machine:
    """What a node says it has.

    Attributes:
        cpus: logical CPUs.
        gpus: logical GPUs; none need be there.
        store_mib: its object store, MiB of shared memory.
        resources: any others, by name.
    """

    cpus: int = 1
    gpus: int = 0
    store_mib: int = STORE_MIB
    resources: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Node:
    """A node that was started.

    Attributes:
        id: Ray's, 56 hexadecimal digits.
        machine: what it says it has.
        head: whether the cluster's state lives there, and this process is connected to it.
    """

    id: str
    machine: Machine
    head: bool
    _handle: Any = field(repr=False)


@dataclass(frozen=True)
class Store:
    """The object stores of all nodes together, MiB.

    Attributes:
        used: of shared memory, now.
        spilled: written to disk since the start, because it did not fit.
        restored: read back from there since the start.
    """

    used: float
    spilled: float
    restored: float


@dataclass
class Peak:
    """What the object stores came to in a block of :meth:`Local.watched`.

    Attributes:
        used_mib: the most that a sample found, MiB.
        spilled_mib: written to disk in the block, MiB.
        restored_mib: read back in it, MiB.
    """

    used_mib: float = 0.0
    spilled_mib: float = 0.0
    restored_mib: float = 0.0


class Local:
    """A running Ray; :func:`start` makes one.

    Attributes:
        folder: of its logs and sockets, gone when it has stopped.
        nodes: those that run, the head first.
        said: lines that Ray would have printed here, such as that a worker died or that nothing
            can run a task. Workers' own prints are in the folder's logs.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.nodes: list[Node] = []
        self.said: list[str] = []
        self._state: Any = None
        self._end = ExitStack()

    @property
    def head(self) -> Node:
        """The first node."""
        return self.nodes[0]

    def add(self, machine: Machine) -> Node:
        """Start another node and wait until it has joined.

        Raises:
            Mlk8sError: it has not within a minute.
        """
        return self._launch(
            machine,
            gcs_address=self.head._handle.gcs_address,
            # None: a free one.
            dashboard_agent_listen_port=None,
        )

    def _launch(self, machine: Machine, **asked: Any) -> Node:
        """Start a node's daemons; the first node becomes the head."""
        from ray._private import services
        from ray._private.node import Node as Daemons
        from ray._private.parameter import RayParams

        # It sends the workers' prints to a driver, and this one wants none.
        asked["include_log_monitor"] = False
        parameters = RayParams(
            num_cpus=machine.cpus,
            num_gpus=machine.gpus,
            resources=dict(machine.resources),
            object_store_memory=machine.store_mib * MIB,
            temp_dir=str(self.folder),
            # 0: any free ones.
            node_manager_port=0,
            min_worker_port=0,
            max_worker_port=0,
            **asked,
        )
        head = not self.nodes
        try:
            with isolation.marked(self.folder):
                made = Daemons(parameters, head=head, shutdown_at_exit=False, spawn_reaper=True)
            self._end.callback(
                made.kill_all_processes, check_alive=False, allow_graceful=True, wait=True
            )
            services.wait_for_node(made.gcs_address, made.plasma_store_socket_name, 60)
        except Exception as error:
            # Of this very class is what Ray raises when a node has not come up within 30 s.
            if not (isinstance(error, (OSError, RuntimeError)) or type(error) is Exception):
                raise
            raise Mlk8sError(
                f"A node with {machine.cpus} CPUs did not start: {error}",
                "see whether the machine has memory and processors to spare, and try again.",
            ) from error
        node = Node(made.node_id, machine, head, made)
        self.nodes.append(node)
        return node

    def kill(self, node: Node) -> None:
        """Kill all processes of a node at once, as a power cut does, and wait until Ray knows.

        Args:
            node: not the head: this process could not live on without it.

        Raises:
            UsageError: it is the head, or does not run.
            Mlk8sError: Ray still takes it for alive after a minute.
        """
        import ray

        if node not in self.nodes:
            raise UsageError(f"The node {node.id[:8]} does not run.", "choose one of nodes.")
        if node.head:
            raise UsageError(
                "The head cannot be killed from the process that is connected to it: Ray ends that "
                "process as well.",
                "start Ray in a process of its own, and kill it there with kill_head().",
            )
        _kill_daemons(node)
        self.nodes.remove(node)
        deadline = time.monotonic() + 60
        nodes: Any = ray.nodes  # without types
        while any(each["Alive"] and each["NodeID"] == node.id for each in nodes()):
            if time.monotonic() > deadline:
                raise Mlk8sError(
                    f"Ray takes the node {node.id[:8]}, which was killed, for alive.",
                    f"see gcs_server.out in {self.folder}/session_latest/logs.",
                )
            time.sleep(0.1)

    def store(self) -> Store:
        """What the object stores hold now."""
        from ray._private import internal_api

        api: Any = internal_api  # without types
        if self._state is None:
            self._state = api.get_state_from_address(self.head._handle.gcs_address)
        found = api.get_memory_info_reply(self._state).store_stats
        return Store(
            found.object_store_bytes_used / MIB,
            found.spilled_bytes_total / MIB,
            found.restored_bytes_total / MIB,
        )

    @contextmanager
    def watched(self, every_s: float = 0.1) -> Iterator[Peak]:
        """Sample the object stores while the block runs.

        Args:
            every_s: time between two samples, s.

        Yields:
            What is complete when the block is left.
        """
        before, peak, done = self.store(), Peak(), threading.Event()

        def sample() -> None:
            now = self.store()
            peak.used_mib = max(peak.used_mib, now.used)
            peak.spilled_mib = now.spilled - before.spilled
            peak.restored_mib = now.restored - before.restored

        def watch() -> None:
            while not done.wait(every_s):
                sample()

        watcher = threading.Thread(target=watch, name="object store", daemon=True)
        watcher.start()
        try:
            yield peak
        finally:
            done.set()
            watcher.join()
            sample()

    def kill_gcs(self) -> None:
        """Kill the head's global control store: what knows of nodes, actors and jobs.

        What runs goes on without it for a minute (``gcs_rpc_server_reconnect_timeout_s``). Then
        Ray ends the nodes and this process, with status 1 and without a word: call this in a
        process that has nothing else to lose.
        """
        for info in self.head._handle.all_processes["gcs_server"]:
            info.process.kill()
            info.process.wait()

    def kill_head(self) -> None:
        """Kill all processes of the head, as a power cut does.

        Ray ends this process as well, see :meth:`kill_gcs`.
        """
        _kill_daemons(self.head)

    def stop(self) -> None:
        """End it: disconnect, end all its processes, remove its folder. Again is no error."""
        self._end.close()

    def __repr__(self) -> str:
        shapes = ", ".join(f"{n.machine.cpus} CPU {n.machine.gpus} GPU" for n in self.nodes)
        return f"<Ray on this machine: {shapes}>"


@contextmanager
def running(
    cpus: int = 2,
    gpus: int = 0,
    *,
    store_mib: int = STORE_MIB,
    nodes: Sequence[Machine] = (),
    system: Mapping[str, Any] | None = None,
) -> Iterator[Local]:
    """:func:`start`, and stop at the end of the block, however it ends.

    Args:
        cpus: see :func:`start`.
        gpus: see :func:`start`.
        store_mib: see :func:`start`.
        nodes: see :func:`start`.
        system: see :func:`start`.

    Raises:
        UsageError, Mlk8sError: see :func:`start`.
    """
    local = start(cpus, gpus, store_mib=store_mib, nodes=nodes, system=system)
    try:
        yield local
    finally:
        local.stop()


def start(
    cpus: int = 2,
    gpus: int = 0,
    *,
    store_mib: int = STORE_MIB,
    nodes: Sequence[Machine] = (),
    system: Mapping[str, Any] | None = None,
) -> Local:
    """Start Ray on this machine and connect this process to it.

    Args:
        cpus: logical CPUs of the head.
        gpus: logical GPUs of the head; none need be there.
        store_mib: object store of the head, MiB.
        nodes: further nodes.
        system: settings of Ray's daemons (``ray_config_def.h`` in its source), by name.

    Raises:
        UsageError: this process is connected to a Ray already, Ray is not installed, the store is
            smaller than Ray allows, or this is not the main thread.
        Mlk8sError: a node does not come up.
    """
    ray = _checked(store_mib, nodes)
    folder = Path(tempfile.mkdtemp(prefix="mlk8s-ray-", dir=isolation.base()))
    local = Local(folder)
    with ExitStack() as stack:
        # From the start, so that a failure half-way ends what was started.
        local._end = stack
        stack.callback(isolation.remove, folder)
        isolation.guarded(folder, stack)
        isolation.environment(stack)
        isolation.hushed(local.said, stack)
        stack.enter_context(isolation.handlers_kept())
        head = local._launch(
            Machine(cpus, gpus, store_mib),
            include_dashboard=False,
            no_monitor=True,  # the autoscaler; nodes come by add()
            _system_config={**_HEALTH, **(system or {})},
        )
        stack.callback(ray.shutdown)
        try:
            with isolation.without_a_word():
                ray.init(
                    head._handle.gcs_address,
                    log_to_driver=False,
                    logging_level=logging.ERROR,
                    _temp_dir=str(folder),
                )
        except (OSError, RuntimeError) as error:
            raise Mlk8sError(
                f"Ray runs, and this process could not connect to it: {error}",
                "try again; if it happens again, see whether a firewall is in between.",
            ) from error
        isolation.quiet_loggers(stack)
        for each in nodes:
            local.add(each)
        local._end = stack.pop_all()
    local._end.callback(local.nodes.clear)
    atexit.register(local.stop)
    local._end.callback(atexit.unregister, local.stop)
    return local


def provenance(method: str, *packages: str) -> Provenance:
    """Where a figure comes from that was measured with Ray on this machine.

    Args:
        method: how, one sentence.
        packages: that took part beside Ray.
    """
    here = Device(f"{platform.machine()} CPU, {os.cpu_count()} cores", "cpu")
    today = date.today().isoformat()
    return Provenance(Kind.LIVE, method, today, here, software("ray", *packages))


def _checked(store_mib: int, nodes: Sequence[Machine]) -> Any:
    """Ray, imported, when all is well for a start."""
    before = logging.root.manager.disable
    # In a notebook without ipywidgets Ray and tqdm say so when they are imported.
    logging.disable(logging.INFO)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="IProgress not found")
            import ray
    except ModuleNotFoundError as error:
        raise UsageError(
            "Ray is not installed.",
            "install the course's packages with `make setup` in its folder.",
        ) from error
    finally:
        logging.disable(before)
    if ray.is_initialized():
        raise UsageError(
            "This process is connected to a Ray already.",
            "stop that one first: leave its block, call its stop(), or call ray.shutdown().",
        )
    if threading.current_thread() is not threading.main_thread():
        raise UsageError(
            "Ray is to be started outside the main thread, and would end with this thread.",
            "start it in the main thread; other threads can use it.",
        )
    smallest = min([store_mib, *(each.store_mib for each in nodes)])
    if smallest < 75:
        raise UsageError(
            f"An object store of {smallest} MiB is smaller than Ray allows.", "give at least 75."
        )
    return ray


def _kill_daemons(node: Node) -> None:
    """SIGKILL to a node's processes, agents first: they report the death of their raylet."""
    import psutil

    found: list[psutil.Process] = []
    for each in [info for listed in node._handle.all_processes.values() for info in listed]:
        try:
            daemon = psutil.Process(each.process.pid)
            found += [*daemon.children(recursive=True), daemon]
        except psutil.NoSuchProcess:
            continue
    for process in found:
        with isolation.gone_is_fine():
            process.kill()
    for listed in node._handle.all_processes.values():
        for info in listed:
            info.process.wait()
