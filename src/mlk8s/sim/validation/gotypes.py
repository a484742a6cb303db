"""Objects as the server itself holds them: what stands behind ``Invalid value:`` and in a diff.

The server validates its own Go structures, not the JSON of the request, and prints those when a
structure is at fault: every field, in the order of declaration, under its Go name. The order is
that of ``pkg/apis/core/types.go``; the fields those of ``k8s.io/api/core/v1`` (0.36).
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterator
from typing import Any

from mlk8s.sim.status import DUPLICATE, INVALID, FieldError, Object

# Structure: its fields. A field is its Go name, =its JSON name where that differs in more than
# the case of the first letter, and :its type: a structure, [] a list, * a pointer, {} a map,
# i a number, b a bool, q a quantity, j metadata; else a string.
_TABLE = """
PodSpec: Volumes:[]Volume InitContainers:[]Container Containers:[]Container
    EphemeralContainers:[]EphemeralContainer RestartPolicy TerminationGracePeriodSeconds:*
    ActiveDeadlineSeconds:* DNSPolicy=dnsPolicy NodeSelector:{} ServiceAccountName
    AutomountServiceAccountToken:* NodeName SecurityContext:*PodSecurityContext
    ImagePullSecrets:[]LocalObjectReference Hostname Subdomain SetHostnameAsFQDN:*
    Affinity:*Affinity SchedulerName Tolerations:[]Toleration HostAliases:[]HostAlias
    PriorityClassName Priority:* PreemptionPolicy:* DNSConfig=dnsConfig:*PodDNSConfig
    ReadinessGates:[]PodReadinessGate RuntimeClassName:* Overhead:{} EnableServiceLinks:*
    TopologySpreadConstraints:[]TopologySpreadConstraint OS=os:*PodOS
    SchedulingGates:[]PodSchedulingGate ResourceClaims:[]PodResourceClaim
    Resources:*ResourceRequirements HostnameOverride:* SchedulingGroup:*PodSchedulingGroup
Volume: Name HostPath:*HostPathVolumeSource EmptyDir:*EmptyDirVolumeSource
    GCEPersistentDisk=gcePersistentDisk:* AWSElasticBlockStore=awsElasticBlockStore:* GitRepo:*
    Secret:*SecretVolumeSource NFS=nfs:*NFSVolumeSource ISCSI=iscsi:* Glusterfs:*
    PersistentVolumeClaim:*PersistentVolumeClaimVolumeSource RBD=rbd:* FlexVolume:* Cinder:*
    CephFS=cephfs:* Flocker:* DownwardAPI:*DownwardAPIVolumeSource FC=fc:* AzureFile:*
    ConfigMap:*ConfigMapVolumeSource VsphereVolume:* Quobyte:* AzureDisk:*
    PhotonPersistentDisk:* Projected:*ProjectedVolumeSource PortworxVolume:* ScaleIO:*
    StorageOS=storageos:* CSI=csi:*CSIVolumeSource Ephemeral:*EphemeralVolumeSource
    Image:*ImageVolumeSource
HostPathVolumeSource: Path Type:*
EmptyDirVolumeSource: Medium SizeLimit:*
SecretVolumeSource: SecretName Items:[]KeyToPath DefaultMode:* Optional:*
KeyToPath: Key Path Mode:*
NFSVolumeSource: Server Path ReadOnly:b
LocalObjectReference: Name
PersistentVolumeClaimVolumeSource: ClaimName ReadOnly:b
DownwardAPIVolumeSource: Items:[]DownwardAPIVolumeFile DefaultMode:*
DownwardAPIVolumeFile: Path FieldRef:*ObjectFieldSelector
    ResourceFieldRef:*ResourceFieldSelector Mode:*
ObjectFieldSelector: APIVersion=apiVersion FieldPath
ResourceFieldSelector: ContainerName Resource Divisor:q
ConfigMapVolumeSource: Name Items:[]KeyToPath DefaultMode:* Optional:*
ProjectedVolumeSource: Sources:[]VolumeProjection DefaultMode:*
VolumeProjection: Secret:*SecretProjection DownwardAPI:*DownwardAPIProjection
    ConfigMap:*ConfigMapProjection ServiceAccountToken:*ServiceAccountTokenProjection
    ClusterTrustBundle:* PodCertificate:*
