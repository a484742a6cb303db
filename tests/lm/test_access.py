"""A server in a pod, asked through the API server's proxy as the chapters ask theirs."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import trustme
from kubernetes import client

from mlk8s.cluster import Connection, attach
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError, ClusterUnavailable, UsageError
from mlk8s.lm import access
from mlk8s.lm.load_client import Target
from mlk8s.provenance import Kind
from mlk8s.sim import Cluster

# The first event of an answer is sent at once, each further one when GET /next has asked for it.
SERVER = """
import http.server, json, os, threading
wanted = threading.Semaphore(0)
METRICS = '''# TYPE tokens counter
tokens_total{model_name="a"} 3.0
tokens_total{model_name="b"} 4.5
# TYPE running gauge
running 2.0
'''
class Handler(http.server.BaseHTTPRequestHandler):
    def answer(self, status, body, kind="application/json"):
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_GET(self):
        if self.path == "/next":
            wanted.release()
            self.answer(200, b"{}")
        elif self.path == "/metrics":
            self.answer(200, METRICS.encode(), "text/plain; version=0.0.4")
        else:
            self.answer(404, b"no such page")
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if body["model"] != "small":
            error = {"message": f"no model {body['model']}", "type": "invalid_request_error"}
            self.answer(400, json.dumps({"error": error}).encode())
            return
        assert self.path == "/openai/v1/completions" and body["stream"], (self.path, body)
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        self.event(json.dumps({"choices": [{"index": 0, "text": body["prompt"]}]}))
        if body["prompt"] == "break":
            self.event(json.dumps({"error": {"message": "out of memory"}}))
        if body["prompt"] in ("break", "cut"):
            return
        for text in (" is ", "63", ""):
            if not wanted.acquire(timeout=10):
                return
            self.event(json.dumps({"choices": [{"index": 0, "text": text}]}))
        self.event("[DONE]")
    def event(self, data):
        self.wfile.write(f"data: {data}\\n\\n".encode())
        self.wfile.flush()
