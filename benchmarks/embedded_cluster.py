"""How fast the embedded cluster is, and how its cost grows with nodes and pods.

Every step runs against a cluster in a process of its own, over HTTPS. The baseline is measured in
the same run where there is one; the published figures beside it are KWOK's and kube-scheduler's.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import platform
import ssl
import statistics
import subprocess
import sys
import time
import tracemalloc
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from datetime import date
from importlib.metadata import version
from pathlib import Path
from typing import Any

import aiohttp
import psutil
from _common import run, stored

from mlk8s.cluster import inventory
from mlk8s.cluster.connect import attach
from mlk8s.provenance import Device, Kind, Provenance, Table
from mlk8s.sim import Cluster

RESULTS = Path(__file__).with_suffix(".json")
#: (nodes, pods) of the growing cluster.
SIZES = ((500, 5_000), (1_000, 10_000), (2_500, 25_000), (5_000, 50_000))
SCHEDULED_AT = (100, 1_000, 5_000)
STARTS = 5
PODS = 1_000
WATCHERS = 100
#: https://github.com/kubernetes-sigs/kwok#why-kwok: "20 nodes or pods per second".
KWOK = 20
#: kubernetes/kubernetes test/integration/scheduler_perf/README.md: threshold of
#: SchedulingBasic/5000Nodes_10000Pods.
KUBE_SCHEDULER = 270
_AT_A_TIME = 32


class Load:
    """Many requests at a time to one cluster."""

    def __init__(self, cluster: Cluster, session: aiohttp.ClientSession) -> None:
        self.cluster = cluster
        self.session = session

    async def send(self, method: str, path: str, body: Any = None, kind: str = "json") -> Any:
        """One request; an answer that is not a success is an error."""
        headers = {"Content-Type": f"application/{kind}"}
        async with self.session.request(
            method, self.cluster.url + path, data=json.dumps(body), headers=headers
        ) as answer:
            answer.raise_for_status()
            return await answer.read()

    async def all(self, requests: Iterable[tuple[Any, ...]]) -> None:
        """Send requests, so many at a time."""
        waiting = iter(requests)

        async def worker() -> None:
            for request in waiting:
                await self.send(*request)

        await asyncio.gather(*(worker() for _ in range(_AT_A_TIME)))


@asynccontextmanager
async def load(cluster: Cluster) -> AsyncIterator[Load]:
    """A session with the cluster's certificate and token."""
    context = ssl.create_default_context(cafile=str(cluster.directory / "ca.crt"))
    connector = aiohttp.TCPConnector(ssl=context, limit=0)
    headers = {"Authorization": f"Bearer {cluster.token}"}
    timeout = aiohttp.ClientTimeout(total=None)
    async with aiohttp.ClientSession(
        connector=connector, headers=headers, timeout=timeout
    ) as session:
        yield Load(cluster, session)


def node(index: int) -> dict[str, Any]:
    """A Node with eight GPUs, made through the API: it has no kubelet."""
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": f"node-{index:05}",
            "labels": {
                "kubernetes.io/hostname": f"node-{index:05}",
                "nvidia.com/gpu.present": "true",
                "nvidia.com/gpu.product": "NVIDIA-H100-80GB-HBM3",
            },
        },
    }


AMOUNTS = {"cpu": "64", "memory": "512Gi", "pods": "110", "nvidia.com/gpu": "8"}
READY = {
    "capacity": AMOUNTS,
    "allocatable": AMOUNTS,
    "conditions": [{"type": "Ready", "status": "True", "reason": "KubeletReady"}],
}


