"""What tests do with KubeRay, asked over HTTP, on a clock that they drive."""

from __future__ import annotations

from typing import Any

from ..lab import HOME, Lab, Object

GROUP = "ray.io"
API = f"/apis/{GROUP}/v1{HOME}"
CLUSTERS, JOBS, SERVICES = (f"{API}/{kind}" for kind in ("rayclusters", "rayjobs", "rayservices"))
CORE = f"/api/v1{HOME}"
BATCH = f"/apis/batch/v1{HOME}/jobs"
PAUSE = "registry.k8s.io/pause:3.10"


def template(image: str = PAUSE, **container: Any) -> Object:
    """A pod template; without a command it runs until it is stopped, and is no Ray."""
    policy = container.pop("restartPolicy", "Always")
    spec = {"restartPolicy": policy, "containers": [{"name": "ray", "image": image, **container}]}
    return {"spec": spec}


# Processes in the place of Ray's: a head that listens where workers look for it, a worker that
# waits. What KubeRay looks for in a command of one's own is a comment.
_LISTEN = """
import os, socket, time
server = socket.create_server(("127.0.0.1", int(os.environ["RAY_PORT"])))
time.sleep(600)  # ray start"""


# A head that answers what the operator asks of Ray's dashboard and of a proxy of Ray Serve:
# applications run as soon as they are given, jobs are as a variable says.
_ANSWER = """
import http.server, json, os, threading
given = {}

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if self.path.startswith("/api/jobs/"):
            return self.tell({"status": os.environ["JOB"], "message": "said by a stand-in"})
        if self.path == "/-/healthz":
            return self.tell("success")
        part = {"status": "RUNNING", "message": ""}
        self.tell({"applications": {each["name"]: {**part, "deployments": {"main": part}}
                                    for each in given.get("applications", [])}})

    def do_PUT(self):
        given.update(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
        print("given", json.dumps(given), flush=True)
        self.tell({})

    def tell(self, value):
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

for port in (8265, 8000):
    place = ("127.0.0.1", int(os.environ[f"MLK8S_PORT_{port}"]))
    server = http.server.ThreadingHTTPServer(place, Handler)
    threading.Thread(target=server.serve_forever).start()
# ray start"""


def answering(job: str = "SUCCEEDED", **container: Any) -> Object:
    """A pod template of a head that answers the operator."""
    passes = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    whole = {"command": ["python3", "-c", _ANSWER], "readinessProbe": passes, **container}
    return template("python:3.12", env=[{"name": "JOB", "value": job}], **whole)


def ends(code: int) -> Object:
    """The template of a submitter that ends at once."""
    return template("busybox", command=["sh", "-c", f"exit {code}"], restartPolicy="Never")


def standing(kind: str, **container: Any) -> Object:
    """A pod template whose process stands for a head or a worker."""
    program = _LISTEN if kind == "head" else "import time; time.sleep(600)  # ray start"
    passes = {"exec": {"command": ["true"]}, "periodSeconds": 1}
    whole = {"command": ["python3", "-c", program], "readinessProbe": passes, **container}
    return template("python:3.12", **whole)


def workers(name: str = "cpu", replicas: int = 1, **group: Any) -> Object:
    """A group of workers."""
    bounds = {"replicas": replicas, "minReplicas": 0, "maxReplicas": 5}
    return {"groupName": name, **bounds, "template": template(), **group}


def cluster(*groups: Object, head: Object | None = None, **spec: Any) -> Object:
    """The spec of a cluster."""
    wanted = {"template": template(), "rayStartParams": {}, **(head or {})}
    return {
        "rayVersion": "2.60.0",
        "headGroupSpec": wanted,
        "workerGroupSpecs": list(groups),
        **spec,
    }


class RayLab(Lab):
    """A cluster with KubeRay, in few words."""

    def body(self, kind: str, name: str, spec: Object, **metadata: Any) -> Object:
        return {
            "apiVersion": f"{GROUP}/v1",
            "kind": kind,
            "metadata": {"name": name, **metadata},
            "spec": spec,
        }

    def make(self, kind: str, name: str, spec: Object, **metadata: Any) -> None:
        answer = self.post(f"{API}/{kind.lower()}s", self.body(kind, name, spec, **metadata))
        assert answer.status == 201, answer.message
        self.wait(2)

    def refused(self, kind: str, spec: Object, **metadata: Any) -> str:
        """What the server says to an object that it does not take."""
        answer = self.post(f"{API}/{kind.lower()}s", self.body(kind, "r", spec, **metadata))
        assert answer.status in (403, 422), answer.body
        return answer.message

    def ray(self, *groups: Object, name: str = "r", **spec: Any) -> None:
        """A RayCluster whose pods are ready after some seconds."""
        self.make("RayCluster", name, cluster(*groups, **spec))

    def up(self, *groups: Object, name: str = "r", **spec: Any) -> None:
        """A RayCluster of stand-ins, ready."""
        told = [{**each, "template": standing("worker", **each.pop("own", {}))} for each in groups]
        self.ray(*told, name=name, head={"template": standing("head")}, **spec)
        self.until(lambda: self.ready(name), within_s=60)

    def status(self, path: str) -> Any:
        return self.get(path).get("status", {})

    def conditions(self, path: str) -> dict[str, tuple[str, str]]:
        """Value and reason of each condition."""
        found = self.status(path).get("conditions", [])
        return {each["type"]: (each["status"], each["reason"]) for each in found}

    def ready(self, name: str = "r") -> bool:
        return bool(self.status(f"{CLUSTERS}/{name}").get("state") == "ready")

    def nodes(self, kind: str = "", name: str = "r") -> list[Object]:
        """The pods of a cluster, or its heads or workers alone."""
        selector = f"{GROUP}/cluster%3D{name}" + (f",{GROUP}/node-type%3D{kind}" if kind else "")
        found = self.get(f"{CORE}/pods?labelSelector={selector}")["items"]
        return [each for each in found if "deletionTimestamp" not in each["metadata"]]

    def container(self, kind: str = "head") -> Any:
        """The Ray container of the first head or worker."""
        return self.nodes(kind)[0]["spec"]["containers"][0]

    def start(self, kind: str = "head") -> str:
        """The command with which a node of Ray starts."""
        container = self.container(kind)
        assert container["command"] == ["/bin/bash", "-c", "--"]
        [line] = container["args"]
        return str(line)

    def clear(self) -> None:
        """Delete what a test made, and wait for its pods to end."""
        paths = (JOBS, SERVICES, CLUSTERS, f"{CORE}/configmaps", f"{CORE}/events")
        for path in paths:
            assert self.client("DELETE", path).status in (200, 404)
        self.wait(40)
