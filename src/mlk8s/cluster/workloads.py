"""Run one pod or job from beginning to end: submit, follow, collect, and always clean up."""

from __future__ import annotations

import html
import queue
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from mlk8s.cluster.connect import MANAGED, Connection, connect
from mlk8s.cluster.manifests import Manifest
from mlk8s.cluster.why import why
from mlk8s.errors import ClusterError, UsageError
from mlk8s.provenance import Finding, Provenance, labels

Object = dict[str, Any]

_LOOK_EVERY_S = 0.2
# After so long without a node, the reason is shown once, and again when it changes.
_EXPLAIN_AFTER_S = 2.0
_GONE_WITHIN_S = 60.0
_POD_PARENTS = "batch.kubernetes.io/job-name"


@dataclass(frozen=True)
class Result:
    """What became of a workload.

    Attributes:
        outcome: ``Succeeded`` or ``Failed``.
        reason: why it failed, in the cluster's words; empty when it did not.
        exit_code: of the last container that ended; ``None`` when none did.
        nodes: where its pods ran.
        log: what they wrote, pod after pod.
        seconds: from the submission to the end.
    """

    name: str
    outcome: str
    reason: str
    exit_code: int | None
    nodes: tuple[str, ...]
    log: str
    seconds: float
    provenance: Provenance

    @property
    def succeeded(self) -> bool:
        """Whether it ended well."""
        return self.outcome == "Succeeded"

    @property
    def text(self) -> str:
        """The result in one line."""
        where = f" on {', '.join(self.nodes)}" if self.nodes else ""
        code = "" if self.exit_code is None else f", exit code {self.exit_code}"
        why_not = f": {self.reason}" if self.reason else ""
        return f"{self.name}: {self.outcome}{where}{code}{why_not}."

    def __repr__(self) -> str:
        lines = [self.text, *(f"  {line}" for line in self.log.splitlines())]
        return "\n".join([*lines, *labels([self.provenance])])

    def _repr_html_(self) -> str:
        log = f"<pre>{html.escape(self.log.rstrip())}</pre>" if self.log else ""
        return log + Finding(self.text, self.provenance)._repr_html_()


def run(
    manifest: Manifest | Mapping[str, Any],
    connection: Connection | None = None,
    *,
    timeout_s: float = 600.0,
    show: Callable[[str], None] | None = print,
    keep: bool = False,
) -> Result:
    """Create a pod or a job, follow it to its end, give the result, and delete it.

    It is deleted whatever happens: success, failure, timeout, an error of this process or
    Ctrl-C. Progress and log lines are shown as they come.

    Args:
        manifest: a Pod or a Job; its namespace is the labs' unless it names one.
        connection: the cluster; :func:`connect` when not given.
        timeout_s: give up after this many seconds.
        show: takes each line; ``None`` for silence.
        keep: leave a workload that ended as it is (an interrupted one is deleted).

    Raises:
        UsageError: it is neither a Pod nor a Job.
        ClusterError: the server refused it, or it did not end in time; the message says why.
    """
    connection = connection or connect()
    body = _prepared(manifest, connection)
    work = _Work(connection, body, show or (lambda line: None))
    work.create()
    ended = False
    try:
        result = work.follow(timeout_s)
        ended = True
    finally:
        if not (keep and ended):
            work.delete()
    return result


def _prepared(manifest: Mapping[str, Any], connection: Connection) -> Object:
    body = {**manifest}
    if body.get("kind") not in ("Pod", "Job"):
        raise UsageError(
            f"run takes a Pod or a Job, not {body.get('kind')!r}.",
            "wrap the pod in a Job, or create the object with kubectl.",
        )
    metadata = {**(body.get("metadata") or {})}
    metadata.setdefault("namespace", connection.namespace)
    metadata["labels"] = {**(metadata.get("labels") or {}), **MANAGED}
    return {**body, "metadata": metadata}


