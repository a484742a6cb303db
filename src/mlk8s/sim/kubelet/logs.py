"""What containers print: kept in a ring in memory, read the way ``kubectl logs`` asks for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime

from mlk8s.sim.status import Object, bad_request

# The kubelet rotates a container's log at 10 MiB; here the newest part of that size stays.
KEPT_BYTES = 10 * 1024 * 1024
# All containers together; beyond it each newly written one keeps only SQUEEZED_BYTES.
POOL_BYTES = 256 * 1024 * 1024
SQUEEZED_BYTES = 64 * 1024
# containerd cuts longer lines (its max_container_log_line_size).
LINE_BYTES = 16 * 1024
_COMPACT_AFTER = 1024


class LogPool:
    """How much the logs of one cluster hold together."""

    def __init__(self) -> None:
        self.size = 0


class LogBuffer:
    """The newest output of one run of a container, in pieces of whole lines.

    Args:
        pool: what it counts for.
    """

    def __init__(self, pool: LogPool) -> None:
        self._pool = pool
        self._pieces: list[tuple[float, bytes]] = []
        self._gone = 0  # pieces that stand in the list no more
        self._hidden = 0  # pieces at its front that are forgotten, but not yet removed
        self._partial = b""
        self.size = 0
        self.closed = False
        self._dropped = False
        self._followers: set[asyncio.Event] = set()

    def write(self, data: bytes, at: float) -> None:
        """Add output that was printed at a time (seconds since the epoch)."""
        data = self._partial + data
        whole, newline, self._partial = data.rpartition(b"\n")
        if len(self._partial) > LINE_BYTES:
            whole, newline, self._partial = data, b"", b""
        if whole or newline:
            self._add(whole + newline, at)

    def close(self, at: float) -> None:
        """Nothing more is coming."""
        if self._partial:
            self._add(self._partial, at)
            self._partial = b""
        self.closed = True
        self._wake()

    def drop(self) -> None:
        """Forget everything; a follower sees the end."""
        self._pool.size -= self.size
        self._gone += len(self._pieces)
        self._pieces, self._hidden, self.size = [], 0, 0
        self.closed = self._dropped = True
        self._wake()

    def _add(self, data: bytes, at: float) -> None:
        if self._dropped:
            return
        self._pieces.append((at, data))
        self.size += len(data)
        self._pool.size += len(data)
        kept = KEPT_BYTES if self._pool.size <= POOL_BYTES else SQUEEZED_BYTES
        while self.size > kept and self._hidden < len(self._pieces) - 1:
            lost = len(self._pieces[self._hidden][1])
            self._pieces[self._hidden] = (0.0, b"")
            self._hidden += 1
            self.size -= lost
            self._pool.size -= lost
        if self._hidden > _COMPACT_AFTER:
            del self._pieces[: self._hidden]
            self._gone += self._hidden
            self._hidden = 0
        self._wake()

    def _wake(self) -> None:
        for event in self._followers:
            event.set()

    def tail_start(self, lines: int) -> tuple[int, int]:
        """Where the last ``lines`` lines begin: a piece, and how many of its lines to skip."""
        found = 0
        for index in range(len(self._pieces) - 1, self._hidden - 1, -1):
            data = self._pieces[index][1]
            count = data.count(b"\n") + (not data.endswith(b"\n"))
            if found + count >= lines:
                return self._gone + index, found + count - lines
            found += count
        return self._gone + self._hidden, 0

    def last(self, lines: int, size: int) -> bytes:
        """The last lines, of at most ``size`` bytes together."""
        start, skip = self.tail_start(lines)
        data = b"".join(data for _, data in self._pieces[start - self._gone :])
        return b"".join(data.splitlines(keepends=True)[skip:])[-size:]

    async def read(
        self,
        *,
        follow: bool = False,
        tail: int | None = None,
        since: float | None = None,
        timestamps: bool = False,
    ) -> AsyncIterator[bytes]:
        """The output, piece by piece, up to its end or, with ``follow``, as it comes.

        A reader that is slower than the container loses what the ring has forgotten.
        """
        position, skip = (0, 0) if tail is None else self.tail_start(tail)
        event = asyncio.Event()
        self._followers.add(event)
        try:
            while True:
                event.clear()
                index = max(position - self._gone, self._hidden)
                while index < len(self._pieces):
                    at, data = self._pieces[index]
                    position = self._gone + index + 1
                    if data and (since is None or at >= since):
                        if skip:
                            data = b"".join(data.splitlines(keepends=True)[skip:])
                        if data:
                            yield _stamped(data, at) if timestamps else data
                    skip = 0
                    index = max(position - self._gone, self._hidden)
                if not follow or self.closed:
                    return
                await event.wait()
        finally:
            self._followers.discard(event)


def _stamped(data: bytes, at: float) -> bytes:
    moment = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f000Z ").encode()
    return b"".join(moment + line for line in data.splitlines(keepends=True))


async def nothing() -> AsyncIterator[bytes]:
    """An empty log."""
    return
    yield b""


def of_lines(lines: Sequence[str], tail: int | None, limit: int | None) -> AsyncIterator[bytes]:
    """A log that is known as lines, as that of an operand is."""
    shown = lines if tail is None else lines[max(len(lines) - tail, 0) :]

    async def chunks() -> AsyncIterator[bytes]:
        yield "".join(f"{line}\n" for line in shown).encode()

    return limited(chunks(), limit)


async def limited(chunks: AsyncIterator[bytes], limit: int | None) -> AsyncIterator[bytes]:
    """The first ``limit`` bytes of a log."""
    left = limit
    async for chunk in chunks:
        if left is None:
            yield chunk
            continue
        if left > 0:
            yield chunk[:left]
        left -= len(chunk)
        if left <= 0:
            return


def choose_container(pod: Object, name: str) -> str:
    """The container that a request means.

    Raises:
        StatusError: 400; the messages are those of ``pkg/registry/core/pod/strategy.go``.
    """
    spec = pod["spec"]
    pod_name = pod["metadata"]["name"]
    regular = [each["name"] for each in spec.get("containers") or ()]
    init = [each["name"] for each in spec.get("initContainers") or ()]
    ephemeral = [each["name"] for each in spec.get("ephemeralContainers") or ()]
    if name:
        if name not in [*regular, *init, *ephemeral]:
            raise bad_request(f"container {name} is not valid for pod {pod_name}")
        return name
    if len(regular) == 1:
        return str(regular[0])
    text = (
        f"a container name must be specified for pod {pod_name}, choose one of: "
        f"[{' '.join(regular)}]"
    )
    if init:
        text += f" or one of the init containers: [{' '.join(init)}]"
    if ephemeral:
        text += f" or one of the ephemeral containers: [{' '.join(ephemeral)}]"
    raise bad_request(text)


def readable_run(pod: Object, name: str, previous: bool) -> str:
    """The container ID whose log is asked for.

    Raises:
        StatusError: 400; the cases and messages are those of ``validateContainerLogStatus``
            (``pkg/kubelet/kubelet_pods.go``).
    """
    status = pod.get("status") or {}
    where = f'container "{name}" in pod "{pod["metadata"]["name"]}"'
    found: Object | None = None
    for group in ("containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"):
        for each in status.get(group) or ():
            if each["name"] == name:
                found = each
    if found is None:
        raise bad_request(f"{where} is not available")
    state = found.get("state") or {}
    last = ((found.get("lastState") or {}).get("terminated") or {}).get("containerID", "")
    if previous:
        if not last:
            raise bad_request(f"previous terminated {where} not found")
        return str(last)
    if "running" in state:
        return str(found["containerID"])
    if "terminated" in state:
        run = state["terminated"].get("containerID") or last
        if not run:
            raise bad_request(f"{where} is terminated")
        return str(run)
    if last:
        return str(last)
    if "waiting" in state:
        reason = state["waiting"].get("reason", "")
        if reason == "ErrImagePull":
            raise bad_request(f"{where} is waiting to start: image can't be pulled")
        if reason == "ImagePullBackOff":
            raise bad_request(f"{where} is waiting to start: trying and failing to pull image")
        raise bad_request(f"{where} is waiting to start: {reason}")
    raise bad_request(f"{where} is waiting to start - no logs yet")
