"""Jobs: pods that run to their end, counted each once, tried again after a failure.

A finished pod keeps a finalizer until the Job's status has counted it, so none is lost or counted
twice. Source of the rules: pkg/controller/job/job_controller.go.
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable

from mlk8s.sim.api import Api, DeleteOptions
from mlk8s.sim.clock import seconds
from mlk8s.sim.controllers import job_policy as policy
from mlk8s.sim.controllers.base import BURST, Workload, find_condition, namespace_ends, put
from mlk8s.sim.controllers.job_pods import annotated_failures, first_to_go, pod_for
from mlk8s.sim.controllers.job_round import Round, decide
from mlk8s.sim.controllers.pods import TRACKING_FINALIZER, PodFacts, PodIndex, controller_of
from mlk8s.sim.events import Recorder
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_RESOURCE = "jobs.batch"
_MANAGER = "kubernetes.io/job-controller"
# Keys that are not (namespace, name): no namespace begins so.
_GONE, _LOOSE = "/gone", "/loose"
_SUCCESS = ("CompletionsReached", "Reached expected number of succeeded pods")


class Jobs(Workload):
    """The Job controller."""

    name = "job-controller"
    resource = _RESOURCE
    kind = "Job"
    watch = (_RESOURCE, "pods")
    # DefaultJobApiBackOff: a creation that a quota refuses is not tried every few milliseconds.
    first_retry_s = 1.0

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api, recorder, pods)
        # Failures in a row and when the last of them was, by the Job's uid.
        self._backoff: dict[str, tuple[int, float]] = {}
        self._counted: dict[str, set[str]] = {}

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The Job, or the Job of a pod; pods whose Job is gone are let go."""
        found = list(super().keys(change))
        metadata = change.object["metadata"]
        if change.key == _RESOURCE and change.type == "DELETED":
            self._backoff.pop(metadata["uid"], None)
            self._counted.pop(metadata["uid"], None)
            found.append((_GONE, metadata["uid"]))
        elif change.key == "pods" and TRACKING_FINALIZER in (metadata.get("finalizers") or ()):
            owner = controller_of(change.object)
            if owner is None or "deletionTimestamp" in metadata:
                found.append((_LOOSE, change.namespace, change.name))
        return found

    def reconcile(self, key: Hashable) -> None:
        """Look at a Job, at what a deleted Job left, or at a pod that may have no Job."""
        assert isinstance(key, tuple)
        if key[0] == _GONE:
            for pod in self.pods.of(key[1]):
                self._untrack(pod)
        elif key[0] == _LOOSE:
            self._let_go(*key[1:])
        else:
            self.sync(*key)

    def sync(self, namespace: str, name: str) -> None:
        """Count finished pods, start missing ones, and decide whether it is over."""
        job = self.api.find(_RESOURCE, namespace, name)
        if job is None:
            return
        if job["spec"].get("managedBy", _MANAGER) != _MANAGER:
            return
        status = job.setdefault("status", {})
        if any(find_condition(status, end) for end in ("Complete", "Failed")):
            for pod in self.pods.of(job["metadata"]["uid"]):
                self._untrack(pod)
            self._expire(job)
            return
        turn = Round(job, self.claim(job, self.selector(job)))
        before = copy.deepcopy(status)
        status.setdefault("uncountedTerminatedPods", {})
        if "startTime" not in status and not turn.suspended:
            status["startTime"] = self.api.timestamp()
        self._count(turn)
        if (left := decide(turn, self.now)) is not None:
            self.enqueue((namespace, name), left)
        failure = None
        if "deletionTimestamp" not in job["metadata"] or turn.finish:
            try:
                self._act(turn)
            except StatusError as error:
                failure = None if namespace_ends(error) else error
        self._conclude(turn, before)
        if failure is not None:
            raise failure

    def _let_go(self, namespace: str, name: str) -> None:
        """Free a pod that no Job will count."""
        pod = self.pods.get(namespace, name)
        full = self.api.find("pods", namespace, name)
        if pod is None or full is None:
            return
        owner = controller_of(full)
        job = self.api.find(_RESOURCE, namespace, owner["name"]) if owner else None
        if owner is None or job is None or job["metadata"]["uid"] != owner["uid"]:
            self._untrack(pod)

    def _untrack(self, pod: PodFacts) -> None:
        """Remove the finalizer that holds a pod until it has been counted."""

        def mutate(obj: Object) -> None:
            left = [f for f in obj["metadata"].get("finalizers") or () if f != TRACKING_FINALIZER]
            if left:
                obj["metadata"]["finalizers"] = left
            else:
                obj["metadata"].pop("finalizers", None)

        if pod.tracked:
            self.api.change("pods", pod.namespace, pod.name, mutate)

    # -- counting --------------------------------------------------------------------------------

    def _count(self, turn: Round) -> None:
        """Add up what has ended since the last look; the finalizers fall in :meth:`_conclude`."""
        status, spec = turn.status, turn.spec
        uid = turn.job["metadata"]["uid"]
        turn.succeeded, turn.failed = status.get("succeeded", 0), status.get("failed", 0)
        below = turn.completions or 0
        if turn.indexed:
            turn.done = policy.indexes_of(status.get("completedIndexes"), below)
            turn.lost = policy.indexes_of(status.get("failedIndexes"), below)
        fresh_success = False
        last_failures: list[float] = []
        known = self._counted.setdefault(uid, set())
        for pod in turn.pods:
            if not turn.counts(pod):
                continue
            if pod.phase == "Succeeded":
                if turn.indexed:
                    turn.done.add(pod.index)
                else:
                    turn.succeeded += 1
                fresh_success = True
            elif turn.has_failed(pod):
                full = self.api.get("pods", pod.namespace, pod.name)
                action, message = policy.judge_failure(spec.get("podFailurePolicy"), full)
                turn.failures[pod.uid] = action
                if action == "FailJob" and turn.finish is None:
                    turn.finish = ("Failed", "PodFailurePolicy", message)
                if action != "Ignore":
                    turn.failed += 1
                if turn.per_index:
                    self._count_index(turn, pod, full, action)
                if pod.uid not in known:
                    known.add(pod.uid)
                    last_failures.append(policy.ended(full))
        if turn.indexed:
            turn.succeeded = len(turn.done)
        self._note_backoff(uid, fresh_success, last_failures)

    def _count_index(self, turn: Round, pod: PodFacts, full: Object, action: str) -> None:
        """Note a failure of an index; the limit's last failure loses the index for good."""
        if pod.index in turn.done:
            return
        failures = annotated_failures(full) + (0 if action == "Ignore" else 1)
        if action == "FailIndex" or failures > turn.spec["backoffLimitPerIndex"]:
            turn.lost.add(pod.index)
            turn.retained.pop(pod.index, None)
        elif pod.index not in turn.lost:
            before = turn.retained.get(pod.index)
            if before is None or (before.created, before.name) < (pod.created, pod.name):
                turn.retained[pod.index] = pod

    def _note_backoff(self, uid: str, success: bool, failures: list[float]) -> None:
        count, last = self._backoff.get(uid, (0, 0.0))
        if success:
            count = 0
        if failures:
            count, last = count + len(failures), max(last, *failures)
        self._backoff[uid] = (count, last)

    # -- acting ----------------------------------------------------------------------------------

    def _act(self, turn: Round) -> None:
        """Bring the number of running pods to what it should be.

        Raises:
            StatusError: a pod could not be made or deleted.
        """
        job, active = turn.job, turn.active
        if turn.finish is not None:
            for pod in active:
                self.delete_pod(job, pod)
            return
        if turn.suspended:
            for pod in active:
                self._withdraw(turn, pod)
            return
        parallelism = turn.spec.get("parallelism", 1)
        if turn.completions is None:
            wanted = len(active) if turn.succeeded else parallelism
        else:
            wanted = max(min(turn.completions - turn.succeeded - len(turn.lost), parallelism), 0)
        surplus = first_to_go(
            active, len(active) - wanted, turn.completions if turn.indexed else None
        )
        if surplus:
            for pod in surplus[:BURST]:
                self._withdraw(turn, pod)
            return
        ending = sum(pod.terminating for pod in turn.pods) if turn.replaces_failed else 0
        missing = wanted - ending - len(active)
        if missing > 0:
            self._start(turn, active, missing)

    def _withdraw(self, turn: Round, pod: PodFacts) -> None:
        """Delete a running pod that is not needed; it counts neither way."""
        self._untrack(pod)
        self.delete_pod(turn.job, pod)

    def _start(self, turn: Round, active: list[PodFacts], missing: int) -> None:
        where = turn.job["metadata"]
        key = (where["namespace"], where["name"])
        failures, last = self._backoff.get(where["uid"], (0, 0.0))
        if not turn.per_index:
            left = last + policy.backoff(failures) - self.now if failures else 0.0
            if left > 0:
                self.enqueue(key, left)
                return
        if not turn.indexed:
            pods = [pod_for(turn.job) for _ in range(min(missing, BURST))]
        else:
            used = {pod.index for pod in active} | turn.done | turn.lost
            if turn.replaces_failed:
                used |= {pod.index for pod in turn.pods if pod.terminating}
            free = [index for index in range(turn.completions or 0) if index not in used]
            pods = []
            for index in free[: min(missing, BURST)]:
                before = turn.retained.get(index)
                full = self.api.find("pods", before.namespace, before.name) if before else None
                if full is not None:
                    tries = annotated_failures(full)
                    if turn.failures.get(full["metadata"]["uid"]) != "Ignore":
                        tries += 1
                    left = policy.ended(full) + policy.backoff(tries) - self.now
                    if left > 0:
                        self.enqueue(key, left)
                        continue
                    pods.append(pod_for(turn.job, index, tries))
                else:
                    pods.append(pod_for(turn.job, index, 0 if turn.per_index else None))
        self.create_pods(turn.job, pods)
        if missing > len(pods) == BURST:
            self.enqueue(key)

    # -- reporting -------------------------------------------------------------------------------

    def _conclude(self, turn: Round, before: Object) -> None:
        """Write the counts, free the pods they contain, and declare the end."""
        job, status = turn.job, turn.status
        uid = job["metadata"]["uid"]
        present = self.pods.of(uid)
        created_for = {pod.index for pod in present if pod.active}
        freed: list[PodFacts] = []
        for pod in turn.pods:
            if not pod.tracked:
                continue
            over = turn.finish is not None or "deletionTimestamp" in job["metadata"]
            gone = pod.phase == "Succeeded" or turn.has_failed(pod)
            if not gone and not over:
                continue
            held = turn.retained.get(pod.index)
            replaced = over or pod.index in created_for
            if held is not None and held.uid == pod.uid and not replaced:
                # Its successor takes over its count of failures; until then it stays.
                turn.failed -= turn.failures.get(pod.uid) != "Ignore"
                continue
            freed.append(pod)
            if not gone and turn.finish and turn.finish[0] == "Failed" and turn.counts(pod):
                # When the Job fails, every pod that it stops counts as failed.
                turn.failed += 1
        if turn.finish is None and self._completed(turn, present):
            turn.finish = ("Complete", *_SUCCESS)
        if turn.finish is None and "deletionTimestamp" not in job["metadata"]:
            self._note_suspension(turn)
        elif turn.finish is not None:
            end, reason, message = turn.finish
            interim = "SuccessCriteriaMet" if end == "Complete" else "FailureTarget"
            self._condition(status, interim, "True", reason, message)
        self._numbers(turn, present)
        if status != before:
            self._write(job, status)
        known = self._counted.setdefault(uid, set())
        for pod in freed:
            known.discard(pod.uid)
            self._untrack(pod)
        ending = sum(pod.terminating for pod in self.pods.of(uid))
        if turn.finish is not None and not ending:
            self._finish(turn)

    def _completed(self, turn: Round, present: list[PodFacts]) -> bool:
        if any(pod.active for pod in present):
            return False
        if turn.completions is None:
            return turn.succeeded > 0
        return turn.succeeded >= turn.completions

    def _numbers(self, turn: Round, present: list[PodFacts]) -> None:
        status = turn.status
        active = [pod for pod in present if pod.active]
        put(status, active=len(active), succeeded=turn.succeeded, failed=turn.failed)
        status["ready"] = sum(pod.ready for pod in active)
        status["terminating"] = sum(pod.terminating for pod in present)
        if turn.indexed:
            done = policy.indexes_text(turn.done)
            if done:
                status["completedIndexes"] = done
            else:
                status.pop("completedIndexes", None)
        if turn.per_index:
            status["failedIndexes"] = policy.indexes_text(turn.lost)

    def _note_suspension(self, turn: Round) -> None:
        job, status = turn.job, turn.status
        if turn.suspended:
            if self._condition(status, "Suspended", "True", "JobSuspended", "Job suspended"):
                self.event(job, "Normal", "Suspended", "Job suspended")
        elif self._condition(status, "Suspended", "False", "JobResumed", "Job resumed"):
            self.event(job, "Normal", "Resumed", "Job resumed")
            # A deadline counts the seconds since the Job was resumed.
            status["startTime"] = self.api.timestamp()

    def _condition(self, status: Object, type: str, value: str, reason: str, message: str) -> bool:
        """Set a condition; one that never was is not made to say ``False``.

        Returns:
            Whether anything changed.
        """
        known = find_condition(status, type)
        told = {"type": type, "status": value, "reason": reason, "message": message}
        if known is None:
            if value == "False":
                return False
            known = {}
            status.setdefault("conditions", []).append(known)
        elif all(known.get(name) == text for name, text in told.items()):
            return False
        moment = self.api.timestamp()
        known |= {"type": type, "status": value, "lastProbeTime": moment}
        known |= {"lastTransitionTime": moment, "reason": reason, "message": message}
        return True

    def _finish(self, turn: Round) -> None:
        assert turn.finish is not None
        job, status = turn.job, turn.status
        end, reason, message = turn.finish
        self._condition(status, end, "True", reason, message)
        if end == "Complete":
            status["completionTime"] = self.api.timestamp()
        self._numbers(turn, self.pods.of(job["metadata"]["uid"]))
        self._write(job, status)
        if end == "Complete":
            if turn.completions is not None and turn.succeeded > turn.completions:
                message = "Too many succeeded pods running after completion count reached"
                self.event(job, "Warning", "TooManySucceededPods", message)
            self.event(job, "Normal", "Completed", "Job completed")
        else:
            self.event(job, "Warning", reason, message)

    def _write(self, job: Object, status: Object) -> None:
        def mutate(found: Object) -> None:
            found.clear()
            found.update(copy.deepcopy(status))

        self.write_status(job, mutate)

    def _expire(self, job: Object) -> None:
        """Delete a finished Job when its time to live is over."""
        lives = job["spec"].get("ttlSecondsAfterFinished")
        metadata, status = job["metadata"], job["status"]
        if lives is None or "deletionTimestamp" in metadata:
            return
        end = find_condition(status, "Complete") or find_condition(status, "Failed")
        assert end is not None
        left = seconds(end["lastTransitionTime"]) + lives - self.now
        if left > 0:
            self.enqueue((metadata["namespace"], metadata["name"]), left)
            return
        options = DeleteOptions(propagation="Foreground", uid=metadata["uid"])
        self.api.delete(_RESOURCE, metadata["namespace"], metadata["name"], options)
