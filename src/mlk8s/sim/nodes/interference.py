"""What the kubelet does to some pods, instead of what it would do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from mlk8s.sim.status import Object

Stage = Literal["admission", "pull", "create", "run", "log"]
Match = Callable[[Object], bool]


@dataclass(frozen=True)
class Interference:
    """One thing that goes otherwise for the pods that match.

    ==========  ================================================================================
    stage       what happens to a matching pod (only to ``container`` where one is named)
    ==========  ================================================================================
    admission   The pod fails at once: phase ``Failed``, ``status.reason``, ``status.message``;
                a Warning event with the same two.
    pull        Pulling fails with ``message``: ``ErrImagePull``, then ``ImagePullBackOff``.
    create      The container does not come to be and is tried again: it waits with ``reason``
                (such as ``RunContainerError``) and ``message``; a Warning event ``Failed``.
                With the reason ``FailedCreatePodSandBox`` the sandbox fails instead: an event of
                that reason with ``message``, all containers stay in ``ContainerCreating``.
    run         The container starts, prints ``lines``, and exits with ``exit_code``
                (``terminated.reason`` is ``reason``, else ``Error``); restarts and back-off as
                always. ``exit_code=None``: it goes on running and never becomes ready.
    log         The container runs as it would; ``lines`` are printed before its own output.
    ==========  ================================================================================

    Attributes:
        fault: name of the fault that it belongs to; ``""`` for the ordinary course of things.
        stage: where on the pod's way.
        match: whether a pod is concerned; is given the pod, must not change it.
        reason: one word.
        message: the sentence.
        lines: of the log, without line ends; the first says that they are scripted.
        exit_code: of the container; ``None`` runs on.
        container: a container or init container by name; ``""`` is the first regular one that
            starts (``create``, ``run``, ``log``).
    """

    fault: str
    stage: Stage
    match: Match
    reason: str = ""
    message: str = ""
    lines: tuple[str, ...] = ()
    exit_code: int | None = 1
    container: str = ""
