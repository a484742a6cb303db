"""Events as components write them, with the five minutes they live in MicroK8s.

Two forms exist, as in a real cluster: most components count repetitions in ``count``; the
scheduler writes the newer form, with ``eventTime`` and ``series``.
"""

from __future__ import annotations

from collections import deque

from mlk8s.sim.api import Api
from mlk8s.sim.clock import micro_stamp
from mlk8s.sim.status import Object

# MicroK8s starts its API server with --event-ttl=5m; upstream's default is an hour.
EVENT_TTL_S = 300.0


class Recorder:
    """Writes events about objects; one for the whole cluster.

    Args:
        api: the cluster.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self._known: dict[tuple[str, ...], tuple[str, str]] = {}
        self._expiry: deque[tuple[float, str, str, tuple[str, ...]]] = deque()

    def event(
        self,
        about: Object,
        type: str,
        reason: str,
        message: str,
        component: str,
        *,
        host: str = "",
        field: str = "",
        action: str = "",
        series: bool = False,
        related: Object | None = None,
    ) -> None:
        """Record that something happened to an object.

        Args:
            about: the object, with ``apiVersion`` and ``kind``.
            type: ``Normal`` or ``Warning``.
            reason: one word, such as ``FailedScheduling``.
            message: a sentence.
            component: who says so, such as ``kubelet``.
            host: the node that it happened on.
            field: a part of the object, such as ``spec.containers{main}``.
            action: what was being done (newer form alone).
            series: write the newer form.
            related: another object that took part.
        """
        self._expire()
        metadata = about["metadata"]
        namespace = metadata.get("namespace", "default")
        key = (metadata["uid"], field, type, reason, message, component, host)
        now = self.api.clock.now()
        if (where := self._known.get(key)) and self.api.find("events", *where):
            self.api.change("events", *where, lambda event: self._repeat(event, series))
            return
        name = f"{metadata['name']}.{self.api.uid('events').replace('-', '')[:16]}"
        reference = {
            "kind": about["kind"],
            "name": metadata["name"],
            "uid": metadata["uid"],
            "apiVersion": about["apiVersion"],
            "resourceVersion": metadata["resourceVersion"],
        }
        if metadata.get("namespace"):
            reference["namespace"] = namespace
        if field:
            reference["fieldPath"] = field
        event: Object = {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {
                "name": name,
                "namespace": namespace,
                "uid": self.api.uid("events"),
                "creationTimestamp": self.api.timestamp(),
            },
            "involvedObject": reference,
            "reason": reason,
            "message": message,
            "type": type,
            "reportingComponent": component,
            "reportingInstance": host if not series else f"{component}-mlk8s",
        }
        if related is not None:
            event["related"] = {
                "kind": related["kind"],
                "apiVersion": related["apiVersion"],
                **{
                    key: related["metadata"][key]
                    for key in ("name", "namespace", "uid", "resourceVersion")
                    if key in related["metadata"]
                },
            }
        if series:
            event |= {"source": {}, "eventTime": micro_stamp(now), "action": action or "Scheduling"}
            event |= {"firstTimestamp": None, "lastTimestamp": None}
        else:
            event["source"] = {"component": component} | ({"host": host} if host else {})
            event |= {"eventTime": None, "count": 1}
            event |= {"firstTimestamp": self.api.timestamp()}
            event |= {"lastTimestamp": self.api.timestamp()}
        self.api.store.write("events", event)
        self._known[key] = (namespace, name)
        self._expiry.append((now + EVENT_TTL_S, namespace, name, key))
        if len(self._expiry) == 1:
            self.api.clock.call_later(EVENT_TTL_S, self._expire)

    def _repeat(self, event: Object, series: bool) -> None:
        if series:
            count = event.get("series", {}).get("count", 1) + 1
            moment = micro_stamp(self.api.clock.now())
            event["series"] = {"count": count, "lastObservedTime": moment}
        else:
            event["count"] += 1
            event["lastTimestamp"] = self.api.timestamp()

    def _expire(self) -> None:
        """Remove events whose time is over; a repetition gives one five minutes more."""
        now = self.api.clock.now()
        while self._expiry and self._expiry[0][0] <= now:
            _, namespace, name, key = self._expiry.popleft()
            event = self.api.find("events", namespace, name)
            if event is None:
                self._known.pop(key, None)
                continue
            last = self._last_seen(event)
            if last + EVENT_TTL_S > now:
                self._expiry.append((last + EVENT_TTL_S, namespace, name, key))
                continue
            self._known.pop(key, None)
            self.api.store.remove("events", namespace, name)
        if self._expiry:
            self.api.clock.call_later(self._expiry[0][0] - now, self._expire)

    def _last_seen(self, event: Object) -> float:
        from mlk8s.sim.clock import seconds

        series = event.get("series") or {}
        return seconds(
            series.get("lastObservedTime")
            or event.get("lastTimestamp")
            or event["metadata"]["creationTimestamp"]
        )