SecretProjection: Name Items:[]KeyToPath Optional:*
DownwardAPIProjection: Items:[]DownwardAPIVolumeFile
ConfigMapProjection: Name Items:[]KeyToPath Optional:*
ServiceAccountTokenProjection: Audience ExpirationSeconds:* Path
CSIVolumeSource: Driver ReadOnly:* FSType=fsType:* VolumeAttributes:{}
    NodePublishSecretRef:*LocalObjectReference
EphemeralVolumeSource: VolumeClaimTemplate:*PersistentVolumeClaimTemplate
PersistentVolumeClaimTemplate: ObjectMeta=metadata:j Spec:PersistentVolumeClaimSpec
PersistentVolumeClaimSpec: AccessModes:[] Selector:* Resources:VolumeResourceRequirements
    VolumeName StorageClassName:* VolumeMode:* DataSource:*TypedLocalObjectReference
    DataSourceRef:*TypedObjectReference VolumeAttributesClassName:*
VolumeResourceRequirements: Limits:{} Requests:{}
TypedLocalObjectReference: APIGroup=apiGroup:* Kind Name
TypedObjectReference: APIGroup=apiGroup:* Kind Name Namespace:*
ImageVolumeSource: Reference PullPolicy
Container: Name Image Command:[] Args:[] WorkingDir Ports:[]ContainerPort
    EnvFrom:[]EnvFromSource Env:[]EnvVar Resources:ResourceRequirements
    ResizePolicy:[]ContainerResizePolicy RestartPolicy:*
    RestartPolicyRules:[]ContainerRestartRule VolumeMounts:[]VolumeMount
    VolumeDevices:[]VolumeDevice LivenessProbe:*Probe ReadinessProbe:*Probe StartupProbe:*Probe
    Lifecycle:*Lifecycle TerminationMessagePath TerminationMessagePolicy ImagePullPolicy
    SecurityContext:*SecurityContext Stdin:b StdinOnce:b TTY=tty:b
ContainerPort: Name HostPort:i ContainerPort:i Protocol HostIP
EnvFromSource: Prefix ConfigMapRef:*ConfigMapEnvSource SecretRef:*SecretEnvSource
ConfigMapEnvSource: Name Optional:*
SecretEnvSource: Name Optional:*
EnvVar: Name Value ValueFrom:*EnvVarSource
EnvVarSource: FieldRef:*ObjectFieldSelector ResourceFieldRef:*ResourceFieldSelector
    ConfigMapKeyRef:*ConfigMapKeySelector SecretKeyRef:*SecretKeySelector
    FileKeyRef:*FileKeySelector
ConfigMapKeySelector: Name Key Optional:*
SecretKeySelector: Name Key Optional:*
FileKeySelector: VolumeName Path Key Optional:*
ResourceRequirements: Limits:{} Requests:{} Claims:[]ResourceClaim
ResourceClaim: Name Request
ContainerResizePolicy: ResourceName RestartPolicy
ContainerRestartRule: Action ExitCodes:*ContainerRestartRuleOnExitCodes
ContainerRestartRuleOnExitCodes: Operator Values:[]
VolumeMount: Name ReadOnly:b RecursiveReadOnly:* MountPath SubPath SubPathExpr
    MountPropagation:*
VolumeDevice: Name DevicePath
Probe: Exec:*ExecAction HTTPGet=httpGet:*HTTPGetAction TCPSocket=tcpSocket:*TCPSocketAction
    GRPC=grpc:*GRPCAction InitialDelaySeconds:i TimeoutSeconds:i PeriodSeconds:i
    SuccessThreshold:i FailureThreshold:i TerminationGracePeriodSeconds:*
ExecAction: Command:[]
HTTPGetAction: Path Port:i Host Scheme HTTPHeaders=httpHeaders:[]HTTPHeader
HTTPHeader: Name Value
TCPSocketAction: Port:i Host
GRPCAction: Port:i Service:*
Lifecycle: PostStart:*LifecycleHandler PreStop:*LifecycleHandler StopSignal:*
LifecycleHandler: Exec:*ExecAction HTTPGet=httpGet:*HTTPGetAction
    TCPSocket=tcpSocket:*TCPSocketAction Sleep:*SleepAction
