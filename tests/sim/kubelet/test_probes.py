"""Probes over HTTP and TCP ask the process; those of images that are no processes pass."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

# A server that does what files in its mounted directory say.
SERVER = """
import http.server, os, pathlib, time
where = pathlib.Path(os.environ["CONTROL"])
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = [self.path, self.headers["User-Agent"], str(self.headers["X-Own"])]
        (where / "asked").write_text(" ".join(found))
        self.send_response(int((where / "status").read_text()))
        self.end_headers()
    def log_message(self, *args): pass
while not (where / "listen").exists():
    time.sleep(0.02)
port = int(os.environ["MLK8S_PORT_8080"])
http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
"""


def server(control: Path, **probes: Any) -> dict[str, Any]:
    """A pod's container with a server that a test directs through files."""
    (control / "status").write_text("200")
    return {
        "name": "main",
        "image": "python",
        "command": ["python", "-c", SERVER],
        "env": [{"name": "CONTROL", "value": str(control)}],
        "ports": [{"name": "web", "containerPort": 8080}],
        **{f"{kind}Probe": {"periodSeconds": 1, **probe} for kind, probe in probes.items()},
    }


def listens(control: Path) -> None:
    (control / "listen").touch()


def set_status(control: Path, status: int) -> None:
    """Replaced whole: the server reads it meanwhile."""
    new = control / "status.new"
    new.write_text(str(status))
    os.replace(new, control / "status")


def unhealthy(cluster: Any, name: str) -> list[str]:
    return [message for _, reason, message in cluster.events(name) if reason == "Unhealthy"]


