"""Which resources the server knows: the built-in table, and what CRDs add to it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from mlk8s.sim.status import qualified

_VERBS = (
    "create",
    "delete",
    "deletecollection",
    "get",
    "list",
    "patch",
    "update",
    "watch",
)


@dataclass(frozen=True)
class Resource:
    """One resource in one version.

    Attributes:
        definition: name of its schema, such as ``io.k8s.api.core.v1.Pod``; empty for a CRD's.
        subresources: paths below the object; ``status`` among them means that status is written
            there alone.
        generation: whether ``metadata.generation`` counts changes of the desired state.
    """

    group: str
    version: str
    kind: str
    plural: str
    singular: str
    namespaced: bool
    short: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = _VERBS
    definition: str = ""
    generation: bool = False

    @property
    def key(self) -> str:
        """Name of the resource without its version: ``pods``, ``deployments.apps``.

        All versions of a CRD share it, and so one place in the store.
        """
        return qualified(self.plural, self.group)

    @property
    def api_version(self) -> str:
        """``v1``, ``apps/v1``."""
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def has_status(self) -> bool:
        """Whether status is a subresource."""
        return "status" in self.subresources

    @property
    def custom(self) -> bool:
        """Whether a CRD defines it."""
        return not self.definition


def _built_in() -> Iterator[Resource]:
    def rows(group: str, version: str, package: str, table: str) -> Iterator[Resource]:
        for line in table.strip().splitlines():
            kind, plural, scope, short, subresources, *flags = (
                cell.strip() for cell in line.split("|")
            )
            yield Resource(
                group=group,
                version=version,
                kind=kind,
                plural=plural,
                singular=kind.lower(),
                namespaced=scope == "ns",
                short=tuple(short.split()),
                subresources=tuple(subresources.split()),
                categories=("all",) if "all" in flags[-1:] else (),
                definition=f"io.k8s.api.{package}.{version}.{kind}",
                generation="gen" in flags[:1],
            )

    # kind | plural | scope | short names | subresources | counts generations | category
    yield from rows(
        "",
        "v1",
        "core",
        """
        ConfigMap             | configmaps             | ns | cm     |  |  |
        Endpoints             | endpoints              | ns | ep     |  |  |
        Event                 | events                 | ns | ev     |  |  |
        LimitRange            | limitranges            | ns | limits |  |  |
        Namespace             | namespaces             | -- | ns     | finalize status |  |
        Node                  | nodes                  | -- | no     | status |  |
        PersistentVolumeClaim | persistentvolumeclaims | ns | pvc    | status |  |
        PersistentVolume      | persistentvolumes      | -- | pv     | status |  |
        Pod                   | pods                   | ns | po     | attach binding eviction exec log portforward proxy status | gen | all
        PodTemplate           | podtemplates           | ns |        |  |  |
        ReplicationController | replicationcontrollers | ns | rc     | scale status | gen | all
        ResourceQuota         | resourcequotas         | ns | quota  | status |  |
        Secret                | secrets                | ns |        |  |  |
        ServiceAccount        | serviceaccounts        | ns | sa     | token |  |
        Service               | services               | ns | svc    | proxy status |  | all
        """,  # noqa: E501
    )
    yield from rows(
        "apps",
        "v1",
        "apps",
        """
        ControllerRevision | controllerrevisions | ns |        |              |     |
        DaemonSet          | daemonsets          | ns | ds     | status       | gen | all
        Deployment         | deployments         | ns | deploy | scale status | gen | all
        ReplicaSet         | replicasets         | ns | rs     | scale status | gen | all
        StatefulSet        | statefulsets        | ns | sts    | scale status | gen | all
        """,
    )
    yield from rows(
        "autoscaling",
        "v2",
        "autoscaling",
        "HorizontalPodAutoscaler | horizontalpodautoscalers | ns | hpa | status | | all",
    )
    yield from rows(
        "batch",
        "v1",
        "batch",
        """
        CronJob | cronjobs | ns | cj | status | gen | all
        Job     | jobs     | ns |    | status | gen | all
        """,
    )
    yield from rows("coordination.k8s.io", "v1", "coordination", "Lease | leases | ns | | | |")
    yield from rows(
        "discovery.k8s.io", "v1", "discovery", "EndpointSlice | endpointslices | ns | | | gen |"
    )
    yield from rows(
        "networking.k8s.io",
        "v1",
        "networking",
        """
        Ingress       | ingresses       | ns | ing    | status | gen |
        IngressClass  | ingressclasses  | -- |        |        | gen |
        NetworkPolicy | networkpolicies | ns | netpol |        | gen |
        """,
    )
    yield from rows("node.k8s.io", "v1", "node", "RuntimeClass | runtimeclasses | -- | | | |")
    yield from rows(
        "policy",
        "v1",
        "policy",
        "PodDisruptionBudget | poddisruptionbudgets | ns | pdb | status | gen |",
    )
    yield from rows(
        "rbac.authorization.k8s.io",
        "v1",
        "rbac",
        """
        ClusterRole        | clusterroles        | -- | | | |
        ClusterRoleBinding | clusterrolebindings | -- | | | |
        Role               | roles               | ns | | | |
        RoleBinding        | rolebindings        | ns | | | |
        """,
    )
    yield from rows(
        "resource.k8s.io",
        "v1",
        "resource",
        """
        DeviceClass           | deviceclasses          | -- | |        | gen |
        ResourceClaim         | resourceclaims         | ns | | status |     |
        ResourceClaimTemplate | resourceclaimtemplates | ns | |        |     |
        ResourceSlice         | resourceslices         | -- | |        | gen |
        """,
    )
    yield from rows(
        "scheduling.k8s.io",
        "v1",
        "scheduling",
        "PriorityClass | priorityclasses | -- | pc | | gen |",
    )
    yield from rows(
        "storage.k8s.io", "v1", "storage", "StorageClass | storageclasses | -- | sc | | |"
    )
    yield Resource(
        "apiextensions.k8s.io",
        "v1",
        "CustomResourceDefinition",
        "customresourcedefinitions",
        "customresourcedefinition",
        namespaced=False,
        short=("crd", "crds"),
        categories=("api-extensions",),
        subresources=("status",),
        definition=(
            "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
        ),
        generation=True,
    )


@dataclass
class Registry:
    """The resources that are served at the moment.

    CRDs add and remove theirs; the built-in ones stay.
    """

    _by_path: dict[tuple[str, str, str], Resource] = field(default_factory=dict)
    _by_key: dict[str, list[Resource]] = field(default_factory=dict)
    _by_kind: dict[tuple[str, str], Resource] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for resource in _built_in():
            self.add(resource)

    def add(self, resource: Resource) -> None:
        """Serve a resource; replaces one of the same group, version and plural."""
        self._by_path[resource.group, resource.version, resource.plural] = resource
        versions = self._by_key.setdefault(resource.key, [])
        places = [at for at, one in enumerate(versions) if one.version == resource.version]
        if places:
            versions[places[0]] = resource
        else:
            versions.append(resource)
        self._by_kind[resource.api_version, resource.kind] = resource

    def remove(self, resource: Resource) -> None:
        """Stop serving a resource."""
        found = self._by_path.pop((resource.group, resource.version, resource.plural), None)
        if found is None:
            return
        self._by_key[found.key].remove(found)
        if not self._by_key[found.key]:
            del self._by_key[found.key]
        if self._by_kind.get((found.api_version, found.kind)) is found:
            del self._by_kind[found.api_version, found.kind]

    def at(self, group: str, version: str, plural: str) -> Resource | None:
        """The resource of a URL path."""
        return self._by_path.get((group, version, plural))

    def of_key(self, key: str) -> Resource:
        """The resource of ``pods`` or ``deployments.apps``; the first version added."""
        return self._by_key[key][0]

    def of_kind(self, api_version: str, kind: str) -> Resource | None:
        """The resource of an object's ``apiVersion`` and ``kind``."""
        return self._by_kind.get((api_version, kind))

    def __iter__(self) -> Iterator[Resource]:
        return iter(list(self._by_path.values()))
