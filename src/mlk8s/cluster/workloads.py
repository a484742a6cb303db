"""Run one pod or job from beginning to end: submit, follow, collect, and always clean up."""

from __future__ import annotations

import html
import time
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from mlk8s.cluster import owners, placed, progress
from mlk8s.cluster.connect import connect
from mlk8s.cluster.connection import MANAGED, Connection
from mlk8s.cluster.follow import Follower
from mlk8s.cluster.progress import Display
from mlk8s.cluster.why import of_pod, why
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError, ClusterUnavailable, UsageError
from mlk8s.provenance import Finding, Provenance, labels

Object = dict[str, Any]

_GONE_WITHIN_S = 60.0
_LOOK_EVERY_S = 0.1
_WATCH_EVERY_S = 0.5
_RUN = "mlk8s.dev/run"


@dataclass(frozen=True)
class Result:
    """What became of a workload.

    Attributes:
        outcome: ``Succeeded`` or ``Failed``.
        reason: why it failed, in the cluster's words; empty when it did not.
        exit_code: of the last container that ended, a failed one first; ``None`` when none did.
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
        because = f": {self.reason.rstrip('.')}" if self.reason else ""
        return f"{self.name}: {self.outcome}{where}{code}{because}."

    def as_json(self) -> Object:
        """The same as JSON values."""
        return {
            "name": self.name,
            "outcome": self.outcome,
            "reason": self.reason,
            "exitCode": self.exit_code,
            "nodes": list(self.nodes),
            "log": self.log,
            "seconds": round(self.seconds, 3),
            "provenance": self.provenance.as_json(),
        }

    def __repr__(self) -> str:
        lines = [self.text, *(f"  {line}" for line in self.log.splitlines())]
        return "\n".join([*lines, *labels([self.provenance])])

    def _repr_html_(self) -> str:
        log = f"<pre>{html.escape(self.log.rstrip())}</pre>" if self.log else ""
        return log + Finding(self.text, self.provenance)._repr_html_()


def run(
    manifest: Mapping[str, Any],
    connection: Connection | None = None,
    *,
    timeout_s: float = 600.0,
    show: Callable[[str], None] | Literal["auto"] | None = "auto",
    keep: bool = False,
    watch: Callable[[Follower], None] | None = None,
) -> Result:
    """Create a pod or a job, follow it to its end, give the result, and delete it.

    It is deleted whatever happens: success, failure, timeout, an error of this process or
    Ctrl-C. Phases and log lines are shown as they come; those of several pods pod by pod, in a
    notebook, so that the output does not depend on which is faster.

    Args:
        manifest: a Pod or a Job; its namespace is the labs' unless it names one.
        connection: the cluster; :func:`connect` when not given.
        timeout_s: give up after this many seconds.
        show: takes each line; ``"auto"`` is a live display in a terminal and plain lines
            elsewhere, ``None`` silence.
        keep: leave a workload that ended as it is (an interrupted one is deleted).
        watch: called about twice a second and after each change, with what has been seen; what it
            raises ends the run, as any other error does.

    Raises:
        UsageError: it is neither a Pod nor a Job.
        ClusterError: the server refused it, or it did not end in time; the message says why.
        ClusterUnavailable: the server is gone.
    """
    connection = connection or connect()
    body = _prepared(manifest, connection)
    with progress.display(show) as display:
        work = _Work(connection, body, display)
        ended = False
        try:
            work.create()
            result = work.follow(timeout_s, watch)
            ended = True
        except BaseException:
            work.abandon()
            raise
        finally:
            if ended:
                work.finish(keep)
    return result


def _prepared(manifest: Mapping[str, Any], connection: Connection) -> Object:
    body = {**manifest}
    kind = body.get("kind")
    if kind not in ("Pod", "Job"):
        raise UsageError(
            f"run takes a Pod or a Job, not {kind!r}.",
            "wrap the pod in a Job, or create the object with kubectl.",
        )
    body.setdefault("apiVersion", "v1" if kind == "Pod" else "batch/v1")
    metadata = {**(body.get("metadata") or {})}
    metadata.setdefault("namespace", connection.namespace)
    # A mark of this run alone: what is deleted afterwards is what was created here.
    run_id = uuid.uuid4().hex
    metadata["labels"] = {**(metadata.get("labels") or {}), **MANAGED, _RUN: run_id}
    return {**body, "metadata": metadata}


class _Work:
    """One workload while it lives."""

    def __init__(self, connection: Connection, body: Object, display: Display) -> None:
        self.connection = connection
        self.body = body
        self.display = display
        self.kind = str(body["kind"]).lower()
        self.resource = owners.RESOURCES[self.kind]
        self.namespace: str = body["metadata"]["namespace"]
        self.name = ""
        self.created: Object = {}
        self._began = 0.0
        self._explained = ""

    def create(self) -> None:
        if self.namespace == self.connection.namespace:
            self.connection.ensure_namespace()
        self._began = time.monotonic()
        where = path(self.resource, namespace=self.namespace)
        self.created = self.connection.request("POST", where, self.body)
        self.name = self.created["metadata"]["name"]
        self.display.line(f"{self.kind} {self.namespace}/{self.name} created")

    def follow(self, timeout_s: float, watch: Callable[[Follower], None] | None) -> Result:
        with Follower(self.connection, self.kind, self.created, self.display) as seen:
            while True:
                left = self._began + timeout_s - time.monotonic()
                if left <= 0:
                    raise ClusterError(
                        f"{self.name} did not end within {timeout_s:g} s. {self._now()}",
                        "raise timeout_s, or mend what keeps it.",
                    )
                seen.wait(min(left, _WATCH_EVERY_S) if watch else left)
                if watch is not None:
                    watch(seen)
                if (end := seen.end()) is not None:
                    return self._result(seen, *end)
                self._explain(seen)

    def _explain(self, seen: Follower) -> None:
        """Say once why a pod finds no node, and again when the reason changes."""
        for pod in seen.pods():
            if not unschedulable(pod):
                continue
            try:
                answer = of_pod(pod, self.connection)
            except ClusterError:
                # It has gone on meanwhile; the next event says where.
                return
            text = f"{answer.verdict}: {answer.because} Next: {answer.next_step}"
            if text != self._explained and str(answer.verdict) != "starting":
                self._explained = text
                self.display.line(f"{pod['metadata']['name']} waits ({text})")
            return

    def _now(self) -> str:
        try:
            return why(f"{self.namespace}/{self.kind}/{self.name}", self.connection).text
        except (ClusterError, ClusterUnavailable) as error:
            return error.problem

    def _result(self, seen: Follower, outcome: str, reason: str) -> Result:
        pods = seen.pods()
        codes = [
            ended["exitCode"]
            for pod in pods
            for container in placed.containers(pod)
            if (ended := (container.get("state") or {}).get("terminated"))
        ]
        failed = [code for code in codes if code] if outcome == "Failed" else []
        nodes = (pod["spec"].get("nodeName") for pod in pods)
        return Result(
            name=self.name,
            outcome=outcome,
            reason=reason,
            exit_code=(failed or codes)[-1] if codes else None,
            nodes=tuple(dict.fromkeys(node for node in nodes if node)),
            log=seen.log(),
            seconds=time.monotonic() - self._began,
            provenance=self.connection.provenance,
        )

    def finish(self, keep: bool) -> None:
        """Delete what ended, or say how to delete it."""
        if keep:
            self.display.line(
                f"{self.kind} {self.name} kept; delete it with: kubectl delete {self.kind} "
                f"{self.name} -n {self.namespace}"
            )
        else:
            self._delete()

    def abandon(self) -> None:
        """Delete what did not come to its end; an error here does not hide the first one."""
        try:
            if not self.name:
                # The answer to the creation did not arrive; the object may be there all the same.
                mark = f"{_RUN}={self.body['metadata']['labels'][_RUN]}"
                where = path(self.resource, namespace=self.namespace)
                for found in self.connection.items(where, labelSelector=mark):
                    self.name = found["metadata"]["name"]
            if self.name:
                self._delete()
        except (ClusterError, ClusterUnavailable) as error:
            if self.name:
                self.display.line(
                    f"{self.kind} {self.namespace}/{self.name} may still be there: {error.problem}"
                )

    def _delete(self) -> None:
        """Delete it with all its pods, and wait until they are gone."""
        where = path(self.resource, self.name, self.namespace)
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "gracePeriodSeconds": 0}
        if self.kind == "job":
            options = {**options, "propagationPolicy": "Foreground"}
        if self.connection.find(where, "DELETE", options) is not None:
            deadline = time.monotonic() + _GONE_WITHIN_S
            while self.connection.find(where) is not None:
                if time.monotonic() > deadline:
                    raise ClusterError(
                        f"{self.name} is still there {_GONE_WITHIN_S:g} s after its deletion.",
                        f"see what holds it: kubectl get {self.kind} {self.name} "
                        f"-n {self.namespace} -o yaml.",
                    )
                time.sleep(_LOOK_EVERY_S)
        self.display.line(f"{self.kind} {self.name} deleted")


def unschedulable(pod: Object) -> bool:
    """Whether the scheduler has looked at a pod and found no node."""
    return not pod["spec"].get("nodeName") and any(
        each["type"] == "PodScheduled" and each["status"] == "False"
        for each in pod["status"].get("conditions") or ()
    )
