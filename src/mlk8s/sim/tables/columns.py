"""The columns of each resource's table.

They are those of ``pkg/printers/internalversion/printers.go``. A description after ``@`` is that
of a field in the published schemas, which is where the server takes it from, too.
"""

# ruff: noqa: E501  (the table holds the server's sentences whole)
from __future__ import annotations

from functools import cache

from mlk8s.sim.schema import named
from mlk8s.sim.status import Object

_METADATA = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
_WIDE = """
    Containers* | string | Names of each container in the template.
    Images* | string | Images referenced by each container in the template.
"""
# name | type | description; a star marks what only -o wide shows. Every table begins with the
# name, but that of events.
_TABLES = {
    "pods": """
        Ready | string | The aggregate readiness state of this pod for accepting traffic.
        Status | string | The aggregate status of the containers in this pod.
        Restarts | string | The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.
        Age
        IP* | string | @core.v1.PodStatus.podIP
        Node* | string | @core.v1.PodSpec.nodeName
        Nominated Node* | string | @core.v1.PodStatus.nominatedNodeName
        Readiness Gates* | string | @core.v1.PodSpec.readinessGates
        """,
    "podtemplates": """
        Containers | string | Names of each container in the template.
        Images | string | Images referenced by each container in the template.
        Pod Labels | string | The labels for the pod template.
        """,
    "nodes": """
        Status | string | The status of the node
        Roles | string | The roles of the node
        Age
        Version | string | @core.v1.NodeSystemInfo.kubeletVersion
        Internal-IP* | string | @core.v1.NodeStatus.addresses
        External-IP* | string | @core.v1.NodeStatus.addresses
        OS-Image* | string | @core.v1.NodeSystemInfo.osImage
        Kernel-Version* | string | @core.v1.NodeSystemInfo.kernelVersion
        Container-Runtime* | string | @core.v1.NodeSystemInfo.containerRuntimeVersion
        """,
    "namespaces": """
        Status | string | The status of the namespace
        Age
        """,
    "configmaps": """
        Data | string | @core.v1.ConfigMap.data
        Age
        """,
    "secrets": """
        Type | string | @core.v1.Secret.type
        Data | string | @core.v1.Secret.data
        Age
        """,
    "serviceaccounts": """
        Secrets | string | @core.v1.ServiceAccount.secrets
        Age
        """,
    "resourcequotas": """
        Request | string | Request represents a minimum amount of cpu/memory that a container may consume.
        Limit | string | Limits control the maximum amount of cpu/memory that a container may use independent of contention on the node.
        Age
        """,
    "persistentvolumes": """
        Capacity | string | @core.v1.PersistentVolumeSpec.capacity
        Access Modes | string | @core.v1.PersistentVolumeSpec.accessModes
        Reclaim Policy | string | @core.v1.PersistentVolumeSpec.persistentVolumeReclaimPolicy
        Status | string | @core.v1.PersistentVolumeStatus.phase
        Claim | string | @core.v1.PersistentVolumeSpec.claimRef
        StorageClass | string | StorageClass of the pv
        VolumeAttributesClass | string | VolumeAttributesClass of the pv
        Reason | string | @core.v1.PersistentVolumeStatus.reason
        Age
        VolumeMode* | string | @core.v1.PersistentVolumeSpec.volumeMode
        """,
    "persistentvolumeclaims": """
        Status | string | @core.v1.PersistentVolumeClaimStatus.phase
        Volume | string | @core.v1.PersistentVolumeClaimSpec.volumeName
        Capacity | string | @core.v1.PersistentVolumeClaimStatus.capacity
        Access Modes | string | @core.v1.PersistentVolumeClaimStatus.accessModes
        StorageClass | string | StorageClass of the pvc
        VolumeAttributesClass | string | VolumeAttributesClass of the pvc
        Age
        VolumeMode* | string | @core.v1.PersistentVolumeClaimSpec.volumeMode
        """,
    "services": """
        Type | string | @core.v1.ServiceSpec.type
        Cluster-IP | string | @core.v1.ServiceSpec.clusterIP
        External-IP | string | @core.v1.ServiceSpec.externalIPs
        Port(s) | string | @core.v1.ServiceSpec.ports
        Age
        Selector* | string | @core.v1.ServiceSpec.selector
        """,
    "endpoints": """
        Endpoints | string | @core.v1.Endpoints.subsets
        Age
        """,
    "events": """
        Last Seen | string | @core.v1.Event.lastTimestamp
        Type | string | @core.v1.Event.type
        Reason | string | @core.v1.Event.reason
        Object | string | @core.v1.Event.involvedObject
        Subobject* | string | @core.v1.ObjectReference.fieldPath
        Source* | string | @core.v1.Event.source
        Message | string | @core.v1.Event.message
        First Seen* | string | @core.v1.Event.firstTimestamp
        Count* | string | @core.v1.Event.count
        Name*
        """,
    "replicationcontrollers": f"""
        Desired | integer | @core.v1.ReplicationControllerSpec.replicas
        Current | integer | @core.v1.ReplicationControllerStatus.replicas
        Ready | integer | @core.v1.ReplicationControllerStatus.readyReplicas
        Age
        {_WIDE}
        Selector* | string | @core.v1.ReplicationControllerSpec.selector
        """,
    "replicasets.apps": f"""
        Desired | integer | @apps.v1.ReplicaSetSpec.replicas
        Current | integer | @apps.v1.ReplicaSetStatus.replicas
        Ready | integer | @apps.v1.ReplicaSetStatus.readyReplicas
        Age
        {_WIDE}
        Selector* | string | @apps.v1.ReplicaSetSpec.selector
        """,
    "deployments.apps": f"""
        Ready | string | Number of the pod with ready state
        Up-to-date | string | @apps.v1.DeploymentStatus.updatedReplicas
        Available | string | @apps.v1.DeploymentStatus.availableReplicas
        Age
        {_WIDE}
        Selector* | string | @apps.v1.DeploymentSpec.selector
        """,
    "statefulsets.apps": f"""
        Ready | string | Number of the pod with ready state
        Age
        {_WIDE}
        """,
    "daemonsets.apps": f"""
        Desired | integer | @apps.v1.DaemonSetStatus.desiredNumberScheduled
        Current | integer | @apps.v1.DaemonSetStatus.currentNumberScheduled
        Ready | integer | @apps.v1.DaemonSetStatus.numberReady
        Up-to-date | integer | @apps.v1.DaemonSetStatus.updatedNumberScheduled
        Available | integer | @apps.v1.DaemonSetStatus.numberAvailable
        Node Selector | string | @core.v1.PodSpec.nodeSelector
        Age
        {_WIDE}
        Selector* | string | @apps.v1.DaemonSetSpec.selector
        """,
    "controllerrevisions.apps": """
        Controller | string | Controller of the object
        Revision | string | @apps.v1.ControllerRevision.revision
        Age
        """,
    "jobs.batch": f"""
        Status | string | Status of the job.
        Completions | string | @batch.v1.JobStatus.succeeded
        Duration | string | Time required to complete the job.
        Age
        {_WIDE}
        Selector* | string | @batch.v1.JobSpec.selector
        """,
    "cronjobs.batch": f"""
        Schedule | string | @batch.v1.CronJobSpec.schedule
        Timezone | string | @batch.v1.CronJobSpec.timeZone
        Suspend | boolean | @batch.v1.CronJobSpec.suspend
        Active | integer | @batch.v1.CronJobStatus.active
        Last Schedule | string | @batch.v1.CronJobStatus.lastScheduleTime
        Age
        {_WIDE}
        Selector* | string | @batch.v1.JobSpec.selector
        """,
    "horizontalpodautoscalers.autoscaling": """
        Reference | string | @autoscaling.v2.HorizontalPodAutoscalerSpec.scaleTargetRef
        Targets | string | @autoscaling.v2.HorizontalPodAutoscalerSpec.metrics
        MinPods | string | @autoscaling.v2.HorizontalPodAutoscalerSpec.minReplicas
        MaxPods | string | @autoscaling.v2.HorizontalPodAutoscalerSpec.maxReplicas
        Replicas | string | @autoscaling.v2.HorizontalPodAutoscalerStatus.currentReplicas
        Age
        """,
    "leases.coordination.k8s.io": """
        Holder | string | @coordination.v1.LeaseSpec.holderIdentity
        Age
        """,
    "endpointslices.discovery.k8s.io": """
        AddressType | string | @discovery.v1.EndpointSlice.addressType
        Ports | string | @discovery.v1.EndpointSlice.ports
        Endpoints | string | @discovery.v1.EndpointSlice.endpoints
        Age
        """,
    "ingresses.networking.k8s.io": """
        Class | string | The name of the IngressClass resource that should be used for additional configuration
        Hosts | string | Hosts that incoming requests are matched against before the ingress rule
        Address | string | Address is a list containing ingress points for the load-balancer
        Ports | string | Ports of TLS configurations that open
        Age
        """,
    "ingressclasses.networking.k8s.io": """
        Controller | string | Controller that is responsible for handling this class
        Parameters | string | A reference to a resource with additional parameters
        Age
        """,
    "networkpolicies.networking.k8s.io": """
        Pod-Selector | string | @networking.v1.NetworkPolicySpec.podSelector
        Age
        """,
    "runtimeclasses.node.k8s.io": """
        Handler | string |
        Age
        """,
    "poddisruptionbudgets.policy": """
        Min Available | string | The minimum number of pods that must be available.
        Max Unavailable | string | The maximum number of pods that may be unavailable.
        Allowed Disruptions | integer | Calculated number of pods that may be disrupted at this time.
        Age
        """,
    "rolebindings.rbac.authorization.k8s.io": """
        Role | string | @rbac.v1.RoleBinding.roleRef
        Age
        Users* | string | Users in the roleBinding
        Groups* | string | Groups in the roleBinding
        ServiceAccounts* | string | ServiceAccounts in the roleBinding
        """,
    "clusterrolebindings.rbac.authorization.k8s.io": """
        Role | string | @rbac.v1.ClusterRoleBinding.roleRef
        Age
        Users* | string | Users in the clusterRoleBinding
        Groups* | string | Groups in the clusterRoleBinding
        ServiceAccounts* | string | ServiceAccounts in the clusterRoleBinding
        """,
    "deviceclasses.resource.k8s.io": """
        Age
        """,
    "resourceclaims.resource.k8s.io": """
        State | string | A summary of the current state (allocated, pending, reserved, etc.).
        Age
        """,
    "resourceclaimtemplates.resource.k8s.io": """
        Age
        """,
    "resourceslices.resource.k8s.io": """
        Node | string | @resource.v1.ResourceSliceSpec.nodeName
        Driver | string | @resource.v1.ResourceSliceSpec.driver
        Pool | string | @resource.v1.ResourcePool.name
        Age
        """,
    "priorityclasses.scheduling.k8s.io": """
        Value | integer | @scheduling.v1.PriorityClass.value
        Global-Default | boolean | @scheduling.v1.PriorityClass.globalDefault
        Age
        PreemptionPolicy | string | @scheduling.v1.PriorityClass.preemptionPolicy
        """,
    "storageclasses.storage.k8s.io": """
        Provisioner | string | @storage.v1.StorageClass.provisioner
        ReclaimPolicy | string | @storage.v1.StorageClass.reclaimPolicy
        VolumeBindingMode | string | @storage.v1.StorageClass.volumeBindingMode
        AllowVolumeExpansion | string | @storage.v1.StorageClass.allowVolumeExpansion
        Age
        """,
}


