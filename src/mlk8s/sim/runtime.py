"""What runs beside the API server: components with work queues, on one event loop.

A component hears of every change, notes what it has to look at, and looks at it later, one key at
a time, as a Kubernetes controller does. All of them share one thread, so a step is never
interrupted by another component.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Hashable, Iterable

from mlk8s.sim.api import Api
from mlk8s.sim.clock import Timer
from mlk8s.sim.status import StatusError
from mlk8s.sim.store import Change

log = logging.getLogger(__name__)

# How long components may work before requests get their turn.
SLICE_S = 0.005


class Component:
    """Something that reacts to changes of objects.

    Subclasses override :meth:`keys` and :meth:`reconcile`. A key that is queued twice before its
    turn is looked at once.

    Args:
        api: the cluster.

    Attributes:
        first_retry_s: after how long a key that failed is looked at again; twice as long each time.
        last_retry_s: the longest of these.
    """

    first_retry_s = 0.005
    last_retry_s = 60.0

    def __init__(self, api: Api) -> None:
        self.api = api
        self._queue: OrderedDict[Hashable, None] = OrderedDict()
        self._timers: dict[Hashable, tuple[float, Timer]] = {}
        self._failures: dict[Hashable, int] = {}
        self._wake: asyncio.Event | None = None

    def keys(self, change: Change) -> Iterable[Hashable]:
        """What has to be looked at after a change."""
        raise NotImplementedError

    def reconcile(self, key: Hashable) -> None:
        """Look at the present state, and do what is missing.

        Raises:
            StatusError: it is tried again, later each time.
        """
        raise NotImplementedError

    def start(self) -> None:
        """Called once when the cluster starts; may make objects of its own."""

    def stop(self) -> None:
        """Called once when the cluster stops; ends what the component has started."""

    def enqueue(self, key: Hashable, after: float = 0.0) -> None:
        """Look at ``key``, now or ``after`` simulated seconds; the earliest of the two counts."""
        if after <= 0:
            self._queue[key] = None
            if self._wake is not None:
                self._wake.set()
            return

        def due() -> None:
            self._timers.pop(key, None)
            self.enqueue(key)

        when = self.api.clock.now() + after
        if (set_before := self._timers.get(key)) is not None:
            if set_before[0] <= when:
                return
            set_before[1].cancel()
        self._timers[key] = (when, self.api.clock.call_later(after, due))

    def forget(self) -> None:
        """Look at nothing more."""
        self._queue.clear()
        for _, timer in self._timers.values():
            timer.cancel()
        self._timers.clear()

    @property
    def busy(self) -> bool:
        """Whether something waits to be looked at now."""
        return bool(self._queue)

    def step(self) -> None:
        """Look at the key that has waited longest."""
        key, _ = self._queue.popitem(last=False)
        try:
            self.reconcile(key)
        except StatusError as error:
            log.info("%s %s: %s", type(self).__name__, key, error)
            self._retry(key)
        except Exception:
            # One object that a component cannot handle must not stop the cluster.
            log.exception("%s failed on %s", type(self).__name__, key)
            self._retry(key)
        else:
            self._failures.pop(key, None)

    def _retry(self, key: Hashable) -> None:
        failures = self._failures.get(key, 0)
        self._failures[key] = failures + 1
        self.enqueue(key, min(self.first_retry_s * 2**failures, self.last_retry_s))


class Runtime:
    """Runs components until it is stopped.

    Args:
        api: the cluster.
        components: heard in this order.
    """

    def __init__(self, api: Api, components: Iterable[Component]) -> None:
        self.api = api
        self.components = list(components)
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def listen(self) -> None:
        """Hear of every change from now on, and work on it."""
        for component in self.components:
            component._wake = self._wake
        self.api.store.subscribe(self._hear)
        self._task = asyncio.create_task(self._run())

    def start(self) -> None:
        """Start all components; what exists in every cluster has been made before."""
        for component in self.components:
            component.start()

    async def stop(self) -> None:
        """Stop all components and end what they have started."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        for component in reversed(self.components):
            component.stop()

    def add(self, components: Iterable[Component]) -> None:
        """Start more components while the others run."""
        new = list(components)
        # A new list: the loop may be on its way through the old one.
        self.components = [*self.components, *new]
        for component in new:
            component._wake = self._wake
        for component in new:
            component.start()

    def remove(self, components: Iterable[Component]) -> None:
        """Stop some components for good."""
        gone = list(components)
        self.components = [each for each in self.components if each not in gone]
        for component in reversed(gone):
            component.stop()
            component.forget()

    def idle(self) -> bool:
        """Whether every component has finished what it was told so far."""
        return not any(component.busy for component in self.components)

    def _hear(self, change: Change) -> None:
        for component in self.components:
            for key in component.keys(change):
                component.enqueue(key)

    async def _run(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            began = time.monotonic()
            while not self.idle():
                for component in self.components:
                    if component.busy:
                        component.step()
                    if time.monotonic() - began > SLICE_S:
                        await asyncio.sleep(0)
                        began = time.monotonic()
