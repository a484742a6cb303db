"""The proxy subresources: what a pod's process says reaches a client of the API, as it is said."""

from __future__ import annotations

import http.client
import json
import socket
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from kubernetes import client, config

from mlk8s.sim import Cluster

HOME = "/api/v1/namespaces/default"
# Answers with what it was asked; /events is sent piece by piece, /silent says nothing at all,
# /left tells whether somebody has left while it was silent.
SERVER = """
import http.server, json, os, select
left = []
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def answer(self, status, body, **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def do_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        if self.headers.get("Transfer-Encoding") == "chunked":
            self.answer(411, b"")
        body = self.rfile.read(length).decode()
        if self.path == "/events":
            self.events()
        elif self.path == "/silent":
            select.select([self.connection], [], [], 20)
            left.append(self.connection.recv(1) == b"")
            self.close_connection = True
        elif self.path == "/left":
            self.answer(200, json.dumps(left).encode())
        elif self.path == "/moved":
            self.answer(302, b"", Location="/elsewhere?a=1")
        elif self.path == "/broken":
            self.answer(418, b"short and stout", Warning="pot")
        elif self.path == "/cut":
            self.send_response(200)
            self.send_header("Content-Length", "100")
            self.end_headers()
            self.wfile.write(b"ends here")
            self.wfile.flush()
            os._exit(1)
        else:
            found = {"method": self.command, "path": self.path, "body": body}
            found["headers"] = {name.lower(): value for name, value in self.headers.items()}
            self.answer(200, json.dumps(found).encode(), Pod=os.environ["HOSTNAME"])
    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = do_any
    def events(self):
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for number in range(3):
            data = f"data: {number}\\n\\n".encode()
            self.wfile.write(b"%x\\r\\n%s\\r\\n" % (len(data), data))
            self.wfile.flush()
            # The next one only when the client has had this one, and says so.
            while len(asked) <= number:
                select.select([], [], [], 0.02)
        self.wfile.write(b"0\\r\\n\\r\\n")
    def log_message(self, *args):
        if "/next" in str(args):
            asked.append(1)
asked = []
port = int(os.environ["MLK8S_PORT_8080"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""
READY = {"tcpSocket": {"port": 8080}, "periodSeconds": 1}


def pod(name: str, **container: Any) -> dict[str, Any]:
    whole = {
        "name": "main",
        "image": "mlk8s/course",
        "command": ["python", "-c", SERVER],
        "ports": [{"name": "web", "containerPort": 8080}],
        "readinessProbe": READY,
        **container,
    }
    return {
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [whole]},
    }


class Lab:
    """A cluster with one server and a Service before it."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.api = config.new_client_from_config(str(cluster.kubeconfig))
        self.core = client.CoreV1Api(self.api)

    def until(self, condition: Callable[[], Any], within_s: float = 20.0) -> None:
        deadline = time.monotonic() + within_s
        while not condition():
            assert time.monotonic() < deadline, "it did not happen"
            time.sleep(0.05)

    def ready(self, name: str) -> bool:
        found = self.core.read_namespaced_pod(name, "default").status.container_statuses
        return bool(found and found[0].ready)

    def addresses(self, name: str) -> int:
        found = self.core.read_namespaced_endpoints(name, "default").subsets or []
        return sum(len(each.addresses or ()) for each in found)

    def ask(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        """A request with nothing between the test and the wire."""
        context = ssl.create_default_context(cafile=str(self.cluster.directory / "ca.crt"))
        host = self.cluster.url.removeprefix("https://")
        connection = http.client.HTTPSConnection(host, context=context, timeout=20)
        headers = {"Authorization": f"Bearer {self.cluster.token}", "X-Own": "kept"}
        connection.request(method, HOME + path, body, headers)
        return connection.getresponse()

    def refused(self, path: str, method: str = "GET") -> tuple[int, str, str]:
        answer = self.ask(method, path)
        status = json.loads(answer.read())
        assert status["kind"] == "Status"
        return answer.status, status["reason"], status["message"]

    def kubectl(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        command = ["kubectl", "--kubeconfig", str(self.cluster.kubeconfig), *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def lab() -> Iterator[Lab]:
    with Cluster("h100x8") as cluster:
        found = Lab(cluster)
        core = found.core
        core.create_namespaced_pod("default", pod("web"))
        ports = [{"port": 80, "targetPort": "web"}]
        core.create_namespaced_service(
            "default",
            {"metadata": {"name": "web"}, "spec": {"selector": {"app": "web"}, "ports": ports}},
        )
        found.until(lambda: found.ready("web") and found.addresses("web"))
        yield found
        log = (cluster.directory / "server.log").read_text()
        assert "Traceback" not in log, log


@pytest.mark.parametrize("where", ["services/web", "services/web:80", "services/http:web:80"])
def test_a_service(lab: Lab, where: str) -> None:
    answer = lab.ask("POST", f"/{where}/proxy/v1/models/m:predict?a=b%20c", b'{"x": 1}')
    assert (answer.status, answer.getheader("Pod")) == (200, "web")
    found = json.loads(answer.read())
    assert (found["method"], found["body"]) == ("POST", '{"x": 1}')
    assert found["path"] == "/v1/models/m:predict?a=b%20c"
    headers = found["headers"]
    assert headers["x-own"] == "kept"
    assert headers["x-forwarded-uri"] == f"{HOME}/{where}/proxy/v1/models/m:predict"
    # Whoever asks is known to the API server alone.
    assert "authorization" not in headers


@pytest.mark.parametrize("where", ["pods/web", "pods/web:8080", "pods/http:web:8080"])
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
def test_a_pod(lab: Lab, method: str, where: str) -> None:
    found = json.loads(lab.ask(method, f"/{where}/proxy/").read())
    assert (found["method"], found["path"], found["body"]) == (method, "/", "")


def test_answers_are_passed_on_as_they_are(lab: Lab) -> None:
    answer = lab.ask("GET", "/services/web/proxy/broken")
    assert (answer.status, answer.read()) == (418, b"short and stout")
    assert answer.getheader("Warning") == "pot"
    moved = lab.ask("GET", "/services/web/proxy/moved")
    assert moved.status == 302
    assert moved.getheader("Location") == f"{HOME}/services/web/proxy/elsewhere?a=1"
    slash = lab.ask("GET", "/services/web/proxy?a=1")
    assert slash.status == 301
    assert slash.getheader("Location") == f"{HOME}/services/web/proxy/?a=1"


def test_events_arrive_as_they_are_sent(lab: Lab) -> None:
    answer = lab.ask("GET", "/services/web/proxy/events")
    assert answer.getheader("Content-Type") == "text/event-stream"
    # The server sends the next one when it is asked to: buffering would wait forever.
    for number in range(3):
        assert answer.readline() == f"data: {number}\n".encode()
        assert answer.readline() == b"\n"
        assert lab.ask("GET", "/services/web/proxy/next").status == 200
    assert answer.read() == b""


def test_a_client_that_leaves_takes_its_request_with_it(lab: Lab) -> None:
    def left() -> list[bool]:
        return list(json.loads(lab.ask("GET", "/services/web/proxy/left").read()))

    before = len(left())
    context = ssl.create_default_context(cafile=str(lab.cluster.directory / "ca.crt"))
    host, _, port = lab.cluster.url.removeprefix("https://").partition(":")
    raw = context.wrap_socket(socket.create_connection((host, int(port))), server_hostname=host)
    asked = f"GET {HOME}/services/web/proxy/silent HTTP/1.1\r\nHost: x\r\n"
    raw.sendall(f"{asked}Authorization: Bearer {lab.cluster.token}\r\n\r\n".encode())
    raw.close()
    lab.until(lambda: len(left()) > before)
    assert left()[-1]


def test_the_official_client_and_kubectl(lab: Lab) -> None:
    found = lab.core.connect_get_namespaced_service_proxy_with_path(
        "web:80", "default", "v1/models/a", _preload_content=False
    )
    assert json.loads(found.data)["path"] == "/v1/models/a"
    found = lab.core.connect_post_namespaced_pod_proxy_with_path(
        "web", "default", "b", _preload_content=False
    )
    assert json.loads(found.data)["method"] == "POST"
    path = f"{HOME}/services/web:80/proxy/v2/models?x=1"
    done = lab.kubectl("get", "--raw", path)
    assert json.loads(done.stdout)["path"] == "/v2/models?x=1", done.stderr
    done = lab.kubectl("get", "--raw", f"{HOME}/services/web:81/proxy/")
    text = 'Error from server (ServiceUnavailable): no service port 81 found for service "web"\n'
    assert done.stderr == text


def test_refusals(lab: Lab) -> None:
    unavailable = (503, "ServiceUnavailable")
    cases = {
        "services/none/proxy/": (404, "NotFound", 'services "none" not found'),
        "services/ftp:web:80/proxy/": (400, "BadRequest", 'invalid service request "ftp:web:80"'),
        "services/web:81/proxy/": (*unavailable, 'no service port 81 found for service "web"'),
        "services/web:x/proxy/": (*unavailable, 'no endpoints available for service "web:x"'),
        "pods/none/proxy/": (404, "NotFound", 'pods "none" not found'),
        "pods/a:b:c:d/proxy/": (400, "BadRequest", 'invalid pod request "a:b:c:d"'),
    }
    for path, expected in cases.items():
        assert lab.refused(f"/{path}") == expected
    ip = lab.core.read_namespaced_pod("web", "default").status.pod_ip
    code, reason, message = lab.refused("/pods/web:9/proxy/")
    assert (code, reason) == unavailable
    assert message == (
        f"error trying to reach service: dial tcp {ip}:9: connect: connection refused (simulated: "
        "nothing listens, no container of pod web declares port 9 in its ports)"
    )


def test_pods_without_a_listener(lab: Lab) -> None:
    core = lab.core
    refused = "connect: connection refused"
    lonely = pod("lonely")
    lonely["spec"]["schedulerName"] = "nobody"
    core.create_namespaced_pod("default", lonely)
    assert lab.refused("/pods/lonely/proxy/") == (400, "BadRequest", "address not allowed")
    # A process that does not listen: nothing to add to what a real cluster says.
    deaf = pod("deaf", command=["sleep", "60"], readinessProbe=None)
    core.create_namespaced_pod("default", deaf)
    lab.until(lambda: lab.ready("deaf"))
    assert lab.refused("/pods/deaf/proxy/")[2].endswith(refused)
    replayed = {"image": "nginx", "command": None, "readinessProbe": None}
    core.create_namespaced_pod("default", pod("replayed", **replayed))
    lab.until(lambda: lab.ready("replayed"))
    assert (
        "no container of pod replayed with this port runs as a process"
        in (lab.refused("/pods/replayed/proxy/")[2])
    )
    over = pod("over", command=["true"], readinessProbe=None)
    over["spec"]["restartPolicy"] = "Never"
    core.create_namespaced_pod("default", over)
    lab.until(lambda: core.read_namespaced_pod("over", "default").status.phase == "Succeeded")
    assert "nothing listens, pod over has ended" in lab.refused("/pods/over/proxy/")[2]
    ports = [{"name": "http", "port": 80, "targetPort": 8080}]
    for name in ("lonely", "deaf"):
        spec = {"selector": {"app": name}, "ports": ports}
        core.create_namespaced_service("default", {"metadata": {"name": name}, "spec": spec})
    lab.until(lambda: lab.addresses("deaf"))
    unavailable = (503, "ServiceUnavailable")
    text = 'no endpoints available for service "lonely:80"'
    assert lab.refused("/services/lonely:80/proxy/") == (*unavailable, text)
    # A port with a name has to be named, as in a real cluster.
    text = 'no endpoints available for service "deaf"'
    assert lab.refused("/services/deaf/proxy/") == (*unavailable, text)
    assert lab.refused("/services/deaf:http/proxy/")[2].endswith(refused)


def test_a_pod_that_ends_in_the_middle_of_its_answer(lab: Lab) -> None:
    core = lab.core
    core.create_namespaced_pod("default", pod("dying"))
    lab.until(lambda: lab.ready("dying"))
    answer = lab.ask("GET", "/pods/dying/proxy/cut")
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        answer.read()


def test_discovery(lab: Lab) -> None:
    found = {each.name: each for each in lab.core.get_api_resources().resources}
    for plural, kind in (("pods", "PodProxyOptions"), ("services", "ServiceProxyOptions")):
        below = found[f"{plural}/proxy"]
        assert (below.kind, below.namespaced) == (kind, True)
        assert below.verbs == ["create", "delete", "get", "patch", "update"]
