"""Reaching what pods' processes listen with: this machine's loopback stands for the pod network.

What goes wrong is said as Go's ``net`` package says it, about the address of the pod.
"""

from __future__ import annotations

import asyncio
import os

import aiohttp

#: Where processes of pods are reached.
LOOPBACK = "127.0.0.1"


def session() -> aiohttp.ClientSession:
    """A client for one exchange, which passes on what it gets: nothing unpacked, nothing kept."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(ssl=False, force_close=True),
        timeout=aiohttp.ClientTimeout(total=None),
        cookie_jar=aiohttp.DummyCookieJar(),
        auto_decompress=False,
        trust_env=False,
    )


def refused(address: str, port: int) -> str:
    """What a client is told where nothing listens.

    Args:
        address: of the pod.
        port: of the pod.
    """
    return f"dial tcp {address}:{port}: connect: connection refused"


def failure(address: str, port: int, error: Exception) -> str:
    """What a client is told of an exchange that failed.

    Args:
        address: of the pod.
        port: of the pod.
        error: as this machine's own sockets or aiohttp told it.
    """
    cause: BaseException = error
    if isinstance(error, aiohttp.ClientConnectorError):
        cause = error.os_error
    if isinstance(cause, ConnectionRefusedError):
        return refused(address, port)
    if isinstance(cause, asyncio.TimeoutError):
        return f"dial tcp {address}:{port}: i/o timeout"
    if isinstance(cause, aiohttp.ServerDisconnectedError):
        return "EOF"
    if isinstance(cause, ConnectionResetError | aiohttp.ClientOSError):
        return f"read tcp {address}:{port}: read: connection reset by peer"
    if isinstance(cause, OSError) and cause.errno:
        return f"dial tcp {address}:{port}: connect: {os.strerror(cause.errno).lower()}"
    return f"net/http: HTTP/1.x transport connection broken: {cause}"
