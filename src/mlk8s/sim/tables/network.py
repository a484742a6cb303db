"""The tables of services, their endpoints, ingresses and network policies."""

from __future__ import annotations

from typing import Any

from mlk8s.sim.status import Object
from mlk8s.sim.tables import text
from mlk8s.sim.tables.text import age, at

Row = list[Any]


def _name(obj: Object) -> str:
    return str(obj["metadata"]["name"])


def service(obj: Object, now: float) -> Row:
    """A Service."""
    spec = obj["spec"]
    return [
        _name(obj),
        spec.get("type", ""),
        (spec.get("clusterIPs") or [text.NONE])[0],
        _external(obj),
        ",".join(_port(port) for port in spec.get("ports") or ()) or text.NONE,
        age(obj, now),
        text.labels(spec.get("selector")),
    ]


def _port(port: Object) -> str:
    number = str(port["port"])
    if port.get("nodePort"):
        number += f":{port['nodePort']}"
    return f"{number}/{port.get('protocol', '')}"


def _external(obj: Object) -> str:
    spec = obj["spec"]
    stated = list(spec.get("externalIPs") or ())
    match spec.get("type"):
        case "ClusterIP" | "NodePort":
            return ",".join(stated) or text.NONE
        case "LoadBalancer":
            return ",".join([*_balancers(obj), *stated]) or "<pending>"
        case "ExternalName":
            return str(spec.get("externalName", ""))
    return text.UNKNOWN


def _balancers(obj: Object) -> list[str]:
    """Addresses of load balancers. The server always writes the wide form, which is not cut."""
    found = at(obj, "status", "loadBalancer", "ingress") or ()
    return sorted({point.get("ip") or point.get("hostname") or "" for point in found} - {""})


def endpoints(obj: Object, now: float) -> Row:
    """An Endpoints object."""
    listed = []
    for subset in obj.get("subsets") or ():
        addresses = [address["ip"] for address in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        listed += addresses if not ports else []
        for port in ports:
            listed += [_host_port(address, port["port"]) for address in addresses]
    if not obj.get("subsets"):
        return [_name(obj), text.NONE, age(obj, now)]
    shown = ",".join(listed[:3])
    if len(listed) > 3:
        shown += f" + {len(listed) - 3} more..."
    return [_name(obj), shown, age(obj, now)]


def _host_port(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def endpoint_slice(obj: Object, now: float) -> Row:
    """An EndpointSlice."""
    ports = [
        str(port["port"]) if port.get("port") is not None else port.get("name") or "*"
        for port in obj.get("ports") or ()
    ]
    addresses = [
        address
        for endpoint in obj.get("endpoints") or ()
        for address in endpoint.get("addresses") or ()
    ]
    return [
        _name(obj),
        obj.get("addressType", ""),
        text.more(ports, len(ports)),
        text.more(addresses, len(addresses)),
        age(obj, now),
    ]


def ingress(obj: Object, now: float) -> Row:
    """An Ingress."""
    spec = obj["spec"]
    return [
        _name(obj),
        spec.get("ingressClassName") or text.NONE,
        _hosts(spec.get("rules") or []),
        ",".join(_balancers(obj)),
        "80, 443" if spec.get("tls") else "80",
        age(obj, now),
    ]


def _hosts(rules: list[Object]) -> str:
    hosts: list[str] = []
    cut = False
    for rule in rules:
        cut = cut or len(hosts) == 3
        if not cut and rule.get("host"):
            hosts.append(rule["host"])
    shown = ",".join(hosts) or "*"
    return f"{shown} + {len(rules) - 3} more..." if cut else shown


def ingress_class(obj: Object, now: float) -> Row:
    """An IngressClass."""
    parameters = text.NONE
    if reference := at(obj, "spec", "parameters"):
        kind = reference["kind"]
        if reference.get("apiGroup") is not None:
            kind += f".{reference['apiGroup']}"
        parameters = f"{kind}/{reference['name']}"
    return [_name(obj), at(obj, "spec", "controller") or "", parameters, age(obj, now)]


def network_policy(obj: Object, now: float) -> Row:
    """A NetworkPolicy."""
    return [_name(obj), text.selector(at(obj, "spec", "podSelector") or {}), age(obj, now)]
