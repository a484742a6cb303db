"""What the server tells clients about itself: version, groups, resources, in both forms."""

from __future__ import annotations

import platform
from collections.abc import Iterable

from mlk8s.sim.resources import Registry, Resource
from mlk8s.sim.status import Object

# The version whose behavior is modeled; the suffix says that this is not it.
KUBERNETES = "v1.36.2"
GIT_VERSION = f"{KUBERNETES}+mlk8s-simulated"

# Requests that are answered and not stored: (group, version, plural, kind).
REVIEWS = (
    ("authentication.k8s.io", "v1", "selfsubjectreviews", "SelfSubjectReview"),
    ("authentication.k8s.io", "v1", "tokenreviews", "TokenReview"),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview"),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    ("authorization.k8s.io", "v1", "subjectaccessreviews", "SubjectAccessReview"),
)
HEALTH = ("/healthz", "/livez", "/readyz")
CHECKS = ("ping", "log", "etcd")
_DOCUMENTS = ("/openapi/v2", "/openapi/v3")
_METRICS = tuple(
    Resource("metrics.k8s.io", "v1beta1", kind, plural, "", namespaced, verbs=("get", "list"))
    for kind, plural, namespaced in (("NodeMetrics", "nodes", False), ("PodMetrics", "pods", True))
)
_SUBRESOURCE_KINDS = {
    "attach": ("PodAttachOptions", ("create", "get")),
    "binding": ("Binding", ("create",)),
    "eviction": ("Eviction", ("create",)),
    "exec": ("PodExecOptions", ("create", "get")),
    "finalize": ("Namespace", ("update",)),
    "log": ("Pod", ("get",)),
    "portforward": ("PodPortForwardOptions", ("create", "get")),
    # Of a pod or a Service.
    "proxy": ("{kind}ProxyOptions", ("create", "delete", "get", "patch", "update")),
    "scale": ("Scale", ("get", "patch", "update")),
    "token": ("TokenRequest", ("create",)),
}
_SUBRESOURCE_GROUPS = {
    "eviction": ("policy", "v1"),
    "scale": ("autoscaling", "v1"),
    "token": ("authentication.k8s.io", "v1"),
}
# The order in which kubectl lists groups and prefers them for a short name.
_FIRST = ("apps", "authentication.k8s.io", "authorization.k8s.io", "autoscaling", "batch")


def version() -> Object:
    """The answer to ``/version``; ``gitVersion`` says that the cluster is simulated."""
    major, minor, _ = KUBERNETES[1:].split(".")
    return {
        "major": major,
        "minor": minor,
        "emulationMajor": major,
        "emulationMinor": minor,
        "minCompatibilityMajor": major,
        "minCompatibilityMinor": str(int(minor) - 1),
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": f"python{platform.python_version()}",
        "compiler": platform.python_implementation(),
        "platform": "linux/amd64",
    }


def _all(registry: Registry) -> list[Resource]:
    reviews = [
        Resource(group, version, kind, plural, kind.lower(), False, verbs=("create",))
        for group, version, plural, kind in REVIEWS
    ]
    return [*registry, *reviews, *_METRICS]


def _groups(registry: Registry) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for resource in _all(registry):
        versions = found.setdefault(resource.group, [])
        if resource.version not in versions:
            versions.append(resource.version)
    order = {name: place for place, name in enumerate(_FIRST)}
    return {
        group: found[group]
        for group in sorted(found, key=lambda name: (order.get(name, len(order)), name))
    }


def core_versions(address: str) -> Object:
    """The answer to ``/api``."""
    return {
        "kind": "APIVersions",
        "versions": ["v1"],
        "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}],
    }


def group_list(registry: Registry) -> Object:
    """The answer to ``/apis``."""
    groups = [_group(name, versions) for name, versions in _groups(registry).items() if name]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(registry: Registry, name: str) -> Object | None:
    """The answer to ``/apis/<group>``."""
    versions = _groups(registry).get(name)
    if not name or versions is None:
        return None
    return {"kind": "APIGroup", "apiVersion": "v1", **_group(name, versions)}


