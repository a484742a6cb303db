"""Add-ons of the embedded cluster: control loops of other projects, modeled, off by default.

An add-on brings what an installation brings to a real cluster: CustomResourceDefinitions, the
controllers behind them and admission webhooks. Each is a model that was written
from that project's documentation and source; its version and date stand in ``addon list`` and in
an annotation of every definition.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from mlk8s.sim.addons.base import Addon, Hook, Parts, Setting
from mlk8s.sim.controllers.base import Controller
from mlk8s.sim.custom_resources import KEY as DEFINITIONS
from mlk8s.sim.custom_resources import CustomResources
from mlk8s.sim.status import Object, StatusError, bad_request

if TYPE_CHECKING:
    from mlk8s.sim.api import Api
    from mlk8s.sim.events import Recorder
    from mlk8s.sim.resources import Resource
    from mlk8s.sim.runtime import Runtime

MODEL = "mlk8s.dev/model"
Kind = TypeVar("Kind")


def _all() -> dict[str, Addon]:
    # Here, because an add-on's modules are read only where somebody asks for add-ons.
    from mlk8s.sim.addons import katib, kserve, kuberay, kueue, trainer

    every = (kueue.ADDON, trainer.ADDON, katib.ADDON, kserve.ADDON, kuberay.ADDON)
    return {addon.name: addon for addon in every}


def known() -> list[Object]:
    """What there is to know of each add-on, as JSON values."""
    return [
        {
            "name": addon.name,
            "title": addon.title,
            "version": addon.version,
            "date": addon.date,
            "source": addon.source,
            "group": addon.group,
            "group_version": addon.group_version,
            "install": addon.install,
            "not_modeled": list(addon.not_modeled),
        }
        for addon in _all().values()
    ]


def find(name: str) -> Addon:
    """The add-on of a name.

    Raises:
        StatusError: 400: there is none; the message lists those that there are.
    """
    there = _all()
    if name not in there:
        raise bad_request(f"there is no add-on {name!r}; there are: {', '.join(there)}")
    return there[name]


class Addons:
    """The add-ons of one cluster, and the admission webhooks of those that are on.

    Args:
        api: the cluster.
        recorder: where their events go.
        runtime: runs their controllers.
    """

    def __init__(self, api: Api, recorder: Recorder, runtime: Runtime) -> None:
        self.api = api
        self.recorder = recorder
        self.runtime = runtime
        api.addons = self
        self._on: dict[str, tuple[Addon, Parts]] = {}
        self._hooks: list[Hook] = []

    def enable(self, name: str) -> None:
        """Install an add-on; nothing happens where it is on.

        When it returns, its resources are served and its controllers run.

        Raises:
            StatusError: 400: there is no such add-on; 409: somebody else's definitions are there.
        """
        addon = find(name)
        if name in self._on:
            return
        documents = addon.definitions()
        self._refuse_foreign(addon, documents)
        server = self._one(CustomResources)
        for document in documents:
            document["metadata"].setdefault("annotations", {})[MODEL] = addon.mark
            self.api.create(DEFINITIONS, document)
            server.reconcile(document["metadata"]["name"])
        # Here, because the kubelet's own modules read add-ons' names.
        from mlk8s.sim.kubelet.kubelet import Kubelet

        pods, kubelet = self._one(Controller).pods, self._one(Kubelet)
        setting = Setting(self.api, self.recorder, pods, kubelet)
        parts = addon.build(setting)
        self._on[name] = (addon, parts)
        self._hooks += parts.hooks
        self.runtime.add(parts.components)

    def disable(self, name: str) -> None:
        """Stop an add-on's controllers and remove its definitions with all their objects.

        Harmless where it is off. What it did to other objects stays: a suspended Job stays so.

        Raises:
            StatusError: 400: there is no such add-on.
        """
        find(name)
        if name not in self._on:
            return
        addon, parts = self._on.pop(name)
        self._hooks = [hook for hook in self._hooks if hook not in parts.hooks]
        self.runtime.remove(parts.components)
        parts.cleanup()
        server = self._one(CustomResources)
        for document in addon.definitions():
            definition, spec = document["metadata"]["name"], document["spec"]
            # Nobody is left who would take the finalizers off.
            key = f"{spec['names']['plural']}.{spec['group']}"
            for namespace, found in self.api.store.keys(key):
                self._drop(key, namespace, found)
            self._drop(DEFINITIONS, "", definition)
            server.reconcile(definition)

    def active(self) -> list[str]:
        """The names of those that are on, in the order in which they were enabled."""
        return list(self._on)

    def listed(self) -> list[Object]:
        """All add-ons with their versions, and whether they are on."""
        return [{**each, "active": each["name"] in self._on} for each in known()]

    # -- admission -------------------------------------------------------------------------------

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Let the webhooks complete an object.

        Raises:
            StatusError: one of them refuses it.
        """
        for hook in self._hooks:
            hook.mutate(op, resource, obj, old)

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Ask the webhooks whether an object may be stored.

        Raises:
            StatusError: one of them refuses it.
        """
        for hook in self._hooks:
            hook.validate(op, resource, obj, old)

    # -- helpers ---------------------------------------------------------------------------------

    def _one(self, kind: type[Kind]) -> Kind:
        return next(each for each in self.runtime.components if isinstance(each, kind))

    def _refuse_foreign(self, addon: Addon, documents: list[Object]) -> None:
        for document in documents:
            name = document["metadata"]["name"]
            if self.api.store.raw(DEFINITIONS, "", name) is not None:
                message = (
                    f"the definition {name} is there already, and add-on {addon.name} did not make "
                    "it"
                )
                raise StatusError(409, "AlreadyExists", message)

    def _drop(self, key: str, namespace: str, name: str) -> None:
        """Delete an object past its finalizers."""

        def release(obj: Object) -> None:
            obj["metadata"].pop("finalizers", None)

        self.api.change(key, namespace, name, release)
        if self.api.store.raw(key, namespace, name) is not None:
            self.api.delete(key, namespace, name)


__all__ = ["Addons", "find", "known"]
