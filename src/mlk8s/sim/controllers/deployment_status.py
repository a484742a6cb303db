"""What a Deployment says of itself: its counts, its conditions, its revision.

Source of the rules: pkg/controller/deployment/progress.go, sync.go.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

from mlk8s.sim.clock import seconds
from mlk8s.sim.controllers import rollout
from mlk8s.sim.controllers.base import Controller, drop_condition, find_condition
from mlk8s.sim.status import Object


class Reporting(Controller):
    """The half of the Deployment controller that writes ``status`` and nothing else."""

    def note_pause(self, deployment: Object) -> Object:
        """Say that the rollout is paused, or goes on, and give the Deployment back."""
        known = find_condition(deployment.get("status") or {}, "Progressing")
        if rollout.deadline(deployment) is None:
            return deployment
        if known is not None and known["reason"] == "ProgressDeadlineExceeded":
            return deployment
        paused = bool(deployment["spec"].get("paused"))
        was_paused = known is not None and known["reason"] == "DeploymentPaused"
        if paused and not was_paused:
            self.progress(deployment, "Unknown", "DeploymentPaused", "Deployment is paused")
        elif was_paused and not paused:
            self.progress(deployment, "Unknown", "DeploymentResumed", "Deployment is resumed")
        return deployment

    def progress(self, deployment: Object, value: str, reason: str, message: str) -> None:
        """Set the Progressing condition, here and in the cluster."""
        if rollout.deadline(deployment) is None:
            return

        def mutate(obj: Object) -> None:
            status = obj.setdefault("status", {})
            rollout.set_condition(status, "Progressing", value, reason, message, self.now)

        self._store(deployment, mutate)

    def note_revision(self, deployment: Object, number: str) -> None:
        """Keep the number of the present template."""

        def mutate(obj: Object) -> None:
            obj["metadata"].setdefault("annotations", {})[rollout.REVISION] = number

        if rollout.annotation(deployment, rollout.REVISION) != number:
            self._store(deployment, mutate)

    def _store(self, deployment: Object, mutate: Callable[[Object], None]) -> None:
        where = deployment["metadata"]
        changed = self.api.change(
            "deployments.apps", where["namespace"], where["name"], mutate, "status"
        )
        if changed is not None:
            deployment["metadata"] = changed["metadata"]
            deployment["status"] = changed.get("status") or {}

    def report(
        self, deployment: Object, sets: list[Object], new: Object | None, judged: bool = True
    ) -> None:
        """Write the status; ask to be called again when the deadline could pass."""
        old = copy.deepcopy(deployment.get("status") or {})

        def mutate(obj: Object) -> None:
            status = obj.setdefault("status", {})
            rollout.count(deployment, status, sets, new, self.now)
            if judged:
                rollout.judge(deployment, old, status, new, self.now)
            self._report_failure(status, sets, new)

        self._store(deployment, mutate)
        limit = rollout.deadline(deployment)
        known = find_condition(deployment["status"], "Progressing")
        if (
            judged
            and limit is not None
            and known is not None
            and known["reason"] not in ("ProgressDeadlineExceeded", "NewReplicaSetAvailable")
        ):
            left = seconds(known["lastUpdateTime"]) + limit - self.now
            where = deployment["metadata"]
            self.enqueue((where["namespace"], where["name"]), max(left, 0) + 1)

    def _report_failure(self, status: Object, sets: list[Object], new: Object | None) -> None:
        """Take over the ReplicaFailure of a ReplicaSet, the new one's before an old one's."""
        for each in ([new] if new else []) + sets:
            failure = find_condition(each.get("status") or {}, "ReplicaFailure")
            if failure is not None:
                known = find_condition(status, "ReplicaFailure")
                if known is None or known["reason"] != failure["reason"]:
                    drop_condition(status, "ReplicaFailure")
                    moment = failure["lastTransitionTime"]
                    status.setdefault("conditions", []).append(
                        {**failure, "lastUpdateTime": moment}
                    )
                return
        drop_condition(status, "ReplicaFailure")