SleepAction: Seconds:i
SecurityContext: Capabilities:*Capabilities Privileged:*
    SELinuxOptions=seLinuxOptions:*SELinuxOptions WindowsOptions:* RunAsUser:* RunAsGroup:*
    RunAsNonRoot:* ReadOnlyRootFilesystem:* AllowPrivilegeEscalation:* ProcMount:*
    SeccompProfile:*SeccompProfile AppArmorProfile:*AppArmorProfile
Capabilities: Add:[] Drop:[]
SELinuxOptions: User Role Type Level
SeccompProfile: Type LocalhostProfile:*
AppArmorProfile: Type LocalhostProfile:*
PodSecurityContext: HostNetwork:b HostPID:b HostIPC:b ShareProcessNamespace:* HostUsers:*
    SELinuxOptions=seLinuxOptions:*SELinuxOptions WindowsOptions:* RunAsUser:* RunAsGroup:*
    RunAsNonRoot:* SupplementalGroups:[] SupplementalGroupsPolicy:* FSGroup=fsGroup:*
    FSGroupChangePolicy=fsGroupChangePolicy:* Sysctls:[]Sysctl SeccompProfile:*SeccompProfile
    AppArmorProfile:*AppArmorProfile SELinuxChangePolicy=seLinuxChangePolicy:*
Sysctl: Name Value
Affinity: NodeAffinity:*NodeAffinity PodAffinity:*PodAffinity PodAntiAffinity:*PodAntiAffinity
NodeAffinity: RequiredDuringSchedulingIgnoredDuringExecution:*NodeSelector
    PreferredDuringSchedulingIgnoredDuringExecution:[]PreferredSchedulingTerm
NodeSelector: NodeSelectorTerms:[]NodeSelectorTerm
NodeSelectorTerm: MatchExpressions:[]NodeSelectorRequirement
    MatchFields:[]NodeSelectorRequirement
NodeSelectorRequirement: Key Operator Values:[]
PreferredSchedulingTerm: Weight:i Preference:NodeSelectorTerm
PodAffinity: RequiredDuringSchedulingIgnoredDuringExecution:[]PodAffinityTerm
    PreferredDuringSchedulingIgnoredDuringExecution:[]WeightedPodAffinityTerm
PodAffinityTerm: LabelSelector:* Namespaces:[] TopologyKey NamespaceSelector:* MatchLabelKeys:[]
    MismatchLabelKeys:[]
WeightedPodAffinityTerm: Weight:i PodAffinityTerm:PodAffinityTerm
PodAntiAffinity: RequiredDuringSchedulingIgnoredDuringExecution:[]PodAffinityTerm
    PreferredDuringSchedulingIgnoredDuringExecution:[]WeightedPodAffinityTerm
Toleration: Key Operator Value Effect TolerationSeconds:*
HostAlias: IP=ip Hostnames:[]
PodDNSConfig: Nameservers:[] Searches:[] Options:[]PodDNSConfigOption
PodDNSConfigOption: Name Value:*
PodReadinessGate: ConditionType
TopologySpreadConstraint: MaxSkew:i TopologyKey WhenUnsatisfiable LabelSelector:* MinDomains:*
    NodeAffinityPolicy:* NodeTaintsPolicy:* MatchLabelKeys:[]