class _Work:
    def __init__(self, connection: Connection, body: Object, show: Callable[[str], None]) -> None:
        self.connection = connection
        self.body = body
        self.show = show
        self.is_job = body["kind"] == "Job"
        self.namespace: str = body["metadata"]["namespace"]
        self.name = ""
        self._began = 0.0
        self._said: dict[str, str] = {}
        self._lines: queue.Queue[tuple[str, str]] = queue.Queue()
        self._followed: dict[str, threading.Thread] = {}
        self._log: dict[str, list[str]] = {}
        self._explained = ""

    def create(self) -> None:
        core, batch = self.connection.core, self.connection.batch
        if self.namespace == self.connection.namespace:
            self.connection.ensure_namespace()
        method = batch.create_namespaced_job if self.is_job else core.create_namespaced_pod
        created = self.connection.call(method, self.namespace, self.body)
        self.name = created["metadata"]["name"]
        self._began = time.monotonic()
        self.show(f"{self.body['kind'].lower()} {self.namespace}/{self.name} created")

    def follow(self, timeout_s: float) -> Result:
        while True:
            pods = self._pods()
            for pod in pods:
                self._look_at(pod)
            self._drain(several=len(pods) > 1)
            if (end := self._end(pods)) is not None:
                return self._result(pods, *end)
            waited = time.monotonic() - self._began
            if waited > timeout_s:
                raise ClusterError(
                    f"{self.name} did not end within {timeout_s:g} s: {self._reason(pods)}",
                    "raise timeout_s, or mend what keeps it waiting.",
                )
            if waited > _EXPLAIN_AFTER_S:
                self._explain(pods)
            time.sleep(_LOOK_EVERY_S)

    def _pods(self) -> list[Object]:
        core = self.connection.core
        if self.is_job:
            selector = f"{_POD_PARENTS}={self.name}"
            method = core.list_namespaced_pod
            return list(self.connection.pages(method, self.namespace, label_selector=selector))
        pod = self.connection.find(core.read_namespaced_pod, self.name, self.namespace)
        if pod is None:
            raise ClusterError(
                f"The pod {self.name} is gone: somebody deleted it, or a preemption did.",
                f"see its events: kubectl get events -n {self.namespace}.",
            )
        return [pod]

    def _look_at(self, pod: Object) -> None:
        name, status = pod["metadata"]["name"], pod["status"]
        phase = status.get("phase", "Pending")
        node = pod["spec"].get("nodeName")
        state = f"{phase} on {node}" if node else phase
        for container in status.get("containerStatuses") or ():
            waiting = (container.get("state") or {}).get("waiting") or {}
            if waiting.get("reason") not in (None, "ContainerCreating", "PodInitializing"):
                state = f"{phase} on {node}: {waiting['reason']}"
        if self._said.get(name) != state:
            self._said[name] = state
            self.show(f"{name}: {state}")
        if phase in ("Running", "Succeeded", "Failed") and name not in self._followed:
            if not status.get("containerStatuses"):
                return
            reader = threading.Thread(target=self._read, args=(name,), daemon=True)
            self._followed[name] = reader
            self._log[name] = []
            reader.start()

    def _read(self, name: str) -> None:
        """Read one pod's log to its end, on a thread of its own."""
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        method = self.connection.core.read_namespaced_pod_log
        rest = ""
        try:
            response = method(name, self.namespace, follow=True, _preload_content=False)
            for piece in response.stream():
                *lines, rest = (rest + piece.decode(errors="replace")).split("\n")
                for line in lines:
                    self._lines.put((name, line))
        except (ApiException, HTTPError) as error:
            self._lines.put((name, f"(its log ends here: {error})"))
        if rest:
            self._lines.put((name, rest))

    def _drain(self, several: bool) -> None:
        while not self._lines.empty():
            name, line = self._lines.get()
            self._log[name].append(line)
            self.show(f"{name} | {line}" if several else f"  | {line}")

    def _end(self, pods: list[Object]) -> tuple[str, str] | None:
        """(outcome, reason) once it has ended."""
        if not self.is_job:
            status = pods[0]["status"]
            if status.get("phase") in ("Succeeded", "Failed"):
                reason = status.get("message") or status.get("reason") or ""
                return status["phase"], reason
            return None
        batch = self.connection.batch
        job = self.connection.find(batch.read_namespaced_job, self.name, self.namespace)
        if job is None:
            raise ClusterError(
                f"The job {self.name} is gone: somebody deleted it.", "submit it again."
            )
        for condition in job["status"].get("conditions") or ():
            if condition["status"] == "True" and condition["type"] in ("Complete", "Failed"):
                outcome = "Succeeded" if condition["type"] == "Complete" else "Failed"
                reason = "" if outcome == "Succeeded" else condition.get("message", "")
                return outcome, reason
        return None

    def _explain(self, pods: list[Object]) -> None:
        waiting = [pod for pod in pods if not pod["spec"].get("nodeName")]
        if not waiting and pods:
            return
        text = self._reason(pods)
        if text != self._explained:
            self._explained = text
            self.show(text)

    def _reason(self, pods: list[Object]) -> str:
        kind = "job" if self.is_job else "pod"
        waiting = [pod for pod in pods if pod["status"].get("phase") == "Pending"]
        what = f"pod/{waiting[0]['metadata']['name']}" if waiting else f"{kind}/{self.name}"
        try:
            return why(f"{self.namespace}/{what}", self.connection).text
        except ClusterError as error:
            return str(error)

    def _result(self, pods: list[Object], outcome: str, reason: str) -> Result:
        # What was written just before the end is still on its way.
        for reader in self._followed.values():
            reader.join(timeout=5.0)
        self._drain(several=len(pods) > 1)
        codes = [
            ended["exitCode"]
            for pod in pods
            for container in pod["status"].get("containerStatuses") or ()
            if (ended := (container.get("state") or {}).get("terminated"))
        ]
        failed = [code for code in codes if code]
        return Result(
            name=self.name,
            outcome=outcome,
            reason=reason,
            exit_code=(failed or codes)[-1] if codes else None,
            nodes=tuple(
                dict.fromkeys(
                    pod["spec"]["nodeName"] for pod in pods if pod["spec"].get("nodeName")
                )
            ),
            log="\n".join("\n".join(lines) for lines in self._log.values()),
            seconds=time.monotonic() - self._began,
            provenance=self.connection.provenance,
        )

    def delete(self) -> None:
        """Delete it with all its pods, and wait until they are gone."""
        core, batch = self.connection.core, self.connection.batch
        options: Object
        try:
            if self.is_job:
                method = batch.delete_namespaced_job
                options = {"propagation_policy": "Foreground"}
            else:
                method, options = core.delete_namespaced_pod, {"grace_period_seconds": 0}
            if self.connection.find(method, self.name, self.namespace, **options) is None:
                return
            deadline = time.monotonic() + _GONE_WITHIN_S
            read = batch.read_namespaced_job if self.is_job else core.read_namespaced_pod
            while self.connection.find(read, self.name, self.namespace) is not None:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"{self.name} is still there {_GONE_WITHIN_S:g} s after its deletion.",
                        f"see what holds it: kubectl get pod,job -n {self.namespace} -o yaml.",
                    )
                time.sleep(_LOOK_EVERY_S)
        finally:
            self.show(f"{self.body['kind'].lower()} {self.name} deleted")
