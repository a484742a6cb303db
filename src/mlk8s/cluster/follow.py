"""Follows a pod or job: every change of its pods, and what their containers write."""

from __future__ import annotations

import json
import queue
import threading
import time
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

from mlk8s.cluster import owners, placed
from mlk8s.cluster.connection import WATCH_S, Connection
from mlk8s.cluster.progress import Display
from mlk8s.cluster.wire import Stream, path
from mlk8s.errors import ClusterError, ClusterUnavailable

Object = dict[str, Any]

_LOG_ENDS_WITHIN_S = 10.0
# How far the pods' stream may be behind the job's.
_BEHIND_S = 2.0
_JOB_LABEL = "batch.kubernetes.io/job-name"
_QUIET = (None, "", "ContainerCreating", "PodInitializing")


@dataclass
class _Log:
    """What one run of one container writes."""

    pod: str
    container: str
    lines: list[str] = field(default_factory=list)
    shown: int = 0
    reader: threading.Thread | None = None
    stream: Stream | None = None


class Follower:
    """What happens to a workload; use it as a context manager.

    One thread watches the pods, one the job, one reads each container's log; all of them feed one
    queue, so that everything is handled in one place and order.

    Args:
        connection: the cluster.
        kind: ``pod`` or ``job``.
        created: the object as the server answered its creation: all that happens since is seen.
        display: where changes and lines are shown.
    """

    def __init__(
        self, connection: Connection, kind: str, created: Object, display: Display
    ) -> None:
        self.connection = connection
        self.kind = kind
        self.namespace: str = created["metadata"]["namespace"]
        self.name: str = created["metadata"]["name"]
        self.display = display
        self._created = created
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue()
        self._streams: list[Stream] = []
        self._stopped = threading.Event()
        self._pods: dict[str, Object] = {}
        self._job: Object | None = None
        self._gone = ""
        self._states: dict[str, str] = {}
        self._logs: dict[tuple[str, str, int], _Log] = {}

    def __enter__(self) -> Follower:
        selector: dict[str, str] = {"fieldSelector": f"metadata.name={self.name}"}
        if self.kind == "job":
            self._start("job", owners.RESOURCES["job"], selector)
            selector = {"labelSelector": f"{_JOB_LABEL}={self.name}"}
        else:
            self._pod(self._created)
        self._start("pod", "pods", selector)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stopped.set()
        for stream in self._streams:
            stream.close()

    def pods(self) -> list[Object]:
        """The pods in the order in which they were made."""
        return list(self._pods.values())

    def log(self) -> str:
        """What all containers wrote, pod after pod."""
        return "\n".join("\n".join(log.lines) for log in self._logs.values() if log.lines)

    def wait(self, seconds: float) -> None:
        """Handle what happened; wait for it up to so many seconds.

        Raises:
            ClusterUnavailable: the server is gone.
            ClusterError: it refused to be watched.
        """
        try:
            kind, value = self._queue.get(timeout=seconds)
        except queue.Empty:
            return
        while True:
            self._handle(kind, value)
            try:
                kind, value = self._queue.get_nowait()
            except queue.Empty:
                return

    def end(self) -> tuple[str, str] | None:
        """(outcome, reason) once it has ended."""
        if self._gone:
            return "Failed", self._gone
        if self.kind == "pod":
            for pod in self._pods.values():
                if (phase := pod["status"].get("phase")) in ("Succeeded", "Failed"):
                    # A container that ends well when it is told to has not done its work.
                    cut = _cut_short(pod)
                    return ("Failed", cut) if cut else (phase, _reason(pod))
            return None
        for condition in ((self._job or {}).get("status") or {}).get("conditions") or ():
            if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
                good = condition["type"] == "Complete"
                self._finish()
                return ("Succeeded", "") if good else ("Failed", condition.get("message", ""))
        return None

    def _finish(self) -> None:
        """Take what is still on its way when the job says that it is over."""
        # Its pods are watched on a stream of their own, which may be behind the job's.
        until = time.monotonic() + _BEHIND_S
        while any(_goes_on(pod) for pod in self._pods.values()) and time.monotonic() < until:
            self.wait(0.1)
        for log in self._logs.values():
            self._end_of(log)

    # -- threads ---------------------------------------------------------------------------------

    def _start(self, kind: str, resource: str, selector: dict[str, str]) -> None:
        threading.Thread(
            target=self._watch, args=(kind, resource, selector), daemon=True, name="mlk8s-watch"
        ).start()

    def _watch(self, kind: str, resource: str, selector: dict[str, str]) -> None:
        where = path(resource, namespace=self.namespace)
        version = self._created["metadata"]["resourceVersion"]
        while not self._stopped.is_set():
            try:
                if not version:
                    found = self.connection.request("GET", where, **selector)
                    version = found["metadata"]["resourceVersion"]
                    self._queue.put((f"{kind}s", found["items"]))
                version = self._events(kind, where, selector, version)
            except (ClusterError, ClusterUnavailable) as error:
                self._queue.put(("error", error))
                return

    def _events(self, kind: str, where: str, selector: dict[str, str], version: str) -> str:
        """Hand on the changes until the watch ends; where to go on, empty for a new list."""
        stream = self.connection.lines(
            where,
            watch=True,
            resourceVersion=version,
            timeoutSeconds=WATCH_S,
            allowWatchBookmarks=True,
            **selector,
        )
        self._streams.append(stream)
        for line in stream:
            event = json.loads(line)
            if event["type"] == "ERROR":
                # Too old (410): begin anew.
                return ""
            version = event["object"]["metadata"]["resourceVersion"]
            if event["type"] != "BOOKMARK":
                self._queue.put((f"{kind} {event['type'].lower()}", event["object"]))
        return version

    def _read(self, log: _Log, query: dict[str, Any]) -> None:
        where = path("pods", log.pod, self.namespace, "log")
        try:
            log.stream = self.connection.lines(where, container=log.container, **query)
            self._streams.append(log.stream)
            for line in log.stream:
                self._queue.put(("line", (log, line)))
        except (ClusterError, ClusterUnavailable) as error:
            if not self._stopped.is_set():
                self._queue.put(("line", (log, f"(the log ends here: {error.problem})")))

    # -- what happened ---------------------------------------------------------------------------

    def _handle(self, kind: str, value: Any) -> None:
        match kind.split():
            case ["error"]:
                raise value
            case ["line"]:
                log, line = value
                log.lines.append(line)
                if self.display.live or len(self._pods) < 2:
                    self._show(log)
            case ["pods"]:
                for pod in sorted(value, key=_made):
                    self._pod(pod)
                uids = {pod["metadata"]["uid"] for pod in value}
                for uid in [uid for uid in self._pods if uid not in uids]:
                    self._lost(self._pods[uid])
            case ["jobs"]:
                self._job = value[0] if value else None
                if not value:
                    self._gone = "the job was deleted"
            case ["job", change]:
                self._job = value
                if change == "deleted":
                    self._gone = "the job was deleted"
            case ["pod", "deleted"]:
                self._pods[value["metadata"]["uid"]] = value
                self._pod(value)
                self._lost(value)
            case ["pod", _]:
                self._pod(value)

    def _lost(self, pod: Object) -> None:
        if pod["status"].get("phase") in ("Succeeded", "Failed"):
            return
        because = _cut_short(pod) or "it was deleted by somebody"
        self.display.line(f"{pod['metadata']['name']}: gone, because {because}")
        if self.kind == "pod":
            self._gone = because

    def _pod(self, pod: Object) -> None:
        metadata, status = pod["metadata"], pod["status"]
        name = metadata["name"]
        self._pods[metadata["uid"]] = pod
        if (status.get("phase")) in ("Running", "Succeeded", "Failed"):
            self._follow_logs(pod)
        state = _state(pod)
        if self._states.get(name) != state:
            self._states[name] = state
            self.display.line(f"{name}: {state}")
        running = sum(each["status"].get("phase") == "Running" for each in self._pods.values())
        several = len(self._pods) > 1
        self.display.now(f"{running} of {len(self._pods)} pods run" if several else state)

    def _follow_logs(self, pod: Object) -> None:
        """Read the log of each container's present run; show the rest of one that has ended."""
        for container in placed.containers(pod):
            state = container.get("state") or {}
            if not ("running" in state or "terminated" in state):
                continue
            count = container.get("restartCount", 0)
            key = (pod["metadata"]["uid"], container["name"], count)
            log = self._logs.get(key)
            if log is None:
                log = self._logs[key] = _Log(pod["metadata"]["name"], container["name"])
                for old in [each for each in self._logs if each[:2] == key[:2] and each != key]:
                    self._end_of(self._logs[old])
                log.reader = threading.Thread(
                    target=self._read, args=(log, {"follow": True}), daemon=True, name="mlk8s-log"
                )
                log.reader.start()
            if "terminated" in state:
                self._end_of(log)

    def _end_of(self, log: _Log) -> None:
        """Wait for what a container wrote last, so that it stands before what happens next."""
        if log.reader is not None:
            log.reader.join(_LOG_ENDS_WITHIN_S)
            log.reader = None
        later: list[tuple[str, Any]] = []
        while True:
            try:
                kind, value = self._queue.get_nowait()
            except queue.Empty:
                break
            if kind == "line" and value[0] is log:
                log.lines.append(value[1])
            else:
                later.append((kind, value))
        for each in later:
            self._queue.put(each)
        self._show(log)

    def _show(self, log: _Log) -> None:
        several = self.kind == "job" and len(self._pods) > 1
        pod = next(p for p in self._pods.values() if p["metadata"]["name"] == log.pod)
        mine = [log.pod] if several else []
        mine += [log.container] if len(list(placed.containers(pod))) > 1 else []
        before = f"{' '.join(mine)} | " if mine else "| "
        for line in log.lines[log.shown :]:
            self.display.line(f"  {before}{line}")
        log.shown = len(log.lines)


