"""The few of an API server's metrics that mean something here, in Prometheus' text format."""

from __future__ import annotations

import resource
import sys
import time

from mlk8s.sim import discovery
from mlk8s.sim.simulator import Simulator

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_STARTED = time.time()


def exposition(simulator: Simulator, watches: int) -> str:
    """The answer to ``/metrics``.

    Args:
        simulator: the cluster.
        watches: how many watches are open.
    """
    store = simulator.api.store
    version = f'git_version="{discovery.GIT_VERSION}",major="1",minor="36"'
    used = resource.getrusage(resource.RUSAGE_SELF)
    # Linux counts in KiB, macOS in bytes.
    largest = used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    lines = [
        "# HELP apiserver_storage_objects [STABLE] Number of stored objects at the time of last "
        "check split by kind.",
        "# TYPE apiserver_storage_objects gauge",
        *(
            f'apiserver_storage_objects{{resource="{key}"}} {store.count(key)}'
            for key in sorted({one.key for one in simulator.api.registry})
        ),
        "# HELP apiserver_longrunning_requests [STABLE] Gauge of all active long-running "
        "apiserver requests.",
        "# TYPE apiserver_longrunning_requests gauge",
        f'apiserver_longrunning_requests{{verb="WATCH"}} {watches}',
        "# HELP kubernetes_build_info [BETA] A metric with a constant '1' value labeled by "
        "version of what is modeled.",
        "# TYPE kubernetes_build_info gauge",
        f"kubernetes_build_info{{{version}}} 1",
        "# HELP process_cpu_seconds_total Total user and system CPU time spent in seconds.",
        "# TYPE process_cpu_seconds_total counter",
        f"process_cpu_seconds_total {used.ru_utime + used.ru_stime:.2f}",
        "# HELP process_max_resident_memory_bytes Largest resident memory so far.",
        "# TYPE process_max_resident_memory_bytes gauge",
        f"process_max_resident_memory_bytes {largest}",
        "# HELP process_start_time_seconds Start time of the process since unix epoch in seconds.",
        "# TYPE process_start_time_seconds gauge",
        f"process_start_time_seconds {_STARTED:.2f}",
    ]
    return "\n".join(lines) + "\n"
