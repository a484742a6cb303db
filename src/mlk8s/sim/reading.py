"""Lists and watches: selectors, pages, and the stream of changes that a client follows."""

from __future__ import annotations

import asyncio
import base64
import binascii
import json
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import orjson

from mlk8s.sim import selectors
from mlk8s.sim.api import Api
from mlk8s.sim.field_selectors import FieldSelector, field
from mlk8s.sim.options import ListOptions
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object, StatusError, bad_request, expired
from mlk8s.sim.store import Change, Store, TooOld

# How many changes may wait for a client that does not read them before it is cut off.
LAG = 20_000
# How many events of a watch are written together.
_AT_ONCE = 64
# How many lists that are being read page by page are kept as they were.
SNAPSHOTS = 64
BOOKMARK_EVERY_S = 60.0
# A real server ends a watch that names no timeout after 30 to 60 minutes.
WATCH_TIMEOUT_S = 3600.0
_TOKEN_TOO_OLD = (
    "The provided continue parameter is too old to display a consistent list result. You can start "
    "a new list without the continue parameter."
)
_REVISION_TOO_OLD = "The resourceVersion for the provided list is too old."


@dataclass(frozen=True)
class Query:
    """Which objects of a resource a request is about.

    Attributes:
        namespace: ``None`` for all.
        name: one object by name, from the path.
        selectable: fields of a custom resource that a field selector may name, as JSON paths.
    """

    resource: Resource
    namespace: str | None
    labels: str = ""
    fields: str = ""
    name: str = ""

    selectable: tuple[str, ...] = ()

    @cached_property
    def _fields(self) -> FieldSelector:
        return field(self.fields, self.resource, self.selectable)

    def filter(self) -> Callable[[Object], bool] | None:
        """The test for one object; ``None`` when all match.

        Raises:
            StatusError: 400, a selector cannot be parsed.
        """
        tests: list[Callable[[Object], bool]] = []
        if self.labels:
            by_label = selectors.labels(self.labels)
            tests.append(lambda obj: by_label.matches(obj["metadata"].get("labels") or {}))
        if self.fields:
            tests.append(self._fields.matches)
        if self.name:
            tests.append(lambda obj: obj["metadata"]["name"] == self.name)
        if not tests:
            return None
        return lambda obj: all(test(obj) for test in tests)

    def exact_name(self) -> str:
        """The one name that can match, if the query says so."""
        if self.name or not self.fields:
            return self.name
        return self._fields.exact.get("metadata.name", "")


@dataclass(frozen=True)
class Page:
    """One answer to a list request.

    Attributes:
        items: objects as JSON.
        token: for the next page; empty on the last.
        remaining: how many follow; ``None`` when a selector makes it unknown.
    """

    items: list[bytes]
    revision: int
    token: str = ""
    remaining: int | None = None


class Lists:
    """Answers list requests; pages of one list show one moment.

    Args:
        api: the cluster.
    """

    def __init__(self, api: Api) -> None:
        self.api = api
        self._snapshots: OrderedDict[tuple[int, Query], list[bytes]] = OrderedDict()

    def page(self, query: Query, asked: ListOptions) -> Page:
        """The objects of a query, or the next ``limit`` of them.

        Raises:
            StatusError: 400 for a token or selector that cannot be read, 410 for a token or a
                revision that the store no longer reaches back to, 504 for one that is to come.
        """
        limit, store = asked.limit, self.api.store
        revision, start = store.revision, 0
        if asked.token:
            revision, start = _read_token(asked.token)
            if revision > store.revision or start < 0:
                raise bad_request("invalid continue token: it is not one of this server's")
            kept = self._snapshots.get((revision, query))
            items = self._at(query, revision, _TOKEN_TOO_OLD) if kept is None else kept
        elif asked.revision > revision:
            raise too_large(asked.revision, revision)
        elif asked.exact and asked.revision < revision:
            revision = asked.revision
            items = self._at(query, revision, _REVISION_TOO_OLD)
        else:
            items = list(self._matching(query))
        if not limit or len(items) - start <= limit:
            self._snapshots.pop((revision, query), None)
            return Page(items[start:] if start else items, revision)
        self._snapshots[revision, query] = items
        self._snapshots.move_to_end((revision, query))
        while len(self._snapshots) > SNAPSHOTS:
            self._snapshots.popitem(last=False)
        end = start + limit
        remaining = None if query.labels or query.fields else len(items) - end
        return Page(items[start:end], revision, _token(revision, end), remaining)

    def _at(self, query: Query, revision: int, refusal: str) -> list[bytes]:
        test = query.filter()
        try:
            raws = self.api.store.at(query.resource.key, query.namespace, revision)
        except TooOld:
            raise expired(refusal) from None
        return [raw for raw in raws if test is None or test(orjson.loads(raw))]

    def _matching(self, query: Query) -> Iterator[bytes]:
        store, key = self.api.store, query.resource.key
        test = query.filter()
        name = query.exact_name()
        if name and query.namespace is not None:
            raw = store.raw(key, query.namespace, name)
            raws = [] if raw is None else [raw]
        else:
            raws = store.raws(key, query.namespace)
        for raw in raws:
            if test is None or test(orjson.loads(raw)):
                yield raw


def _token(revision: int, start: int) -> str:
    text = json.dumps({"v": "meta.k8s.io/v1", "rv": revision, "start": start})
    return base64.urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