def _goes_on(pod: Object) -> bool:
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


def _made(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]


def _state(pod: Object) -> str:
    status, node = pod["status"], pod["spec"].get("nodeName")
    phase = status.get("phase", "Pending")
    state = f"{phase} on {node}" if node else phase
    for container in placed.containers(pod):
        waiting = (container.get("state") or {}).get("waiting") or {}
        if waiting.get("reason") not in _QUIET:
            state += f": {waiting['reason']}"
            if step := placed.cause(waiting.get("message", "")):
                state += f" ({step.rstrip('.')})"
            break
    if phase == "Failed" and status.get("reason"):
        state += f": {status['reason']}"
    return state


def _cut_short(pod: Object) -> str:
    """Who took a pod away before its end; empty when nobody did."""
    if because := placed.disrupted(pod):
        return because
    return "it was deleted by somebody" if "deletionTimestamp" in pod["metadata"] else ""


def _reason(pod: Object) -> str:
    """Why a pod failed, in the cluster's words; empty when it did not or nobody says."""
    status = pod["status"]
    if status["phase"] == "Succeeded":
        return ""
    message = status.get("message") or ""
    if status.get("reason"):
        return f"{status['reason']}: {message}".strip(": ")
    if message:
        return str(message)
    for container in placed.containers(pod):
        ended = (container.get("state") or {}).get("terminated") or {}
        if ended.get("reason") not in (None, "Error", "Completed"):
            return str(ended["reason"])
    return ""
