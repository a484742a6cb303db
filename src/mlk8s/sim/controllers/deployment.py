"""Deployments: one ReplicaSet for each pod template, and the way from the old one to the new.

Source of the rules: pkg/controller/deployment (sync.go, rolling.go, recreate.go).
"""

from __future__ import annotations

import copy
from collections.abc import Hashable, Iterable

from mlk8s.sim.api import Api, DeleteOptions
from mlk8s.sim.controllers import rollout
from mlk8s.sim.controllers.base import drop_owner, find_condition, hash_of, owner_reference
from mlk8s.sim.controllers.deployment_status import Reporting
from mlk8s.sim.controllers.indexes import LabelIndex, SelectorIndex
from mlk8s.sim.controllers.pods import PodIndex, controller_of
from mlk8s.sim.events import Recorder
from mlk8s.sim.matching import Selector
from mlk8s.sim.status import Object, StatusError
from mlk8s.sim.store import Change

_SETS = "replicasets.apps"


class Deployments(Reporting):
    """The Deployment controller."""

    name = "deployment-controller"
    watch = (_SETS, "deployments.apps")

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api, recorder, pods)
        self._selectors = SelectorIndex()
        self._orphans = LabelIndex()

    def keys(self, change: Change) -> Iterable[Hashable]:
        """The Deployment, or the one that a ReplicaSet belongs or could belong to."""
        where = (change.namespace, change.name)
        if change.key == "deployments.apps":
            if change.type == "DELETED":
                self._selectors.remove(*where)
            else:
                self._selectors.put(*where, change.object["spec"].get("selector"))
            return (where,)
        if change.key != _SETS:
            return ()
        owner = controller_of(change.object)
        labels = change.object["metadata"].get("labels") or {}
        if owner is None and change.type != "DELETED":
            self._orphans.put(*where, labels)
            names = self._selectors.matching(change.namespace, labels)
        else:
            self._orphans.remove(*where)
            names = [owner["name"]] if owner and owner["kind"] == "Deployment" else []
        return [(change.namespace, name) for name in names]

    def sync(self, namespace: str, name: str) -> None:
        """Take the next step of the rollout, and report how far it is."""
        deployment = self.api.find("deployments.apps", namespace, name)
        if deployment is None:
            return
        sets = self._claim(deployment)
        if "deletionTimestamp" in deployment["metadata"]:
            self.report(deployment, sets, self._newest(deployment, sets), judged=False)
            return
        deployment = self.note_pause(deployment)
        if deployment["spec"].get("paused") or self._was_scaled(deployment, sets):
            self._resize(deployment, sets)
        elif rollout.rolling(deployment):
            self._roll(deployment, sets)
        else:
            self._recreate(deployment, sets)

    # -- the ReplicaSets -------------------------------------------------------------------------

    def _claim(self, deployment: Object) -> list[Object]:
        metadata, selector = deployment["metadata"], Selector(deployment["spec"].get("selector"))
        found = []
        for key, namespace, name in self.api.store.owned(metadata["uid"]):
            replica_set = self.api.find(key, namespace, name) if key == _SETS else None
            if replica_set is None:
                continue
            if selector.matches(replica_set["metadata"].get("labels")):
                found.append(replica_set)
            elif "deletionTimestamp" not in metadata:
                self.api.change(
                    _SETS, namespace, name, lambda obj: drop_owner(obj, metadata["uid"])
                )
        if "deletionTimestamp" not in metadata:
            for name in self._orphans.select(metadata["namespace"], selector):

                def adopt(obj: Object) -> None:
                    references = obj["metadata"].setdefault("ownerReferences", [])
                    references.append(owner_reference(deployment))

                adopted = self.api.change(_SETS, metadata["namespace"], name, adopt)
                if adopted is not None:
                    found.append(adopted)
        return sorted(found, key=rollout.age_order)

    def _newest(self, deployment: Object, sets: list[Object]) -> Object | None:
        return next((each for each in sets if rollout.same_template(each, deployment)), None)

    def _new_set(self, deployment: Object, sets: list[Object]) -> Object:
        """The ReplicaSet of the present template; made when there is none."""
        new = self._newest(deployment, sets)
        old = [each for each in sets if each is not new]
        number = max(map(rollout.revision, old), default=0) + 1
        if new is None:
            return self._make(deployment, sets, number)
        annotated = self._annotations(deployment, new, number)
        seconds_ready = deployment["spec"].get("minReadySeconds", 0)
        if (
            annotated != (new["metadata"].get("annotations") or {})
            or new["spec"].get("minReadySeconds", 0) != seconds_ready
        ):

            def mutate(obj: Object) -> None:
                obj["metadata"]["annotations"] = annotated
                if seconds_ready or "minReadySeconds" in obj["spec"]:
                    obj["spec"]["minReadySeconds"] = seconds_ready

            where = new["metadata"]
            sets.remove(new)
            new = self.api.change(_SETS, where["namespace"], where["name"], mutate) or new
            sets.append(new)
        self.note_revision(deployment, rollout.annotation(new, rollout.REVISION))
        if find_condition(deployment.get("status") or {}, "Progressing") is None:
            self.progress(
                deployment,
                "True",
                "FoundNewReplicaSet",
                f'Found new replica set "{new["metadata"]["name"]}"',
            )
        return new

    def _annotations(self, deployment: Object, new: Object, number: int) -> dict[str, str]:
        annotations = dict(new["metadata"].get("annotations") or {})
        annotations |= rollout.copied_annotations(deployment)
        before = rollout.revision(new)
        if before < number:
            annotations[rollout.REVISION] = str(number)
            if before:
                history = annotations.get(rollout.HISTORY, "")
                annotations[rollout.HISTORY] = f"{history},{before}" if history else str(before)
        return annotations

    def _make(self, deployment: Object, sets: list[Object], number: int) -> Object:
        metadata, spec = deployment["metadata"], deployment["spec"]
        collisions = (deployment.get("status") or {}).get("collisionCount", 0)
        suffix = hash_of(rollout.plain_template(spec["template"]), collisions)
        template, selector = copy.deepcopy(spec["template"]), copy.deepcopy(spec["selector"])
        template.setdefault("metadata", {}).setdefault("labels", {})[rollout.HASH_LABEL] = suffix
        selector.setdefault("matchLabels", {})[rollout.HASH_LABEL] = suffix
        size = rollout.new_size(deployment, sets, 0)
        made: Object = {
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": f"{metadata['name']}-{suffix}",
                "namespace": metadata["namespace"],
                "labels": dict(template["metadata"]["labels"]),
                "annotations": rollout.copied_annotations(deployment)
                | {rollout.REVISION: str(number)}
                | rollout.size_annotations(deployment),
                "ownerReferences": [owner_reference(deployment)],
            },
            "spec": {"replicas": size, "selector": selector, "template": template},
        }
        if spec.get("minReadySeconds"):
            made["spec"]["minReadySeconds"] = spec["minReadySeconds"]
        name = made["metadata"]["name"]
        try:
            made = self.api.create(_SETS, made, metadata["namespace"])
        except StatusError as error:
            self._not_made(deployment, name, error)
            raise
        sets.append(made)
        if size:
            self._tell_scaled(deployment, "up", name, 0, size)
        self.note_revision(deployment, str(number))
        self.progress(
            deployment, "True", "NewReplicaSetCreated", f'Created new replica set "{name}"'
        )
        return made

    def _not_made(self, deployment: Object, name: str, error: StatusError) -> None:
        where = deployment["metadata"]
        if error.reason == "AlreadyExists":

            def collide(obj: Object) -> None:
                status = obj.setdefault("status", {})
                status["collisionCount"] = status.get("collisionCount", 0) + 1

            self.api.change(
                "deployments.apps", where["namespace"], where["name"], collide, "status"
            )
            return
        message = f'Failed to create new replica set "{name}": {error.message}'
        self.progress(deployment, "False", "ReplicaSetCreateError", message)
        self.event(deployment, "Warning", "ReplicaSetCreateError", message)

    def _scale(self, deployment: Object, sets: list[Object], index: int, size: int) -> bool:
        """Give the ReplicaSet at ``index`` of ``sets`` a new size; the list holds the result."""
        replica_set = sets[index]
        before = rollout.replicas(replica_set)
        sizes = rollout.size_annotations(deployment)

        def mutate(obj: Object) -> None:
            obj["spec"]["replicas"] = size
            obj["metadata"].setdefault("annotations", {}).update(sizes)

        where = replica_set["metadata"]
        annotations = where.get("annotations") or {}
        if before == size and all(annotations.get(k) == v for k, v in sizes.items()):
            return False
        changed = self.api.change(_SETS, where["namespace"], where["name"], mutate)
        if changed is None:
            return False
        sets[index] = changed
        if before == size:
            return False
        direction = "up" if size > before else "down"
        self._tell_scaled(deployment, direction, where["name"], before, size)
        return True

    def _tell_scaled(
        self, deployment: Object, direction: str, name: str, before: int, after: int
    ) -> None:
        message = f"Scaled {direction} replica set {name} from {before} to {after}"
        self.event(deployment, "Normal", "ScalingReplicaSet", message)

    # -- the three ways on -----------------------------------------------------------------------

    def _was_scaled(self, deployment: Object, sets: list[Object]) -> bool:
        wanted = str(rollout.replicas(deployment))
        return any(
            rollout.replicas(each) and rollout.annotation(each, rollout.DESIRED) not in ("", wanted)
            for each in sets
        )

    def _resize(self, deployment: Object, sets: list[Object]) -> None:
        """Follow a new scale without going on with the rollout."""
        new = self._newest(deployment, sets)
        active = [each for each in sets if rollout.replicas(each)]
        wanted = rollout.replicas(deployment)
        if len(active) <= 1:
            target = active[0] if active else (new or (sets[-1] if sets else None))
            if target is not None:
                self._scale(deployment, sets, sets.index(target), wanted)
        elif new is not None and self._saturated(deployment, new):
            for index, each in enumerate(sets):
                if each is not new and rollout.replicas(each):
                    self._scale(deployment, sets, index, 0)
        elif rollout.rolling(deployment):
            sizes = rollout.shares(deployment, active)
            for index, each in enumerate(sets):
                if each["metadata"]["name"] in sizes:
                    self._scale(deployment, sets, index, sizes[each["metadata"]["name"]])
        new = self._newest(deployment, sets)
        if deployment["spec"].get("paused"):
            self._forget_old(deployment, sets, new)
        self.report(deployment, sets, new, judged=False)

    def _saturated(self, deployment: Object, new: Object) -> bool:
        wanted = rollout.replicas(deployment)
        return (
            rollout.replicas(new) == wanted
            and rollout.annotation(new, rollout.DESIRED) == str(wanted)
            and rollout.counted([new], "availableReplicas") == wanted
        )

    def _roll(self, deployment: Object, sets: list[Object]) -> None:
        new = self._new_set(deployment, sets)
        index, wanted = sets.index(new), rollout.replicas(deployment)
        size = rollout.replicas(new)
        if size > wanted:
            size = wanted
        elif size < wanted:
            size = rollout.new_size(deployment, sets, size)
        if not self._scale(deployment, sets, index, size) and not self._shrink(
            deployment, sets, sets[index]
        ):
            self._forget_old(deployment, sets, sets[index])
        self.report(deployment, sets, self._newest(deployment, sets))

    def _shrink(self, deployment: Object, sets: list[Object], new: Object) -> bool:
        """Take pods from old ReplicaSets, broken ones first, as far as availability allows."""
        old = [i for i, each in enumerate(sets) if each is not new and rollout.replicas(each)]
        least = rollout.replicas(deployment) - rollout.limits(deployment)[1]
        waiting = rollout.replicas(new) - rollout.counted([new], "availableReplicas")
        room = rollout.total(sets) - least - waiting
        if not old or room <= 0:
            return False
        shrunk = 0
        for index in old:
            broken = rollout.replicas(sets[index]) - rollout.counted(
                [sets[index]], "availableReplicas"
            )
            take = min(room - shrunk, broken)
            if take > 0:
                self._scale(deployment, sets, index, rollout.replicas(sets[index]) - take)
                shrunk += take
        spare = rollout.counted(sets, "availableReplicas") - least
        for index in old:
            take = min(spare, rollout.replicas(sets[index]))
            if take > 0:
                self._scale(deployment, sets, index, rollout.replicas(sets[index]) - take)
                shrunk, spare = shrunk + take, spare - take
        return shrunk > 0

    def _recreate(self, deployment: Object, sets: list[Object]) -> None:
        new = self._newest(deployment, sets)
        scaled = False
        for index, each in enumerate(sets):
            if each is not new and rollout.replicas(each):
                scaled = self._scale(deployment, sets, index, 0) or scaled
        running = any(
            not pod.finished
            for each in sets
            if each["metadata"]["uid"] != (new or each)["metadata"]["uid"] or new is None
            for pod in self.pods.of(each["metadata"]["uid"])
        )
        if not scaled and not running:
            new = self._new_set(deployment, sets)
            if not self._scale(deployment, sets, sets.index(new), rollout.replicas(deployment)):
                self._forget_old(deployment, sets, new)
        self.report(deployment, sets, self._newest(deployment, sets))

    def _forget_old(self, deployment: Object, sets: list[Object], new: Object | None) -> None:
        """Delete the oldest empty ReplicaSets beyond ``revisionHistoryLimit``."""
        limit = deployment["spec"].get("revisionHistoryLimit")
        if limit is None or not rollout.complete(deployment, deployment.get("status") or {}):
            return
        old = [
            each
            for each in sets
            if new is None or each["metadata"]["uid"] != new["metadata"]["uid"]
        ]
        for each in sorted(old, key=rollout.revision)[: max(len(old) - limit, 0)]:
            metadata, status = each["metadata"], each.get("status") or {}
            observed = status.get("observedGeneration", 0) >= metadata.get("generation", 1)
            if status.get("replicas", 0) or rollout.replicas(each) or not observed:
                continue
            options = DeleteOptions(propagation="Background")
            self.api.delete(_SETS, metadata["namespace"], metadata["name"], options)