def pod(index: int, where: str = "", image: str = "pause") -> dict[str, Any]:
    """A pod that asks for a GPU; ``where`` binds it at once."""
    limits = {"cpu": "1", "memory": "1Gi", "nvidia.com/gpu": "1"}
    container = {"name": "main", "image": image, "resources": {"limits": limits}}
    spec: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if where:
        spec["nodeName"] = where
    metadata = {"name": f"pod-{index:05}", "labels": {"app": "load"}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


async def add_nodes(to: Load, numbers: range) -> None:
    """Create Nodes that are ready."""
    await to.all(("POST", "/api/v1/nodes", node(i)) for i in numbers)
    untainted: dict[str, Any] = {"spec": {"taints": []}}
    patch = "merge-patch+json"
    for i in numbers:
        path = f"/api/v1/nodes/node-{i:05}"
        await to.send("PATCH", f"{path}/status", {"status": READY}, patch)
        await to.send("PATCH", path, untainted, patch)


async def quiet(to: Load) -> None:
    """Wait until the cluster has done all that it has to do."""
    idle = 0
    while idle < 5:
        status = json.loads(await to.send("GET", "/mlk8s/status"))
        idle = idle + 1 if status["idle"] else 0
        await asyncio.sleep(0.2)


PODS_PATH = "/api/v1/namespaces/default/pods"


def start_up() -> list[dict[str, Any]]:
    """From the call to the first answer, and a bare interpreter beside it."""
    ours, bare = [], []
    for _ in range(STARTS):
        began = time.perf_counter()
        with Cluster("none") as cluster:
            cluster.status()
            ours.append(time.perf_counter() - began)
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import aiohttp"], check=True)
        bare.append(time.perf_counter() - began)
    return [
        row("start-up to the first answer", statistics.median(ours), "s", "< 1 s"),
        row("baseline: an interpreter that imports aiohttp", statistics.median(bare), "s", ""),
    ]


async def life_of_pods() -> list[dict[str, Any]]:
    """Pods created, scheduled, run as a recorded log, and finished."""
    image = "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0"
    with Cluster("h100x8*125") as cluster:
        async with load(cluster) as to:
            # The operands of 125 GPU nodes are pods too; they run before the clock does.
            await quiet(to)
            began = time.perf_counter()
            await to.all(("POST", PODS_PATH, pod(i, image=image)) for i in range(PODS))
            created = time.perf_counter() - began
            done = f"{PODS_PATH}?fieldSelector=status.phase%3DSucceeded"
            while True:
                page = json.loads(await to.send("GET", done))
                if len(page["items"]) == PODS:
                    break
                await asyncio.sleep(0.1)
            finished = time.perf_counter() - began
    return [
        row(f"{PODS:,} pods created", created, "s", ""),
        row(f"{PODS:,} pods created, scheduled and finished", finished, "s", ""),
        row("the same as a rate", PODS / finished, "pods/s", f"KWOK: {KWOK} pods/s"),
    ]


async def growth() -> list[dict[str, Any]]:
    """Lists and inventory of a cluster that grows."""
    rows = []
    nodes = pods = 0
    with Cluster("none") as cluster:
        server = psutil.Process(cluster.pid)
        connection = attach(cluster)
        async with load(cluster) as to:
            for wanted_nodes, wanted_pods in SIZES:
                await add_nodes(to, range(nodes, wanted_nodes))
                await to.all(
                    ("POST", PODS_PATH, pod(i, f"node-{i % wanted_nodes:05}"))
                    for i in range(pods, wanted_pods)
                )
                nodes, pods = wanted_nodes, wanted_pods
                await quiet(to)
                times = []
                for _ in range(3):
                    began = time.perf_counter()
                    body = await to.send("GET", "/api/v1/pods")
                    times.append(time.perf_counter() - began)
                listed = statistics.median(times)
                tracemalloc.start()
                began = time.perf_counter()
                found = inventory(connection)
                counted = time.perf_counter() - began
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                requested = found.totals()["nvidia.com/gpu"].requested
                assert requested == wanted_pods, requested
                rows.append(
                    {
                        "nodes": nodes,
                        "pods": pods,
                        "list of pods [s]": listed,
                        "list of pods [MB]": len(body) / 1e6,
                        "inventory [s]": counted,
                        "inventory, peak memory [MB]": peak / 1e6,
                        "server, memory [MB]": server.memory_info().rss / 1e6,
                    }
                )
                print(f"  {nodes:,} nodes, {pods:,} pods", file=sys.stderr)
    return rows


async def watch_latency() -> list[dict[str, Any]]:
    """From a change's answer to its arrival at each of many watches."""
    arrivals: dict[str, list[float]] = {}
    with Cluster("none") as cluster:
        async with load(cluster) as to:
            ready = asyncio.Event()
            opened = 0

            async def watch() -> None:
                nonlocal opened
                path = "/api/v1/namespaces/default/configmaps?watch=true&resourceVersion=0"
                async with to.session.get(to.cluster.url + path) as stream:
                    opened += 1
                    if opened == WATCHERS:
                        ready.set()
                    async for line in stream.content:
                        event = json.loads(line)
                        name = event["object"]["metadata"]["name"]
                        arrivals.setdefault(name, []).append(time.perf_counter())

            watches = [asyncio.create_task(watch()) for _ in range(WATCHERS)]
            await ready.wait()
            await asyncio.sleep(0.5)
            sent = {}
            for i in range(50):
                name = f"change-{i}"
                body = {"metadata": {"name": name}}
                sent[name] = time.perf_counter()
                await to.send("POST", "/api/v1/namespaces/default/configmaps", body)
                await asyncio.sleep(0.05)
            await asyncio.sleep(0.5)
            for task in watches:
                task.cancel()
            await asyncio.gather(*watches, return_exceptions=True)
    delays = sorted(t - sent[name] for name in sent for t in arrivals[name])
    assert len(delays) == 50 * WATCHERS, len(delays)
    return [
        row(
            f"a change seen by {WATCHERS} watches, median", 1e3 * delays[len(delays) // 2], "ms", ""
        ),
        row("the same, 99th percentile", 1e3 * delays[int(len(delays) * 0.99)], "ms", ""),
    ]


async def scheduling() -> list[dict[str, Any]]:
    """Pods from creation to their binding, on more and more nodes."""
    rows = []
    for nodes in SCHEDULED_AT:
        count = min(PODS, nodes * 8)
        with Cluster("none") as cluster:
            async with load(cluster) as to:
                await add_nodes(to, range(nodes))
                await quiet(to)
                began = time.perf_counter()
                await to.all(("POST", PODS_PATH, pod(i)) for i in range(count))
                unbound = f"{PODS_PATH}?fieldSelector=spec.nodeName%3D"
                while json.loads(await to.send("GET", unbound))["items"]:
                    await asyncio.sleep(0.1)
                took = time.perf_counter() - began
        rows.append(
            {
                "nodes": nodes,
                "pods": count,
                "pods/s": count / took,
                "kube-scheduler's CI threshold [pods/s]": KUBE_SCHEDULER
                if nodes == 5_000
                else None,
            }
        )
        print(f"  {nodes:,} nodes: {count / took:.0f} pods/s", file=sys.stderr)
    return rows


def row(figure: str, value: float, unit: str, beside: str) -> dict[str, Any]:
    """One figure with what stands beside it."""
    return {"figure": figure, "value": value, "unit": unit, "beside it": beside or None}


def exponent(rows: list[dict[str, Any]], figure: str) -> float:
    """How a figure grows with the pods: 1 is in proportion, 2 with their square."""
    first, last = rows[0], rows[-1]
    return math.log(last[figure] / first[figure]) / math.log(last["pods"] / first["pods"])


def tables(results: dict[str, Any]) -> list[Table]:
    """The results as tables with their origin."""
    origin = results["origin"]
    provenance = Provenance(
        Kind(origin["kind"]),
        "wall clock of a client beside the cluster's process, over HTTPS on loopback",
        date=origin["date"],
        device=Device(origin["cpu"], "cpu"),
        software=origin["software"],
    )
    grown = results["growth"]
    measured = [name for name in grown[0] if name not in ("nodes", "pods")]
    growing = [
        {"figure": name, "grows with the pods to the power of": exponent(grown, name)}
        for name in measured
    ]
    return [
        Table(results["single"], provenance, title="One cluster"),
        Table(grown, provenance, title="A cluster that grows"),
        Table(growing, provenance, title="How it grows: 1 is in proportion"),
        Table(results["scheduling"], provenance, title="Scheduling"),
    ]


def measure() -> dict[str, Any]:
    """All steps."""
    single = start_up()
    single += asyncio.run(life_of_pods())
    single += asyncio.run(watch_latency())
    return {
        "single": single,
        "growth": asyncio.run(growth()),
        "scheduling": asyncio.run(scheduling()),
        "origin": {
            "kind": "live",
            "cpu": f"{psutil.cpu_count()} cores of {_cpu()}",
            "date": date.today().isoformat(),
            "software": {
                "Python": platform.python_version(),
                "aiohttp": version("aiohttp"),
                "mlk8s": version("mlk8s"),
            },
        },
    }


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def recorded() -> dict[str, Any]:
    """What ``--record`` has stored."""
    return stored(RESULTS)


def main() -> int:
    """Measure, print, and store if asked to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--record", action="store_true", help=f"write the results to {RESULTS.name} beside this"
    )
    arguments = parser.parse_args()
    results = measure()
    if arguments.record:
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
    print(*tables(results), sep="\n\n")
    return 0


if __name__ == "__main__":
    run(main)