def _group(name: str, versions: list[str]) -> Object:
    served = [{"groupVersion": f"{name}/{version}", "version": version} for version in versions]
    return {"name": name, "versions": served, "preferredVersion": served[0]}


def resource_list(registry: Registry, group: str, version: str) -> Object | None:
    """The answer to ``/api/v1`` and ``/apis/<group>/<version>``."""
    served = [r for r in _all(registry) if (r.group, r.version) == (group, version)]
    if not served:
        return None
    listed: list[Object] = []
    for resource in sorted(served, key=lambda r: r.plural):
        entry: Object = {
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": list(resource.verbs),
        }
        if resource.short:
            entry["shortNames"] = list(resource.short)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        listed.append(entry)
        for name in resource.subresources:
            kind, verbs = _subresource(resource, name)
            below: Object = {
                "name": f"{resource.plural}/{name}",
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": kind,
                "verbs": list(verbs),
            }
            if name in _SUBRESOURCE_GROUPS:
                below["group"], below["version"] = _SUBRESOURCE_GROUPS[name]
            listed.append(below)
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": f"{group}/{version}" if group else version,
        "resources": listed,
    }


def _subresource(resource: Resource, name: str) -> tuple[str, Iterable[str]]:
    kind, verbs = _SUBRESOURCE_KINDS.get(name, (resource.kind, ("get", "patch", "update")))
    return kind.format(kind=resource.kind), verbs


def aggregated(registry: Registry, core: bool) -> Object:
    """All groups with all resources in one answer (``apidiscovery.k8s.io/v2``)."""
    items = []
    for name, versions in _groups(registry).items():
        if (name == "") != core:
            continue
        items.append(
            {
                "metadata": {"name": name, "creationTimestamp": None},
                "versions": [_version(registry, name, version) for version in versions],
            }
        )
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    }


def _version(registry: Registry, group: str, version: str) -> Object:
    listed: list[Object] = []
    for resource in sorted(_all(registry), key=lambda r: r.plural):
        if (resource.group, resource.version) != (group, version):
            continue
        entry: Object = {
            "resource": resource.plural,
            "responseKind": {"group": group, "version": version, "kind": resource.kind},
            "scope": "Namespaced" if resource.namespaced else "Cluster",
            "singularResource": resource.singular,
            "verbs": list(resource.verbs),
        }
        if resource.short:
            entry["shortNames"] = list(resource.short)
        if resource.categories:
            entry["categories"] = list(resource.categories)
        below = []
        for name in resource.subresources:
            kind, verbs = _subresource(resource, name)
            in_group = _SUBRESOURCE_GROUPS.get(name, (group, version))
            response = {"group": in_group[0], "version": in_group[1], "kind": kind}
            below.append({"subresource": name, "responseKind": response, "verbs": list(verbs)})
        if below:
            entry["subresources"] = below
        listed.append(entry)
    return {"version": version, "resources": listed, "freshness": "Current"}


def index(registry: Registry) -> Object:
    """The answer to ``/``: what can be asked for."""
    paths = ["/api", "/api/v1", "/apis"]
    for name, versions in _groups(registry).items():
        if name:
            paths += [f"/apis/{name}", *(f"/apis/{name}/{version}" for version in versions)]
    health = [*HEALTH, *(f"{path}/{check}" for path in HEALTH for check in CHECKS)]
    return {"paths": sorted([*paths, *health, "/metrics", *_DOCUMENTS, "/version"])}


def health(path: str, excluded: Iterable[str], verbose: bool) -> str | None:
    """The answer to a question for the server's health; ``None`` when there is no such check."""
    base, _, check = path.removeprefix("/").partition("/")
    if check:
        return "ok" if check in CHECKS else None
    if not verbose:
        return "ok"
    skipped = set(excluded)
    lines = [f"[+]{c} {'excluded: ok' if c in skipped else 'ok'}\n" for c in CHECKS]
    return f"{''.join(lines)}{base} check passed\n"
