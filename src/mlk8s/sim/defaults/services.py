"""Defaults of services, and the addresses and ports that a cluster gives them.

After ``SetDefaults_Service`` and ``pkg/registry/core/service``. The range of addresses is that of
MicroK8s (``--service-cluster-ip-range`` in its ``kube-apiserver`` arguments).
"""

from __future__ import annotations

import ipaddress
import weakref
from typing import TYPE_CHECKING

from mlk8s.sim.status import Object, StatusError

if TYPE_CHECKING:
    from mlk8s.sim.api import Api
    from mlk8s.sim.store import Change

RANGE = ipaddress.ip_network("10.0.0.0/24")
NODE_PORTS = range(30000, 32768)
# pkg/registry/core/service/ipallocator: a sixteenth of the range, 16 at least.
_BAND = 16
# Kept free for the services that a cluster begins with: the API server and its DNS.
_RESERVED = {str(RANGE[1]), str(RANGE[10])}
_AFFINITY_SECONDS = 10_800
_EXPOSED = ("NodePort", "LoadBalancer")


class _Taken:
    """Which addresses and ports of one cluster are in use, kept up to date by its changes."""

    def __init__(self, api: Api) -> None:
        self.addresses: set[str] = set()
        self.ports: set[int] = set()
        for obj in api.store.items("services"):
            self._add(obj)
        api.store.subscribe(self._told)

    def _told(self, change: Change) -> None:
        if change.key != "services":
            return
        if change.old is not None:
            self.addresses -= set(change.old["spec"].get("clusterIPs") or ())
            self.ports -= {
                port.get("nodePort", 0) for port in change.old["spec"].get("ports") or ()
            }
        if change.type != "DELETED":
            self._add(change.object)

    def _add(self, obj: Object) -> None:
        self.addresses |= set(obj["spec"].get("clusterIPs") or ())
        self.ports |= {port.get("nodePort", 0) for port in obj["spec"].get("ports") or ()}


_TAKEN: weakref.WeakKeyDictionary[Api, _Taken] = weakref.WeakKeyDictionary()


def _taken(api: Api) -> _Taken:
    found = _TAKEN.get(api)
    if found is None:
        found = _TAKEN[api] = _Taken(api)
    return found


def service(obj: Object) -> None:
    """The fields of a Service that do not depend on others."""
    spec = obj.setdefault("spec", {})
    kind = spec.setdefault("type", "ClusterIP")
    if spec.setdefault("sessionAffinity", "None") == "ClientIP":
        config = spec.setdefault("sessionAffinityConfig", {}).setdefault("clientIP", {})
        config.setdefault("timeoutSeconds", _AFFINITY_SECONDS)
    for port in spec.get("ports") or ():
        port.setdefault("protocol", "TCP")
        if port.get("targetPort") in (None, 0, ""):
            port["targetPort"] = port.get("port", 0)
    if kind != "ExternalName":
        spec.setdefault("internalTrafficPolicy", "Cluster")
    if kind in _EXPOSED or (kind == "ClusterIP" and spec.get("externalIPs")):
        spec.setdefault("externalTrafficPolicy", "Cluster")
    if kind == "LoadBalancer":
        spec.setdefault("allocateLoadBalancerNodePorts", True)
    if spec.get("clusterIP") and not spec.get("clusterIPs"):
        spec["clusterIPs"] = [spec["clusterIP"]]
    elif spec.get("clusterIPs") and not spec.get("clusterIP"):
        spec["clusterIP"] = spec["clusterIPs"][0]


def allocate(obj: Object, api: Api) -> None:
    """The address and the ports of a Service that has none yet.

    Raises:
        StatusError: 500, all of them are in use.
    """
    spec = obj["spec"]
    kind = spec["type"]
    if kind == "ExternalName":
        return
    taken = _taken(api)
    if not spec.get("clusterIP"):
        hosts = list(RANGE.hosts())
        address = next(
            (
                str(host)
                # The upper part first, as the server does: the lower is for addresses by name.
                for host in (*hosts[_BAND:], *hosts[:_BAND])
                if str(host) not in taken.addresses and str(host) not in _RESERVED
            ),
            None,
        )
        if address is None:
            raise _internal("failed to allocate a serviceIP: range is full")
        spec["clusterIP"], spec["clusterIPs"] = address, [address]
    both = spec["clusterIP"] == "None" and not spec.get("selector")
    spec.setdefault("ipFamilies", ["IPv4", "IPv6"] if both else ["IPv4"])
    spec.setdefault("ipFamilyPolicy", "RequireDualStack" if both else "SingleStack")
    if kind == "NodePort" or (kind == "LoadBalancer" and spec["allocateLoadBalancerNodePorts"]):
        _node_ports(spec.get("ports") or [], set(taken.ports))


def _node_ports(ports: list[Object], taken: set[int]) -> None:
    taken |= {port.get("nodePort", 0) for port in ports}
    for port in ports:
        if port.get("nodePort"):
            continue
        number = next((number for number in NODE_PORTS if number not in taken), None)
        if number is None:
            raise _internal("failed to allocate a nodePort: range is full")
        taken.add(number)
        port["nodePort"] = number


def keep_allocated(obj: Object, old: Object) -> None:
    """An update that leaves address and ports out keeps them."""
    spec, before = obj.setdefault("spec", {}), old["spec"]
    if "ExternalName" in (spec.get("type"), before.get("type")):
        return
    for name in ("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"):
        if not spec.get(name) and name in before:
            spec[name] = before[name]
    if spec.get("type") in _EXPOSED:
        numbers = {
            (port.get("protocol"), port.get("port")): port.get("nodePort")
            for port in before.get("ports") or ()
        }
        for port in spec.get("ports") or ():
            number = numbers.get((port.get("protocol"), port.get("port")))
            if number and not port.get("nodePort"):
                port["nodePort"] = number


def refusal(address: str, api: Api) -> str:
    """Why a Service may not have an address that it asks for; empty when it may."""
    try:
        inside = ipaddress.ip_address(address) in RANGE
    except ValueError:
        # Another check says that it is no address.
        return ""
    if not inside:
        return (
            f"failed to allocate IP {address}: the provided IP ({address}) is not in the valid "
            f"range. The range of valid IPs is {RANGE}"
        )
    if address in _taken(api).addresses:
        return f"failed to allocate IP {address}: provided IP is already allocated"
    return ""


def _internal(text: str) -> StatusError:
    return StatusError(500, "InternalError", f"Internal error occurred: {text}")
