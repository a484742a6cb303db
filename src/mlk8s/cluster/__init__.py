"""Where it runs: the same few helpers on the embedded cluster and on a real one.

:func:`connect` finds the cluster, :func:`inventory` says what GPUs it has and who holds them,
:func:`why` says in plain words why a pod waits, :func:`run` runs a pod or job and cleans up.
"""

from mlk8s.cluster.connect import Connection, connect
from mlk8s.cluster.inventory import Inventory, inventory
from mlk8s.cluster.manifests import Manifest, gpu_job, gpu_pod
from mlk8s.cluster.why import Answer, why
from mlk8s.cluster.workloads import Result, run

__all__ = [
    "Answer",
    "Connection",
    "Inventory",
    "Manifest",
    "Result",
    "connect",
    "gpu_job",
    "gpu_pod",
    "inventory",
    "run",
    "why",
]
