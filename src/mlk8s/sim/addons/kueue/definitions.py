"""Kueue's CustomResourceDefinitions: names and table columns of ``v1beta2`` at v0.19.2."""

from __future__ import annotations

from mlk8s.sim.addons.definitions import definition
from mlk8s.sim.addons.kueue import schemas
from mlk8s.sim.addons.kueue.names import GROUP, VERSION
from mlk8s.sim.status import Object


def definitions() -> list[Object]:
    """The five definitions; :mod:`mlk8s.sim.addons` marks them as a model."""
    return [
        _definition("ResourceFlavor", "flavor flavors rf", False, schemas.flavor()),
        _definition("ClusterQueue", "cq", False, schemas.cluster_queue(), _CLUSTER_QUEUE_COLUMNS),
        _definition(
            "LocalQueue", "queue queues lq", True, schemas.local_queue(), _LOCAL_QUEUE_COLUMNS
        ),
        _definition(
            "Workload",
            "kwl kueueworkload kueueworkloads",
            True,
            schemas.workload(),
            _WORKLOAD_COLUMNS,
        ),
        _definition("WorkloadPriorityClass", "wpc", False, schemas.priority(), _PRIORITY_COLUMNS),
    ]


# -- tables: name, type, path, description, priority ----------------------------------------------

_Column = tuple[str, str, str, str, int]
_CLUSTER_QUEUE_COLUMNS: tuple[_Column, ...] = (
    ("Cohort", "string", ".spec.cohortName", "Cohort that this ClusterQueue belongs to", 0),
    (
        "Strategy",
        "string",
        ".spec.queueingStrategy",
        "The queueing strategy used to prioritize workloads",
        1,
    ),
    (
        "Pending Workloads",
        "integer",
        ".status.pendingWorkloads",
        "Number of pending workloads",
        0,
    ),
    (
        "Admitted Workloads",
        "integer",
        ".status.admittedWorkloads",
        "Number of admitted workloads that haven't finished yet",
        1,
    ),
)
_LOCAL_QUEUE_COLUMNS: tuple[_Column, ...] = (
    ("ClusterQueue", "string", ".spec.clusterQueue", "Backing ClusterQueue", 0),
    (
        "Pending Workloads",
        "integer",
        ".status.pendingWorkloads",
        "Number of pending workloads",
        0,
    ),
    (
        "Admitted Workloads",
        "integer",
        ".status.admittedWorkloads",
        "Number of admitted workloads that haven't finished yet.",
        0,
    ),
)
_WORKLOAD_COLUMNS: tuple[_Column, ...] = (
    ("Queue", "string", ".spec.queueName", "Name of the queue this workload was submitted to", 0),
    (
        "Reserved in",
        "string",
        ".status.admission.clusterQueue",
        "Name of the ClusterQueue where the workload is reserving quota",
        0,
    ),
    (
        "Admitted",
        "string",
        ".status.conditions[?(@.type=='Admitted')].status",
        "Admission status",
        0,
    ),
    (
        "Finished",
        "string",
        ".status.conditions[?(@.type=='Finished')].status",
        "Workload finished",
        0,
    ),
    (
        "Age",
        "date",
        ".metadata.creationTimestamp",
        "Time this workload was created",
        0,
    ),
)
_PRIORITY_COLUMNS: tuple[_Column, ...] = (
    ("Value", "integer", ".value", "Value of workloadPriorityClass's Priority", 0),
)


def _definition(
    kind: str, short: str, namespaced: bool, parts: Object, columns: tuple[_Column, ...] = ()
) -> Object:
    plural = "workloadpriorityclasses" if kind == "WorkloadPriorityClass" else f"{kind.lower()}s"
    schema: Object = {"type": "object", "properties": parts}
    required = {"WorkloadPriorityClass": ["value"], "Workload": ["spec"]}
    if kind in required:
        schema["required"] = required[kind]
    return definition(
        f"{plural}.{GROUP}",
        kind,
        VERSION,
        schema,
        namespaced=namespaced,
        columns=[_column(*column) for column in columns],
        status="status" in parts,
        short=short.split(),
    )


def _column(name: str, kind: str, path: str, description: str, priority: int) -> Object:
    found: Object = {"name": name, "type": kind, "jsonPath": path, "description": description}
    return found | ({"priority": priority} if priority else {})
