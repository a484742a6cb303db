"""A Kubernetes cluster that comes with pip: API server, scheduler, controllers, GPU nodes.

It stands alone: nothing here imports the rest of the library, and the rest reaches a running
cluster over HTTP only, as it would a real one.
"""

from mlk8s.sim.handle import Cluster, ClusterError

__all__ = ["Cluster", "ClusterError"]
