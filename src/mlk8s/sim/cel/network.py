"""Kubernetes' URLs and addresses in CEL: ``url(self.endpoint).getHost()``, ``ip(self.address)``."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Any, TypeAlias
from urllib.parse import SplitResult, parse_qs, urlsplit

from mlk8s.sim.cel.overloads import Form, parses
from mlk8s.sim.cel.values import BOOL, CIDR, INT, IP, STRING, URL, CelError, list_of, map_of

Address: TypeAlias = IPv4Address | IPv6Address
Network: TypeAlias = IPv4Interface | IPv6Interface

_BAD_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})|[\x00-\x20\x7f]")


def url(text: str) -> SplitResult:
    """An absolute URI, or an absolute path (``url.ParseRequestURI``).

    Raises:
        CelError: it is none.
    """
    try:
        found = urlsplit(text)
        fitting = (found.scheme or text.startswith("/")) and found.port is not False
    except ValueError:
        fitting = False
    if not fitting or _BAD_ESCAPE.search(text):
        raise CelError(f'URL parse error during conversion from string: parse "{text}": invalid')
    return found


def _host(of: SplitResult) -> str:
    return of.netloc.rpartition("@")[2]


def _hostname(of: SplitResult) -> str:
    return re.sub(r":\d*$", "", _host(of)).strip("[]")


def address(text: str) -> Address:
    """An IP address.

    Raises:
        CelError: it is none.
    """
    try:
        found = ipaddress.ip_address(text)
    except ValueError:
        raise CelError(f"IP Address '{text}' parse error during conversion from string") from None
    if isinstance(found, IPv6Address) and (found.scope_id or found.ipv4_mapped):
        what = "with zone value" if found.scope_id else "IPv4-mapped IPv6"
        raise CelError(f"IP address '{text}' {what} is not allowed")
    return found


def network(text: str) -> Network:
    """An address with the length of its network's prefix.

    Raises:
        CelError: it is none.
    """
    host, slash, length = text.partition("/")
    try:
        if not slash or not length.isdigit():
            raise ValueError
        address(host)
        return ipaddress.ip_interface(text)
    except (ValueError, CelError):
        raise CelError(
            f"network address parse error during conversion from string: '{text}'"
        ) from None


def _contains(net: Network, other: Any) -> bool:
    if isinstance(other, str):
        other = network(other) if "/" in other else address(other)
    inside: Any = other.network if isinstance(other, Network) else other
    if inside.version != net.version:
        return False
    return bool(inside in net.network if other is inside else inside.subnet_of(net.network))


def _says(test: Callable[[Address], bool]) -> tuple[Form]:
    return (("m", (IP,), BOOL, test),)


def _global(of: Address) -> bool:
    everyone = of == IPv4Address("255.255.255.255")
    return not (
        of.is_unspecified or of.is_loopback or of.is_multicast or of.is_link_local or everyone
    )


def _canonical(text: str) -> bool:
    return str(address(text)) == text


FUNCTIONS: list[tuple[str, tuple[Form, ...]]] = [
    ("url", (("g", (STRING,), URL, url),)),
    ("isURL", (("g", (STRING,), BOOL, parses(url)),)),
    ("getScheme", (("m", (URL,), STRING, lambda of: of.scheme),)),
    ("getHost", (("m", (URL,), STRING, _host),)),
    ("getHostname", (("m", (URL,), STRING, _hostname),)),
    ("getPort", (("m", (URL,), STRING, lambda of: "" if of.port is None else str(of.port)),)),
    ("getEscapedPath", (("m", (URL,), STRING, lambda of: of.path),)),
    (
        "getQuery",
        (
            (
                "m",
                (URL,),
                map_of(STRING, list_of(STRING)),
                lambda of: parse_qs(of.query, keep_blank_values=True),
            ),
        ),
    ),
    (
        "ip",
        (
            ("g", (STRING,), IP, address),
            ("m", (CIDR,), IP, lambda net: ipaddress.ip_address(str(net.ip))),
        ),
    ),
    ("isIP", (("g", (STRING,), BOOL, parses(address)),)),
    ("ip.isCanonical", (("g", (STRING,), BOOL, _canonical),)),
    ("family", (("m", (IP,), INT, lambda of: of.version),)),
    ("isUnspecified", _says(lambda of: of.is_unspecified)),
    ("isLoopback", _says(lambda of: of.is_loopback)),
    (
        "isLinkLocalMulticast",
        _says(lambda of: str(of).startswith("224.0.0.") or bool(re.match("ff.2:", str(of)))),
    ),
    ("isLinkLocalUnicast", _says(lambda of: of.is_link_local)),
    ("isGlobalUnicast", _says(_global)),
    ("cidr", (("g", (STRING,), CIDR, network),)),
    ("isCIDR", (("g", (STRING,), BOOL, parses(network)),)),
    ("prefixLength", (("m", (CIDR,), INT, lambda net: net.network.prefixlen),)),
    ("masked", (("m", (CIDR,), CIDR, lambda net: ipaddress.ip_interface(str(net.network))),)),
    ("containsIP", tuple(("m", (CIDR, kind), BOOL, _contains) for kind in (IP, STRING))),
    ("containsCIDR", tuple(("m", (CIDR, kind), BOOL, _contains) for kind in (CIDR, STRING))),
]