def _read_token(token: str) -> tuple[int, int]:
    problem = "invalid continue token: continue key is not valid"
    try:
        data = base64.b64decode(token + "=" * (-len(token) % 4), altchars=b"-_", validate=True)
    except binascii.Error:
        raise bad_request(f"{problem}: illegal base64 data at input byte 0") from None
    try:
        parsed = json.loads(data)
        return int(parsed["rv"]), int(parsed["start"])
    except (ValueError, KeyError, TypeError):
        first = json.dumps(chr(data[0]))[1:-1] if data else ""
        why = f"invalid character '{first}' looking for beginning of value"
        raise bad_request(f"{problem}: {why}") from None


def too_large(wanted: int, present: int) -> StatusError:
    """504: a revision that has not come yet; a real server says so after three seconds."""
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return StatusError(
        504,
        "Timeout",
        f"Too large resource version: {wanted}, current: {present}",
        {"causes": [cause], "retryAfterSeconds": 1},
    )


class Hub:
    """Hands every change to the watches of its resource.

    Args:
        store: where changes come from.
    """

    def __init__(self, store: Store) -> None:
        self._watches: dict[str, dict[Watch, None]] = {}
        self._unsubscribe = store.subscribe(self._hear)

    def add(self, watch: Watch) -> None:
        """Start to hand changes to a watch."""
        self._watches.setdefault(watch.query.resource.key, {})[watch] = None

    def discard(self, watch: Watch) -> None:
        """Stop handing changes to a watch."""
        self._watches.get(watch.query.resource.key, {}).pop(watch, None)

    def close(self) -> None:
        """End all watches."""
        self._unsubscribe()
        for watches in self._watches.values():
            for watch in list(watches):
                watch.close()

    @property
    def count(self) -> int:
        """How many watches are open."""
        return sum(map(len, self._watches.values()))

    def _hear(self, change: Change) -> None:
        for watch in list(self._watches.get(change.key, ())):
            watch.offer(change)


@dataclass(frozen=True, slots=True)
class Seen:
    """One event of a watch: its type, the object as JSON, and the revision it is at.

    The type is ``BOOKMARK`` behind the last object of those that there were.
    """

    type: str
    raw: bytes
    revision: int


class Watch:
    """The changes of a query after a revision.

    Args:
        query: what to watch.
        hub: where changes come from.
    """

    def __init__(self, query: Query, hub: Hub) -> None:
        self.query = query
        self._hub = hub
        self._test = query.filter()
        self._waiting: deque[Seen] = deque()
        self._news = asyncio.Event()
        self._closed = False

    def begin(self, store: Store, asked: ListOptions) -> None:
        """Queue what comes before the first change to come.

        Args:
            store: the state.
            asked: where to begin: without a revision, and when ``initial`` is asked for, with
                what there is.

        Raises:
            StatusError: 410, the log does not reach back; 504, it is a revision to come.
        """
        key = self.query.resource.key
        if asked.revision > store.revision:
            raise too_large(asked.revision, store.revision)
        if asked.initial or (asked.initial is None and not asked.revision):
            for raw in store.raws(key, self.query.namespace):
                if self._test is None or self._test(orjson.loads(raw)):
                    self._waiting.append(Seen("ADDED", raw, store.revision))
            if asked.initial:
                self._waiting.append(Seen("BOOKMARK", b"", store.revision))
        elif asked.revision:
            try:
                for change in store.since(key, asked.revision):
                    self.offer(change)
            except TooOld:
                reached = f"too old resource version: {asked.revision} ({store.revision})"
                raise expired(reached) from None
        if self._waiting:
            self._news.set()
        self._hub.add(self)

    def offer(self, change: Change) -> None:
        """Queue a change if it is one of the query's."""
        if self.query.namespace is not None and change.namespace != self.query.namespace:
            return
        seen = self._seen(change)
        if seen is None:
            return
        if len(self._waiting) >= LAG:
            # It would grow without end; the client lists again, as after a lost connection.
            self.close()
            return
        self._waiting.append(seen)
        self._news.set()

    def _seen(self, change: Change) -> Seen | None:
        if self._test is None:
            return Seen(change.type, change.raw, change.revision)
        now = change.type != "DELETED" and self._test(change.object)
        before = change.old is not None and self._test(change.old)
        if now:
            return Seen("MODIFIED" if before else "ADDED", change.raw, change.revision)
        if not before:
            return None
        if change.type == "DELETED":
            return Seen("DELETED", change.raw, change.revision)
        # It left the selection: the last state that matched, at the present revision.
        assert change.old_raw is not None
        last = orjson.loads(change.old_raw)
        last["metadata"]["resourceVersion"] = str(change.revision)
        return Seen("DELETED", orjson.dumps(last), change.revision)

    def close(self) -> None:
        """No more changes; the reader comes to the end of what is queued."""
        self._hub.discard(self)
        self._closed = True
        self._news.set()

    async def events(self, timeout: float, idle: float) -> AsyncIterator[list[Seen]]:
        """The events, some at a time, and none whenever ``idle`` seconds passed without one.

        Args:
            timeout: seconds until the watch ends.
            idle: seconds.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + timeout
        while (left := deadline - loop.time()) > 0:
            if not self._waiting:
                if self._closed:
                    return
                self._news.clear()
                try:
                    async with asyncio.timeout(min(left, idle)):
                        await self._news.wait()
                except TimeoutError:
                    if idle < left:
                        yield []
                    continue
            some = [self._waiting.popleft() for _ in range(min(len(self._waiting), _AT_ONCE))]
            if some:
                yield some