port = int(os.environ["MLK8S_PORT_8080"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def pod(space: str) -> dict[str, Any]:
    container = {
        "name": "server",
        "image": "python:3.12",
        "command": ["python", "-c", SERVER],
        "ports": [{"containerPort": 8080}],
        "readinessProbe": {"httpGet": {"path": "/metrics", "port": 8080}, "periodSeconds": 1},
    }
    return {
        "metadata": {"name": "server", "namespace": space, "labels": {"app": "server"}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [container]},
    }


def service(name: str) -> dict[str, Any]:
    """A Service before the pods of its name."""
    ports = [{"port": 80, "targetPort": 8080}]
    return {"metadata": {"name": name}, "spec": {"selector": {"app": name}, "ports": ports}}


@pytest.fixture(scope="module")
def k() -> Iterator[Connection]:
    """A cluster with Service ``server`` before a server, and ``empty`` before nothing."""
    with Cluster("cpu", seed=0) as cluster, attach(cluster) as found:
        found.ensure_namespace()
        space = found.namespace
        found.request("POST", path("pods", namespace=space), pod(space))
        for name in ("server", "empty"):
            found.request("POST", path("services", namespace=space), service(name))
        endpoints = path("endpoints", "server", space)
        until(lambda: any("addresses" in s for s in subsets(found.find(endpoints))))
        yield found
        log = (cluster.directory / "server.log").read_text()
        assert "Traceback" not in log, log


def subsets(endpoints: dict[str, Any] | None) -> list[dict[str, Any]]:
    return (endpoints or {}).get("subsets") or []


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def test_pieces_arrive_as_they_are_sent(k: Connection) -> None:
    found = []
    following = path("services", "server", k.namespace, "proxy/next")
    for piece in access.stream(access.through(k, "server", model="small"), "9 × 7"):
        found.append(piece)
        # What waits for the whole answer never comes here, and the server gives up.
        k.request("GET", following)
    assert [piece.text for piece in found] == ["9 × 7", " is ", "63"]
    times = [piece.after_s for piece in found]
    assert 0 < times[0] < times[1] < times[2]


@pytest.mark.parametrize(
    ("prompt", "kind", "words"),
    [
        ("break", ClusterError, "gave up: out of memory"),
        ("cut", ClusterUnavailable, "ended before its last event"),
    ],
)
def test_an_answer_that_breaks_off(
    k: Connection, prompt: str, kind: type[Exception], words: str
) -> None:
    pieces = access.stream(access.through(k, "server", model="small"), prompt)
    assert next(pieces).text == prompt
    with pytest.raises(kind, match=words):
        next(pieces)


def test_requests_carry_the_credentials_of_the_connection(k: Connection) -> None:
    target = access.through(k, "server")
    assert access.metric(target, "running") == 2
    with pytest.raises(ClusterError, match='metrics answers 403: .*"system:anonymous"'):
        access.metric(replace(target, headers={}), "running")
    with pytest.raises(ClusterUnavailable, match="CERTIFICATE_VERIFY_FAILED"):
        access.metric(replace(target, tls=None), "running")


def test_a_client_certificate_is_shown(tmp_path: Path) -> None:
    """To a server that ends the handshake without one: the embedded cluster takes tokens only."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(tmp_path / "ca.crt"))
    own = authority.issue_cert("reader@example.com")
    own.cert_chain_pems[0].write_to_path(str(tmp_path / "own.crt"))
    own.private_key_pem.write_to_path(str(tmp_path / "own.key"))
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.maximum_version = ssl.TLSVersion.TLSv1_2  # a 1.3 client has sent before it is refused
    authority.configure_trust(tls)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with HTTPServer(("127.0.0.1", 0), Running) as server:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        config = client.Configuration()
        config.host = f"https://127.0.0.1:{server.server_port}"
        config.ssl_ca_cert = str(tmp_path / "ca.crt")
        config.cert_file, config.key_file = str(tmp_path / "own.crt"), str(tmp_path / "own.key")
        api = client.ApiClient(config)
        try:
            with Connection(Kind.LIVE, "here", config.host, "v1.36.2", api) as found:
                assert access.metric(access.through(found, "server"), "running") == 2
                config.cert_file = None
                with pytest.raises(ClusterUnavailable, match="Nothing answers"):
                    access.metric(access.through(found, "server"), "running")
        finally:
            server.shutdown()


class Running(BaseHTTPRequestHandler):
    """Answers with one metric."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"running 2\n")

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged."""


def test_refusals_are_in_the_words_of_who_refuses(k: Connection) -> None:
    cases: dict[str, Target] = {
        "400: no model large": access.through(k, "server", model="large"),
        '503: no endpoints available for service "empty:80"': access.through(k, "empty", model="a"),
        '503: no service port 81 found for service "server"': access.through(
            k, "server", port=81, model="a"
        ),
        '404: services "none" not found': access.through(k, "none", model="a"),
    }
    for words, target in cases.items():
        with pytest.raises(ClusterError) as error:
            list(access.stream(target, "9 × 7"))
        assert f"openai/v1/completions answers {words}" in str(error.value)


def test_a_target_without_a_model(k: Connection) -> None:
    with pytest.raises(UsageError, match="names no model"):
        next(access.stream(access.through(k, "server"), "9 × 7"))


def test_a_metric_is_the_sum_of_its_samples(k: Connection) -> None:
    target = access.through(k, "server")
    assert access.metric(target, "tokens_total") == 7.5
    with pytest.raises(ClusterError, match="no metric tokens_created") as error:
        access.metric(target, "tokens_created")
    assert f"{target.base_url}/metrics" in error.value.next_step


def test_nothing_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        host, port = listener.getsockname()
        # It takes connections and says nothing.
        silent = Target(f"http://{host}:{port}", timeout_s=0.2)
        with pytest.raises(ClusterUnavailable, match="Nothing answers at http://127"):
            access.metric(silent, "running")
    with pytest.raises(ClusterUnavailable, match="Connection refused"):
        access.metric(silent, "running")