@cache
def of(key: str) -> tuple[Object, ...]:
    """The column definitions of a built-in resource; shared, not to be changed."""
    if key not in _TABLES:
        # LimitRanges, roles, CRDs: what rest.NewDefaultTableConvertor makes of any object.
        created = column("Created At", "date", about("creationTimestamp"))
        return (name_column(), created)
    lines = [line.strip() for line in _TABLES[key].strip().splitlines() if line.strip()]
    columns = [_column(line) for line in lines]
    return tuple(columns) if key == "events" else (name_column(), *columns)


def column(name: str, kind: str, description: str, form: str = "", priority: int = 0) -> Object:
    """One column definition."""
    return {
        "name": name,
        "type": kind,
        "format": form,
        "description": description,
        "priority": priority,
    }


def name_column(priority: int = 0) -> Object:
    """The column of an object's name."""
    return column("Name", "string", about("name"), "name", priority)


def about(name: str) -> str:
    """What a field of ``metadata`` means."""
    return _described(_METADATA, name)


def _column(line: str) -> Object:
    name, *rest = (part.strip() for part in line.split("|", 2))
    priority = int(name.endswith("*"))
    name = name.removesuffix("*")
    if not rest:
        if name == "Name":
            return name_column(priority)
        return column(name, "string", about("creationTimestamp"))
    kind, description = rest
    if description.startswith("@"):
        definition, _, field = description[1:].rpartition(".")
        description = _described(f"io.k8s.api.{definition}", field)
    return column(name, kind, description, priority=priority)


def _described(definition: str, field: str) -> str:
    found = named(definition).property(field)
    if found is None:
        raise KeyError(f"{definition} has no field {field}")
    return found.description.partition("\n\nPossible enum values:")[0]
