"""What an add-on consists of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlk8s.sim.api import Api
from mlk8s.sim.controllers.pods import PodIndex
from mlk8s.sim.events import Recorder
from mlk8s.sim.resources import Resource
from mlk8s.sim.runtime import Component
from mlk8s.sim.status import Object, StatusError

if TYPE_CHECKING:
    from mlk8s.sim.kubelet.kubelet import Kubelet


@dataclass(frozen=True)
class Setting:
    """What an add-on finds in the cluster that it is installed in.

    Attributes:
        pods: the facts of all pods, as :class:`mlk8s.sim.controllers.base.Controller` wants them.
        kubelet: runs the containers of all pods.
    """

    api: Api
    recorder: Recorder
    pods: PodIndex
    kubelet: Kubelet


class Hook:
    """An admission webhook: asked on every creation and change, of any resource.

    It changes an object in place, or raises :func:`denied`. It is not asked about status and other
    subresources.
    """

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Complete an object before it is validated.

        Args:
            op: ``CREATE`` or ``UPDATE``.
            resource: what it is.
            obj: with its defaults; changed in place.
            old: as it is stored; ``None`` when it is new.
        """

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Refuse an object that is valid by its schema.

        Raises:
            StatusError: it is refused.
        """


def denied(webhook: str, why: str, code: int = 403, reason: str = "Forbidden") -> StatusError:
    """The server's answer when a webhook says no.

    Args:
        webhook: its name, such as ``vjob.kb.io``.
        why: what it says.
        code: the HTTP status that it gives.
        reason: the reason that it gives; may be empty.
    """
    message = f'admission webhook "{webhook}" denied the request: {why}'
    return StatusError(code, reason, message)


@dataclass(frozen=True)
class Parts:
    """An add-on as it runs in one cluster.

    Attributes:
        components: its controllers; stopped when it is disabled.
        hooks: its admission webhooks.
        cleanup: called after its controllers have stopped and before its objects go.
    """

    components: Sequence[Component]
    hooks: Sequence[Hook]
    cleanup: Callable[[], None]


@dataclass(frozen=True)
class Addon:
    """A project whose control loops can be switched on.

    Attributes:
        version: that the model follows.
        date: when that version came out.
        source: where it was read.
        group: an API group that is served where the project is installed.
        group_version: the version of it that the add-on serves.
        install: the command that installs that version in a real cluster.
        definitions: makes its CustomResourceDefinitions.
        build: makes the rest, once these are served.
        not_modeled: what of the project is left out.
    """

    name: str
    title: str
    version: str
    date: str
    source: str
    group: str
    group_version: str
    install: str
    definitions: Callable[[], list[Object]]
    build: Callable[[Setting], Parts]
    not_modeled: Sequence[str]

    @property
    def mark(self) -> str:
        """What its definitions say about themselves."""
        return (
            f"{self.name} {self.version} ({self.date}), modeled by mlk8s from {self.source}; "
            "not the project's own software"
        )
