#!/usr/bin/env python3
"""Ray's autoscaler on a machine without a GPU: GPU nodes come for tasks, and go when idle.

The autoscaler and the nodes' daemons are Ray's own. What a cloud or KubeRay does, which is to make
a machine or a pod, is done by the provider of Ray's own tests (fake_multinode, ray 2.60), which
starts the daemons of another node here. The GPUs are logical: none need be there.

All of it runs in processes of its own, for about half a minute: they listen on the loopback
interface alone and require a token that only they know.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.provenance import Table
from mlk8s.raylocal import isolation

HOW = """\
  ./autoscale.py                      # 4 tasks of 3 s, one GPU each; 0 to 2 nodes and back
  ./autoscale.py --nodes 1            # the same tasks take turns on one node
  ./autoscale.py --idle-s 20          # nodes stay longer, in case more tasks come
  ./autoscale.py --csv nodes.csv      # all samples, for a plot

What happens, once a second (AUTOSCALER_UPDATE_INTERVAL_S; 5 s unless told otherwise):
  1. The autoscaler reads which tasks find no node with the resources they ask for.
  2. It packs them on nodes of the group, up to its maximum, and has the provider make those.
  3. It has nodes removed that have been idle for longer than the limit (idle_timeout_minutes).
Making a node takes about a second here, and minutes where a machine has to boot and an image to be
pulled: the time between "asked for" and "up" is what differs most in a real cluster.

On a busy machine a new node may be idle for longer than the limit before the process of its first
task is up. It is then replaced, and the number of nodes is above its maximum for a moment.