def test_a_server_is_ready_once_it_answers(cluster: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with cluster(manual=False) as c:
            probe = {
                "path": "ready?full=1",
                "port": "web",
                "httpHeaders": [{"name": "X-Own", "value": "told"}],
            }
            c.pod("web", containers=[server(tmp_path, readiness={"httpGet": probe})])
            await c.until(lambda: unhealthy(c, "web"))
            pod = c.get("web")
            assert not c.main("web")["ready"]
            ip = pod["status"]["podIP"]
            assert unhealthy(c, "web")[0] == (
                f'Readiness probe failed: Get "http://{ip}:8080/ready?full=1": dial tcp '
                f"{ip}:8080: connect: connection refused"
            )
            [(key, port)] = json.loads(pod["metadata"]["annotations"]["mlk8s.dev/ports"]).items()
            assert (key, port) == ("main/8080", c.kubelet.port("default", "web", 8080))
            listens(tmp_path)
            await c.until(lambda: c.main("web")["ready"])
            asked = (tmp_path / "asked").read_text()
            assert asked == "/ready?full=1 kube-probe/1.36 told"
            # A probe of a process that has passed once is still asked.
            set_status(tmp_path, 503)
            await c.until(lambda: not c.main("web")["ready"])
            expected = "Readiness probe failed: HTTP probe failed with statuscode: 503"
            assert expected in unhealthy(c, "web")
            set_status(tmp_path, 302)
            await c.until(lambda: c.main("web")["ready"])

    asyncio.run(run())


def test_liveness_restarts_and_startup_comes_first(cluster: Any, tmp_path: Path) -> None:
    async def run() -> None:
        async with cluster(manual=False) as c:
            started = {"tcpSocket": {"port": 8080}, "failureThreshold": 30}
            alive = {"httpGet": {"port": 8080}, "failureThreshold": 1}
            container = server(tmp_path, startup=started, liveness=alive)
            c.pod("web", containers=[container], restartPolicy="Always")
            await c.until(lambda: unhealthy(c, "web"))
            ip = c.get("web")["status"]["podIP"]
            refused = f"dial tcp {ip}:8080: connect: connection refused"
            assert unhealthy(c, "web")[0] == f"Startup probe failed: {refused}"
            assert not c.main("web")["started"]
            listens(tmp_path)
            await c.until(lambda: c.main("web")["started"])
            before = c.kubelet.port("default", "web", 8080)
            set_status(tmp_path, 500)
            await c.until(lambda: c.main("web")["restartCount"] == 1)
            failed = "Liveness probe failed: HTTP probe failed with statuscode: 500"
            assert failed in unhealthy(c, "web")
            killing = "Container main failed liveness probe, will be restarted"
            assert ("Normal", "Killing", killing) in c.events("web")
            set_status(tmp_path, 200)
            await c.until(lambda: c.main("web")["ready"])
            # The port is its own again, or a new one; the annotation says which.
            said = json.loads(c.get("web")["metadata"]["annotations"]["mlk8s.dev/ports"])
            assert said == {"main/8080": c.kubelet.port("default", "web", 8080)}
            assert before is not None

    asyncio.run(run())


def test_a_server_that_says_nothing_times_out(cluster: Any, tmp_path: Path) -> None:
    silent = SERVER.replace("def do_GET(self):", "def do_GET(self):\n        time.sleep(9)")

    async def run() -> None:
        async with cluster(manual=False) as c:
            listens(tmp_path)
            container = server(tmp_path, readiness={"httpGet": {"path": "/", "port": 8080}})
            container["command"] = ["python", "-c", silent]
            c.pod("web", containers=[container])
            ending = "context deadline exceeded (Client.Timeout exceeded while awaiting headers)"
            await c.until(lambda: any(each.endswith(ending) for each in unhealthy(c, "web")))

    asyncio.run(run())


def test_where_no_process_listens_probes_pass(cluster: Any) -> None:
    probe = {"httpGet": {"path": "/", "port": 80}, "initialDelaySeconds": 5}

    async def run() -> None:
        async with cluster() as c:
            replayed = {"name": "main", "image": "nginx", "ports": [{"containerPort": 80}]}
            c.pod("nginx", containers=[{**replayed, "readinessProbe": probe}])
            # A port that the container does not declare is nowhere.
            command = ["sh", "-c", "sleep 60"]
            process = {"name": "main", "image": "busybox", "command": command}
            c.pod("undeclared", containers=[{**process, "readinessProbe": probe}])
            await c.advance(4)
            assert not c.main("nginx")["ready"]
            await c.advance(6)
            assert c.main("nginx")["ready"]
            assert c.main("undeclared")["ready"]
            for name in ("nginx", "undeclared"):
                assert "mlk8s.dev/ports" not in c.get(name)["metadata"]["annotations"]
                assert unhealthy(c, name) == []

    asyncio.run(run())


def test_two_servers_of_one_port_get_different_ones(cluster: Any) -> None:
    script = 'echo "$MLK8S_PORT_8080 $MLK8S_PORT_9000 $OWN ${MLK8S_PORT_53:-none} $1"; sleep 60'
    container = {
        "name": "main",
        "image": "busybox",
        "command": ["sh", "-c", script, "sh"],
        "args": ["$(MLK8S_PORT_9000)"],
        "env": [{"name": "OWN", "value": "$(MLK8S_PORT_8080)"}],
        "ports": [
            {"containerPort": 8080},
            {"containerPort": 9000},
            {"containerPort": 53, "protocol": "UDP"},
        ],
    }

    async def run() -> None:
        async with cluster(manual=False) as c:
            for name in ("a", "b"):
                c.pod(name, containers=[container], terminationGracePeriodSeconds=1)
            ports: list[str] = []
            for name in ("a", "b"):
                await c.until(
                    lambda name=name: c.get(name).get("status", {}).get("phase") == "Running"
                )
                lines = c.kubelet.logs("default", name, "main", follow=True)
                text = (await anext(lines)).decode()
                first, second, own, udp, argument = text.split()
                assert (own, udp, argument) == (first, "none", second)
                ports += [first, second]
            assert len(set(ports)) == 4
            c.api.delete("pods", "default", "a")
            await c.until(lambda: c.get("a") is None)
            assert c.kubelet.port("default", "a", 8080) is None

    asyncio.run(run())
