"""ReplicaSets and ReplicationControllers: so many pods, no more and no fewer.

Source of the rules: pkg/controller/replicaset/replica_set.go and pkg/controller/
controller_utils.go (which pod goes first).
"""

from __future__ import annotations

from collections import Counter

from mlk8s.sim.controllers.base import (
    BURST,
    Workload,
    drop_condition,
    find_condition,
    namespace_ends,
    pod_of,
    put,
)
from mlk8s.sim.controllers.pods import PodFacts, controller_of
from mlk8s.sim.matching import Selector
from mlk8s.sim.status import Object, StatusError

_PHASES = {"Pending": 0, "Unknown": 1, "Running": 2}


class ReplicaSets(Workload):
    """The ReplicaSet controller."""

    name = "replicaset-controller"
    resource = "replicasets.apps"
    kind = "ReplicaSet"
    watch = ("replicasets.apps", "pods")

    def sync(self, namespace: str, name: str) -> None:
        """Make or delete pods until their number is right, then report it."""
        replica_set = self.api.find(self.resource, namespace, name)
        if replica_set is None:
            return
        selector = self.selector(replica_set)
        pods = self.claim(replica_set, selector)
        active = [pod for pod in pods if pod.active]
        wanted = replica_set["spec"].get("replicas", 1)
        failure: StatusError | None = None
        if "deletionTimestamp" not in replica_set["metadata"]:
            try:
                self._scale(replica_set, active, wanted)
                if abs(wanted - len(active)) > BURST:
                    self.enqueue((namespace, name))
            except StatusError as error:
                failure = None if namespace_ends(error) else error
            active = [pod for pod in self.pods.of(replica_set["metadata"]["uid"]) if pod.active]
        self._report(replica_set, pods, active, wanted, failure)
        if failure is not None:
            raise failure

    def _scale(self, replica_set: Object, active: list[PodFacts], wanted: int) -> None:
        missing = wanted - len(active)
        if missing > 0:
            template = replica_set["spec"]["template"]
            self.create_pods(
                replica_set, (pod_of(template, replica_set) for _ in range(min(missing, BURST)))
            )
        elif missing < 0:
            for pod in self._first_to_go(replica_set, active)[: min(-missing, BURST)]:
                self.delete_pod(replica_set, pod)

    def _first_to_go(self, replica_set: Object, active: list[PodFacts]) -> list[PodFacts]:
        together = Counter(pod.node for pod in self._related(replica_set) if pod.active)
        return sorted(
            active,
            key=lambda pod: (
                bool(pod.node),
                _PHASES.get(pod.phase, 1),
                pod.ready,
                pod.cost,
                -together[pod.node],
                -pod.ready_since,
                -pod.restarts,
                -pod.created,
                pod.uid,
            ),
        )

    def _related(self, replica_set: Object) -> list[PodFacts]:
        """The pods of all ReplicaSets of the same owner; several on one node go first."""
        owner = controller_of(replica_set)
        uids = [replica_set["metadata"]["uid"]]
        if owner is not None:
            uids = []
            for key, namespace, name in self.api.store.owned(owner["uid"]):
                sibling = self.api.find(key, namespace, name)
                if key == self.resource and sibling is not None:
                    uids.append(sibling["metadata"]["uid"])
        return [pod for uid in uids for pod in self.pods.of(uid)]

    def _report(
        self,
        replica_set: Object,
        pods: list[PodFacts],
        active: list[PodFacts],
        wanted: int,
        failure: StatusError | None,
    ) -> None:
        spec = replica_set["spec"]
        seconds = spec.get("minReadySeconds", 0)
        labels = (spec["template"].get("metadata") or {}).get("labels")
        template = Selector({"matchLabels": labels})
        ready = [pod for pod in active if pod.ready]
        available = [pod for pod in ready if pod.available(seconds, self.now)]
        terminating = sum(pod.terminating for pod in self.pods.of(replica_set["metadata"]["uid"]))

        def mutate(status: Object) -> None:
            status["replicas"] = len(active)
            put(
                status,
                fullyLabeledReplicas=sum(template.matches(pod.labels) for pod in active),
                readyReplicas=len(ready),
                availableReplicas=len(available),
            )
            if self.kind == "ReplicaSet":
                status["terminatingReplicas"] = terminating
            status["observedGeneration"] = replica_set["metadata"].get("generation", 1)
            self._report_failure(status, failure, wanted > len(active))

        self.write_status(replica_set, mutate)
        for pod in ready:
            if (left := pod.ready_since + seconds - self.now) > 0:
                where = replica_set["metadata"]
                self.enqueue((where["namespace"], where["name"]), left)

    def _report_failure(self, status: Object, failure: StatusError | None, too_few: bool) -> None:
        if failure is None:
            drop_condition(status, "ReplicaFailure")
        elif find_condition(status, "ReplicaFailure") is None:
            status.setdefault("conditions", []).append(
                {
                    "type": "ReplicaFailure",
                    "status": "True",
                    "lastTransitionTime": self.api.timestamp(),
                    "reason": "FailedCreate" if too_few else "FailedDelete",
                    "message": failure.message,
                }
            )


class ReplicationControllers(ReplicaSets):
    """The ReplicationController controller: the same, with a selector of equalities alone."""

    name = "replication-controller"
    resource = "replicationcontrollers"
    kind = "ReplicationController"
    watch = ("replicationcontrollers", "pods")

    def selector(self, obj: Object) -> Object | None:
        """A map of labels as a selector."""
        return {"matchLabels": obj["spec"].get("selector") or {}}
