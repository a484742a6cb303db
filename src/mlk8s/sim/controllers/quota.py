"""ResourceQuotas: what a namespace uses of what it may.

Admission raises the use before an object is stored; this controller lowers it again when objects
end or go, and counts anew when a quota is made or changed. What each object uses is kept, so one
change costs one object. Source of the rules: pkg/controller/resourcequota.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from fractions import Fraction

from mlk8s.sim import quantity
from mlk8s.sim.admission.quota import matches
from mlk8s.sim.admission.usage import usage_of
from mlk8s.sim.api import Api
from mlk8s.sim.controllers.base import Controller
from mlk8s.sim.controllers.pods import PodIndex
from mlk8s.sim.events import Recorder
from mlk8s.sim.status import Object
from mlk8s.sim.store import Change

_QUOTAS = "resourcequotas"


class _Tally:
    """The use of one quota, by object."""

    def __init__(self, quota: Object) -> None:
        self.quota = quota
        self.used: dict[str, Fraction] = {}
        self.by_object: dict[tuple[str, str], dict[str, Fraction]] = {}

    def put(self, where: tuple[str, str], use: dict[str, Fraction]) -> None:
        for name, amount in self.by_object.pop(where, {}).items():
            self.used[name] -= amount
        if use:
            self.by_object[where] = use
        for name, amount in use.items():
            self.used[name] = self.used.get(name, Fraction()) + amount


class ResourceQuotas(Controller):
    """The resource quota controller."""

    name = "resourcequota-controller"
    watch = (_QUOTAS,)

    def __init__(self, api: Api, recorder: Recorder, pods: PodIndex) -> None:
        super().__init__(api, recorder, pods)
        self._tallies: dict[str, dict[str, _Tally]] = {}

    def keys(self, change: Change) -> Iterable[Hashable]:
        """A quota, or an object in a namespace that has one."""
        if change.key == "events":
            return ()
        found: list[Hashable] = []
        where = (change.namespace, change.name)
        tallies = self._tallies.setdefault(change.namespace, {})
        if change.key == _QUOTAS:
            if change.type == "DELETED":
                tallies.pop(change.name, None)
            elif change.old is None or change.old["spec"] != change.object["spec"]:
                tallies[change.name] = _Tally(change.object)
                found.append(("count", *where))
            elif change.old.get("status") != change.object.get("status"):
                # Also what admission wrote: it is confirmed, or corrected.
                found.append(("report", *where))
        for name, tally in tallies.items():
            if self._note(tally, change):
                found.append(("report", change.namespace, name))
        if not tallies:
            del self._tallies[change.namespace]
        return found

    def reconcile(self, key: Hashable) -> None:
        """Count all objects, or write what has been counted."""
        assert isinstance(key, tuple)
        task, namespace, name = key
        tally = self._tallies.get(namespace, {}).get(name)
        if tally is None:
            return
        if task == "count":
            for resource in self.api.registry:
                for obj in self.api.store.items(resource.key, namespace):
                    self._weigh(tally, resource.key, obj)
        self._report(tally, namespace, name)

    def _note(self, tally: _Tally, change: Change) -> bool:
        """Weigh an object at once, so that no report is older than what admission wrote.

        Returns:
            Whether the use changed.
        """
        where = (change.key, change.name)
        before = tally.by_object.get(where)
        if change.type == "DELETED":
            tally.put(where, {})
        else:
            self._weigh(tally, change.key, change.object)
        return tally.by_object.get(where) != before

    def _weigh(self, tally: _Tally, key: str, obj: Object) -> None:
        resource = self.api.registry.of_key(key)
        use: dict[str, Fraction] = {}
        if matches(tally.quota, resource, obj):
            hard = tally.quota["spec"].get("hard") or {}
            use = {
                name: amount
                for name, amount in usage_of(resource, obj).items()
                if name in hard and amount
            }
        tally.put((key, obj["metadata"]["name"]), use)

    def _report(self, tally: _Tally, namespace: str, name: str) -> None:
        def mutate(found: Object) -> None:
            hard = found["spec"].get("hard") or {}
            found["status"] = {
                "hard": dict(hard),
                "used": {
                    what: quantity.of(tally.used.get(what, Fraction()), like=str(limit))
                    for what, limit in hard.items()
                },
            }

        self.api.change(_QUOTAS, namespace, name, mutate, subresource="status")