This Ray needs no fixed port, and joins or stops no other Ray. Where this process is connected to
one, it stays so.
"""
_GROUP = "gpu-group"
_EVERY_S = 0.2


def options() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        description="Scale a group of GPU nodes from zero and back, with Ray's autoscaler.",
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--tasks", type=int, default=4, help="each asks for one GPU (default 4)")
    add("--task-s", type=float, default=3, help="seconds that a task runs (default 3)")
    add("--nodes", type=int, default=2, help="at most, with a GPU each (default 2)")
    add("--idle-s", type=float, default=5, help="an idle node goes after so long (default 5)")
    add("--csv", type=Path, metavar="FILE", help="write all samples")
    return parser


def measure(
    *,
    tasks: int = 4,
    task_s: float = 3.0,
    nodes: int = 2,
    idle_s: float = 5.0,
    said: Callable[[str], object] | None = None,
) -> Table:
    """Submit tasks to a cluster without a GPU node, and watch until the last node has gone.

    Args:
        tasks: number of tasks, each with one GPU.
        task_s: how long each runs, s.
        nodes: of the group, at most.
        idle_s: an idle node is removed after so long, s.
        said: is told of each event when it happens.

    Returns:
        A row for each sample (five a second) and for each event: seconds since the tasks were
        submitted; tasks that wait for a GPU, run and are done; nodes and GPUs beside the head; and
        the event, ``None`` between two. Every task is in one of the three columns.

    Raises:
        UsageError: an argument is out of range.
        Mlk8sError: Ray does not start, or nodes do not come and go within three minutes.
    """
    for name, value, least in (
        ("tasks", tasks, 1),
        ("nodes", nodes, 1),
        ("task_s", task_s, 0),
        ("idle_s", idle_s, 1),
    ):
        if value < least:
            raise UsageError(f"{name} = {value:g} cannot be.", f"give at least {least}.")
    asked = {"tasks": tasks, "task_s": task_s, "nodes": nodes, "idle_s": idle_s}
    samples: list[dict[str, Any]] = []
    spans: list[tuple[float, float]] = []
    for last in (False, True):
        try:
            with _driver(asked) as lines:
                for line in lines:
                    if "spans" in line:
                        spans = line["spans"]
                        continue
                    samples.append(line)
                    if said is not None and line["event"]:
                        said(f"{line['at']:5.1f} s  {line['event']}")
            break
        except Mlk8sError:
            # A raylet ends when its agents are not up in 15 s, which happens on a busy machine.
            if last or samples:
                raise
    method = (
        f"the driver's samples of Ray's node table every {_EVERY_S:g} s and of the autoscaler's "
        "status; tasks by their own clocks"
    )
    return Table(
        _rows(samples, spans),
        raylocal.provenance(method),
        title=f"{tasks} tasks with a GPU each, and a group of 0 to {nodes} GPU nodes",
    )


def events(found: Table) -> Table:
    """The rows of a measurement in which something happened."""
    rows = [row for row in found if row["event"]]
    return Table(rows, *found.provenance, title=found.title)


def _rows(samples: list[dict[str, Any]], spans: list[tuple[float, float]]) -> list[dict[str, Any]]:
    """Samples of nodes, and starts and ends of tasks, put together."""
    out = []
    for sample in samples:
        at = sample["at"]
        begun = sum(start <= at for start, _ in spans)
        done = sum(end <= at for _, end in spans)
        out.append(
            {
                "time [s]": round(at, 2),
                "waiting [tasks]": len(spans) - begun,
                "running [tasks]": begun - done,
                "done [tasks]": done,
                "nodes": sample["nodes"],
                "GPUs": sample["gpus"],
                "event": sample["event"],
            }
        )
    return out


@contextmanager
def _driver(asked: dict[str, Any]) -> Iterator[Iterator[dict[str, Any]]]:
    """This script in a process of its own, which is connected to the Ray that it starts.

    All processes carry the mark of one folder. They are ended and the folder is removed when the
    block is left, and by the guard when this process is killed.

    Yields:
        What it reports, as it does.
    """
    script = str(Path(__file__).resolve())
    folder = Path(tempfile.mkdtemp(prefix="mlk8s-ray-", dir=isolation.base()))
    with ExitStack() as stack:
        stack.callback(isolation.remove, folder)
        isolation.guarded(folder, stack)
        errors = stack.enter_context((folder / "stderr").open("w+"))
        with isolation.marked(folder):
            process = subprocess.Popen(
                [sys.executable, script, "--driver", str(folder), json.dumps(asked)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                start_new_session=True,  # Ctrl-C in a terminal is for its parent, which ends it
            )
        stack.callback(process.wait)
        stack.callback(process.kill)

        def lines() -> Iterator[dict[str, Any]]:
            assert process.stdout is not None
            with process.stdout:
                for line in process.stdout:
                    # Ray may print there as well.
                    if line.startswith("{"):
                        yield json.loads(line)
            if process.wait() != 0:
                errors.seek(0)
                said = ([line for line in errors.read().splitlines() if line] or ["no word"])[-1]
                raise Mlk8sError(
                    f"The experiment with the autoscaler ended early: {said}",
                    "run it again on a machine with less load; it uses what ray 2.60 has.",
                )

        yield lines()


def _run(folder: Path, asked: dict[str, Any]) -> None:
    """The driver's process: start a head, submit, report; its parent ends what it started."""
    # Before Ray is imported, which reads them then; its processes inherit them.
    isolation.put(
        {
            "AUTOSCALER_UPDATE_INTERVAL_S": "1",
            "RAY_FAKE_CLUSTER": "1",  # the provider refuses to work without
            # As on Windows and macOS: nodes without an address of their own listen on the loopback
            # interface alone.
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
        }
    )
    with ExitStack() as stack:
        isolation.environment(stack)
        gcs_address = _start(folder, asked["nodes"], asked["idle_s"])
        import ray

        ray.init(gcs_address, log_to_driver=False, logging_level="ERROR", _temp_dir=str(folder))
        _watch(asked["tasks"], asked["task_s"])


def _start(folder: Path, nodes: int, idle_s: float) -> str:
    """A head without a GPU, and then the autoscaler; the head's address."""
    from ray._private.node import Node
    from ray._private.parameter import RayParams

    parameters = RayParams(
        num_cpus=1,
        num_gpus=0,
        object_store_memory=raylocal.STORE_MIB * raylocal.MIB,
        temp_dir=str(folder),
        node_manager_port=0,
        min_worker_port=0,
        max_worker_port=0,
        include_dashboard=False,
        no_monitor=True,  # it would start before the head's port is known
    )
    head = Node(parameters, head=True, shutdown_at_exit=False, spawn_reaper=True)
    config = folder / "autoscaling.json"
    config.write_text(json.dumps(_config(head.gcs_address, nodes, idle_s)))
    parameters.autoscaling_config = str(config)
    head.start_monitor()
    return str(head.gcs_address)


