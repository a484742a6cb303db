"""Where it runs: the same few helpers on the embedded cluster and on a real one.

:func:`connect` finds the cluster, :func:`inventory` says what GPUs it has and who holds them,
:func:`why` says in plain words why a pod waits, :func:`run` runs a pod or job and cleans up.
"""

from mlk8s.cluster.connect import attach, connect
from mlk8s.cluster.connection import Connection
from mlk8s.cluster.inventory import inventory
from mlk8s.cluster.manifests import Manifest, gpu_claim_template, gpu_job, gpu_pod
from mlk8s.cluster.report import Inventory
from mlk8s.cluster.why import Answer, Verdict, why
from mlk8s.cluster.workloads import Result, run

__all__ = [
    "Answer",
    "Connection",
    "Inventory",
    "Manifest",
    "Result",
    "Verdict",
    "attach",
    "connect",
    "gpu_claim_template",
    "gpu_job",
    "gpu_pod",
    "inventory",
    "run",
    "why",
]
