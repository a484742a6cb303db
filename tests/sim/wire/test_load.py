"""Many clients, slow clients, clients that vanish: everyone else is served, nothing is lost."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from mlk8s.sim import Cluster

from .client import CONFIGMAPS, MERGE, Client, configmap
from .conftest import without_errors


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """One for these tests alone, since they count its watches."""
    with without_errors() as running:
        yield running


def test_two_hundred_clients_at_once(cluster: Cluster) -> None:
    def life(number: int) -> list[int]:
        own = Client(cluster)
        path = f"{CONFIGMAPS}/many-{number}"
        return [
            own("POST", CONFIGMAPS, configmap(f"many-{number}", {"t": "many"})).status,
            own("GET", path).status,
            own("PATCH", path, {"data": {"n": str(number)}}, MERGE).status,
            int(own("GET", path).json["data"]["n"]),
            own("DELETE", path).status,
        ]

    with ThreadPoolExecutor(200) as pool:
        done = list(pool.map(life, range(200)))
    assert done == [[201, 200, 200, number, 200] for number in range(200)]
    assert Client(cluster)("GET", f"{CONFIGMAPS}?labelSelector=t%3Dmany").json["items"] == []


def test_writers_of_one_object_are_told_of_each_other(cluster: Cluster) -> None:
    client = Client(cluster)
    client("POST", CONFIGMAPS, configmap("counter", n="0"))

    def count(_: int) -> None:
        own = Client(cluster)
        for _ in range(10):
            while True:
                found = own("GET", f"{CONFIGMAPS}/counter").json
                found["data"]["n"] = str(int(found["data"]["n"]) + 1)
                answer = own("PUT", f"{CONFIGMAPS}/counter", found)
                if answer.status == 200:
                    break
                assert answer.status == 409

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(count, range(5)))
    assert client("GET", f"{CONFIGMAPS}/counter").json["data"]["n"] == "50"


def test_a_hundred_watches_see_the_same(cluster: Cluster) -> None:
    client = Client(cluster)
    revision = client("GET", CONFIGMAPS).json["metadata"]["resourceVersion"]
    path = f"{CONFIGMAPS}?watch=true&labelSelector=t%3Dseen&resourceVersion={revision}"
    ready = threading.Barrier(101, timeout=20)

    def follow(_: int) -> list[str]:
        with Client(cluster).watch(path) as events:
            ready.wait()
            return [next(events)["object"]["metadata"]["name"] for _ in range(20)]

    with ThreadPoolExecutor(100) as pool:
        watches = [pool.submit(follow, number) for number in range(100)]
        ready.wait()
        for number in range(20):
            client("POST", CONFIGMAPS, configmap(f"seen-{number}", {"t": "seen"}))
        seen = [watch.result(20) for watch in watches]
    assert seen == [[f"seen-{number}" for number in range(20)]] * 100
    client("DELETE", f"{CONFIGMAPS}?labelSelector=t%3Dseen")
    wait_for(lambda: client("GET", "/mlk8s/status").json["watches"] == 0)


def test_a_client_that_stops_reading_is_cut_off(cluster: Cluster) -> None:
    """What waits for it is bounded, others go on, and its connection ends."""
    client = Client(cluster)
    made = configmap("wide", x="x" * 200_000)
    assert client("POST", CONFIGMAPS, made).status == 201
    stuck = raw(cluster)
    stuck.sendall(
        request(cluster, "GET", f"{CONFIGMAPS}?watch=true&fieldSelector=metadata.name%3Dwide")
    )
    wait_for(lambda: client("GET", "/mlk8s/status").json["watches"] == 1)
    before = memory(cluster)
    began = time.monotonic()
    for number in range(300):
        answer = client("PATCH", f"{CONFIGMAPS}/wide", {"data": {"n": str(number)}}, MERGE)
        assert answer.status == 200
    assert time.monotonic() - began < 10
    # 300 events of 200 kB are 60 MB; the log keeps them once, whoever reads them.
    assert memory(cluster) - before < 200e6
    stuck.close()
    wait_for(lambda: client("GET", "/mlk8s/status").json["watches"] == 0)
    client("DELETE", f"{CONFIGMAPS}/wide")


def test_a_client_that_vanishes_in_the_middle_of_a_body(cluster: Cluster) -> None:
    client = Client(cluster)
    body = json.dumps(configmap("half", x="x" * 100_000)).encode()
    for cut in (0, 1, 50_000):
        broken = raw(cluster)
        broken.sendall(request(cluster, "POST", CONFIGMAPS, len(body)) + body[:cut])
        broken.close()
    assert client("GET", f"{CONFIGMAPS}/half").status == 404
    assert client("POST", CONFIGMAPS, configmap("half")).status == 201
    client("DELETE", f"{CONFIGMAPS}/half")


def test_what_is_not_http_at_all(cluster: Cluster) -> None:
    for junk in (b"\0" * 100, b"GET / HTTP/9.9\r\n\r\n", b"GET " + b"x" * 400_000):
        broken = raw(cluster)
        broken.settimeout(5)
        # The server may hang up before it has read everything.
        with suppress(ssl.SSLError, ConnectionError):
            broken.sendall(junk)
            broken.recv(1000)
        broken.close()
    plain = socket.create_connection(address(cluster))
    plain.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
    plain.close()
    assert Client(cluster)("GET", "/healthz").body == b"ok"


# -- helpers --------------------------------------------------------------------------------------


def wait_for(true: object, seconds: float = 10.0) -> None:
    assert callable(true)
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def address(cluster: Cluster) -> tuple[str, int]:
    host, _, port = cluster.url.removeprefix("https://").partition(":")
    return host, int(port)


def raw(cluster: Cluster) -> socket.socket:
    connection = socket.create_connection(address(cluster))
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    return Client(cluster).tls.wrap_socket(connection, server_hostname="127.0.0.1")


def request(cluster: Cluster, method: str, path: str, length: int = 0) -> bytes:
    lines = [
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        f"Authorization: Bearer {cluster.token}",
        "Content-Type: application/json",
        f"Content-Length: {length}",
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def memory(cluster: Cluster) -> float:
    """Bytes that the server holds."""
    pages = int(Path(f"/proc/{cluster.pid}/statm").read_text().split()[1])
    return pages * 4096.0