def _config(gcs_address: str, nodes: int, idle_s: float) -> dict[str, Any]:
    """What the autoscaler reads; a cluster's YAML file has the same fields."""
    group = {"CPU": 1, "GPU": 1, "object_store_memory": raylocal.STORE_MIB * raylocal.MIB}
    commands = (
        "initialization_commands",
        "setup_commands",
        "head_setup_commands",
        "worker_setup_commands",
        "head_start_ray_commands",
        "worker_start_ray_commands",
        "cluster_synced_files",
        "rsync_exclude",
        "rsync_filter",
    )
    return {
        "cluster_name": "autoscale",
        "provider": {
            "type": "fake_multinode",
            "gcs_address": gcs_address,  # or the provider takes port 6379
            "launch_multiple": True,  # or one node in a round, whatever was asked for
            "use_node_id_as_ip": True,  # all nodes have the same address
            "disable_node_updaters": True,  # nothing to install on them
            "disable_launch_config_check": True,
        },
        "available_node_types": {
            "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "max_workers": 0},
            _GROUP: {
                "resources": group,
                "node_config": {},
                "min_workers": 0,
                "max_workers": nodes,
            },
        },
        "head_node_type": "ray.head.default",
        "max_workers": nodes,
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": idle_s / 60,
        "auth": {},
        "docker": {},
        "file_mounts": {},
        "file_mounts_sync_continuously": False,
        **{name: [] for name in commands},
    }


def _watch(tasks: int, task_s: float, limit_s: float = 180) -> None:
    """Submit the tasks and report until they are done and the nodes have gone."""
    import ray

    def step(seconds: float) -> tuple[float, float]:
        begun = time.time()
        time.sleep(seconds)
        return begun, time.time()

    remote = ray.remote(num_gpus=1, num_cpus=0)(step)
    start = time.time()
    rest = [remote.remote(task_s) for _ in range(tasks)]
    spans: list[tuple[float, float]] = []
    up = now_wanted = 0
    _report(0.0, 0, 0, f"{tasks} tasks submitted")
    while rest or up:
        if time.time() - start > limit_s:
            raise Mlk8sError(
                f"After {limit_s:g} s {len(rest)} tasks were not done and {up} nodes up.",
                "try again on a machine with less load.",
            )
        done: list[Any] = []
        if rest:
            done, rest = ray.wait(rest, num_returns=len(rest), timeout=_EVERY_S)
            spans += [(begun - start, end - start) for begun, end in ray.get(done)]
        else:
            time.sleep(_EVERY_S)
        # Before the nodes are read: no task starts on a node that is not there yet.
        at = time.time() - start
        wanted, now_wanted = now_wanted, _wanted()
        table: Any = ray.nodes  # without types
        alive = [node for node in table() if node["Alive"]]
        gpus = sum(int(node["Resources"].get("GPU", 0)) for node in alive)
        before, up = up, len(alive) - 1
        happened = []
        if now_wanted > wanted:
            happened.append(_nodes(now_wanted - wanted, "asked for"))
        if up != before:
            happened.append(_nodes(abs(up - before), "up" if up > before else "gone"))
        if done and not rest:
            happened.append("last task done")
        _report(at, up, gpus, "; ".join(happened) or None)
    print(json.dumps({"spans": spans}), flush=True)


def _wanted() -> int:
    """Nodes that are there or asked for, by the autoscaler's last status."""
    from ray._private.ray_constants import DEBUG_AUTOSCALING_STATUS
    from ray.experimental.internal_kv import _internal_kv_get

    read: Any = _internal_kv_get  # without types
    status = json.loads(read(DEBUG_AUTOSCALING_STATUS) or "{}")
    report = status.get("autoscaler_report")
    if not report:
        return 0
    launches: dict[str, int] = report["pending_launches"]
    there: dict[str, int] = report["active_nodes"]
    return sum(launches.values()) + len(report["pending_nodes"]) + there.get(_GROUP, 0)


def _nodes(count: int, what: str) -> str:
    return f"{count} {'node' if count == 1 else 'nodes'} {what}"


def _report(at: float, nodes: int, gpus: int, event: str | None) -> None:
    print(json.dumps({"at": at, "nodes": nodes, "gpus": gpus, "event": event}), flush=True)


def main() -> int:
    """The command."""
    if sys.argv[1:2] == ["--driver"]:
        try:
            _run(Path(sys.argv[2]), json.loads(sys.argv[3]))
        except Mlk8sError as error:
            print(error.problem, file=sys.stderr)
            return 1
        return 0
    chosen = options().parse_args()
    try:
        found = measure(
            tasks=chosen.tasks,
            task_s=chosen.task_s,
            nodes=chosen.nodes,
            idle_s=chosen.idle_s,
            said=lambda line: print(line, file=sys.stderr),
        )
        if chosen.csv:
            found.frame().to_csv(chosen.csv, index=False)
    except Mlk8sError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        print(f"error: {chosen.csv} cannot be written: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; Ray has been stopped", file=sys.stderr)
        return 130
    print(events(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