PodOS: Name
PodSchedulingGate: Name
PodResourceClaim: Name ResourceClaimName:* ResourceClaimTemplateName:*
PodSchedulingGroup: PodGroupName:*
"""
_ALIASES = {"EphemeralContainer": "Container"}
_ZERO = {"": "", "i": 0, "b": False, "q": "0"}
_HOST_FIELDS = ("hostNetwork", "hostPID", "hostIPC", "shareProcessNamespace", "hostUsers")
# Types that the server prints by their JSON names; the order of their fields.
_SELECTOR = ("matchLabels", "matchExpressions")
_REQUIREMENT = ("key", "operator", "values")
_META = ("name", "generateName", "namespace", "labels", "annotations", "ownerReferences")


def _structures() -> dict[str, list[tuple[str, str, str]]]:
    found: dict[str, list[tuple[str, str, str]]] = {}
    for line in re.sub(r"\n +", " ", _TABLE).strip().splitlines():
        name, _, fields = line.partition(": ")
        found[name] = []
        for text in fields.split():
            field, _, kind = text.partition(":")
            go, _, key = field.partition("=")
            found[name].append((go, key or go[0].lower() + go[1:], kind))
    return found


_STRUCTURES = _structures()


def structure(kind: str, value: Object) -> Object:
    """A structure with all of its fields, under their Go names.

    Args:
        kind: such as ``PodSpec``.
        value: the object as JSON has it.
    """
    if kind == "PodSpec":
        value = _with_host_fields(value)
    fields = _STRUCTURES[_ALIASES.get(kind, kind)]
    shown = {go: _field(value.get(key), code) for go, key, code in fields}
    if kind == "EphemeralContainer":
        shown["TargetContainerName"] = value.get("targetContainerName", "")
    return shown


def template(value: Object) -> Object:
    """A pod template: its metadata stands beside ``Spec``."""
    return {
        **_ordered(value.get("metadata") or {}, _META),
        "Spec": structure("PodSpec", value["spec"]),
    }


def selector(value: Object) -> Object:
    """A label selector, which the server prints under its JSON names."""
    shown = _ordered(value, _SELECTOR)
    if "matchExpressions" in shown:
        shown["matchExpressions"] = [
            _ordered(expression, _REQUIREMENT) for expression in shown["matchExpressions"]
        ]
    return shown


def invalid(path: str, value: Any, detail: str) -> FieldError:
    """An invalid value, printed as Go's ``encoding/json`` does: no key is moved."""
    return FieldError(path, INVALID, f"{_compact(value)}: {detail}")


def duplicate(path: str, value: Any) -> FieldError:
    """A duplicate value, printed in the same way."""
    return FieldError(path, DUPLICATE, _compact(value))


def _compact(value: Any) -> str:
    return _escaped(json.dumps(value, separators=(",", ":"), ensure_ascii=False))


def diff(kind: str, old: Object, new: Object) -> str:
    """What changed in a structure, as a unified diff without the names of files."""
    before, after = _lines(structure(kind, old)), _lines(structure(kind, new))
    return "".join(list(_hunks(before, after)))


def _hunks(before: list[str], after: list[str]) -> Iterator[str]:
    for number, line in enumerate(difflib.unified_diff(before, after, n=3)):
        # The names are empty, and the server leaves out the two lines with them.
        if number >= 2:
            yield line


def _lines(value: Object) -> list[str]:
    text = _escaped(json.dumps(value, indent=1, ensure_ascii=False))
    # go-difflib ends every line, the last one too.
    return [f"{line}\n" for line in text.split("\n")]


def _escaped(text: str) -> str:
    for char in "<>&":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _with_host_fields(spec: Object) -> Object:
    """The host's namespaces are part of the security context in the server's own form."""
    moved = {name: spec[name] for name in _HOST_FIELDS if name in spec}
    if not moved and "securityContext" not in spec:
        return spec
    return {**spec, "securityContext": {**(spec.get("securityContext") or {}), **moved}}


def _field(value: Any, kind: str) -> Any:
    if kind in _ZERO:
        return _ZERO[kind] if value is None else value
    if kind == "j":
        return _ordered(value or {}, _META)
    if kind.startswith("[]"):
        if not value:
            return None
        return [structure(kind[2:], item) for item in value] if kind[2:] else value
    if kind == "{}":
        return dict(sorted(value.items())) if value else None
    if kind.startswith("*"):
        if value is None:
            return None
        if kind[1:]:
            return structure(kind[1:], value)
        return selector(value) if isinstance(value, dict) else value
    return structure(kind, value or {})


def _ordered(value: Object, first: tuple[str, ...]) -> Object:
    names = [name for name in first if value.get(name)]
    names += sorted(name for name in value if name not in first)
    return {name: _sorted(value[name]) for name in names}


def _sorted(value: Any) -> Any:
    return dict(sorted(value.items())) if isinstance(value, dict) else value
