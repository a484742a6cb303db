"""Requests to a completions server under load: closed loop, open loop, and how long each took.

Only sending and timing: :mod:`mlk8s.lm.load` makes tables of it.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from mlk8s.errors import UsageError

if TYPE_CHECKING:
    import ssl

    import aiohttp

T = TypeVar("T")


@dataclass(frozen=True)
class Target:
    """Where requests go.

    Attributes:
        base_url: what stands before ``/openai/v1``; the path of a Kubernetes service through the
            API server's proxy is one.
        model: its name; ``None`` takes the first one that the server lists.
        headers: for every request, such as ``Authorization`` or ``Host``.
        tls: for ``https``; ``None`` checks certificates against the system's authorities.
        timeout_s: an answer that is not complete by then counts as an error, s.
    """

    base_url: str
    model: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Workload:
    """What is asked for. Request number i is the same in every run with the same seed.

    Attributes:
        prompts: taken in turn.
        max_tokens: lengths of answers; each request draws one. Answers have that length: the
            end-of-text token does not end them.
        seed: of the lengths and of the arrivals.
    """

    prompts: tuple[str, ...] = ("apiVersion: v1\nkind:",)
    max_tokens: tuple[int, ...] = (8, 16, 64)
    seed: int = 0

    def request(self, number: int) -> tuple[str, int]:
        """Prompt and length of a request."""
        drawn = random.Random(f"{self.seed}/{number}")
        return self.prompts[number % len(self.prompts)], drawn.choice(self.max_tokens)


@dataclass(frozen=True)
class Sample:
    """One request as its client saw it.

    Attributes:
        at_s: when it was due, from the start of the run, s. A closed loop's request is due when
            its client sends it; an open loop's at its arrival, however late it was sent.
        first_s: from then to the first token, s; ``None`` where none came.
        token_s: mean time of the tokens after the first, s; ``None`` where there was only one.
        latency_s: from when it was due to the end of the answer, s.
        tokens: of the answer, as the server counts them.
        error: why there is no complete answer, or ``None``.
    """

    at_s: float
    first_s: float | None
    token_s: float | None
    latency_s: float
    tokens: int
    error: str | None = None


@dataclass(frozen=True)
class Run:
    """All requests of one load level.

    Attributes:
        loop: ``closed`` or ``open``.
        offered: clients of a closed loop; requests a second of an open one.
        wall_s: from the first request to the end of the last answer, s.
        samples: in the order in which they were due.
    """

    loop: str
    offered: float
    wall_s: float
    samples: tuple[Sample, ...]


def run_to_end(work: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine, also in a notebook, whose own event loop is running.

    Raises:
        KeyboardInterrupt: on Ctrl-C, when all requests have been canceled.
    """
    loop = asyncio.new_event_loop()
    task = loop.create_task(work)
    try:
        with ThreadPoolExecutor(1, thread_name_prefix="load") as thread:
            future = thread.submit(loop.run_until_complete, task)
            try:
                return future.result()
            except KeyboardInterrupt:
                loop.call_soon_threadsafe(task.cancel)
                raise
    finally:
        loop.close()


async def model_of(target: Target) -> str:
    """The model's name, from the server where the target has none.

    Raises:
        UsageError: no such server answers.
    """
    import aiohttp

    url = f"{target.base_url.rstrip('/')}/openai/v1/models"
    try:
        async with _session(target) as session, session.get(url, **_tls(target)) as response:
            response.raise_for_status()
            listed = await response.json()
            return target.model or str(listed["data"][0]["id"])
    except (aiohttp.ClientError, TimeoutError, KeyError, IndexError, ValueError) as error:
        raise UsageError(
            f"{url} does not list a model: {type(error).__name__} {error}".rstrip() + ".",
            "start the server (python -m mlk8s.lm.serving --help), or correct the base URL.",
        ) from error


async def closed_loop(
    target: Target, model: str, workload: Workload, clients: int, seconds: float
) -> Run:
    """So many clients, each of which sends a request when its last one has been answered.

    Args:
        target: see :class:`Target`.
        model: its name.
        workload: see :class:`Workload`.
        clients: how many.
        seconds: how long new requests are sent, s.
    """
    samples: list[Sample] = []
    start = time.perf_counter()
    sent = 0

    async def client(session: aiohttp.ClientSession) -> None:
        nonlocal sent
        while (due := time.perf_counter()) - start < seconds:
            number, sent = sent, sent + 1
            samples.append(await _ask(session, target, model, workload, number, start, due))
            if samples[-1].error:
                await asyncio.sleep(0.05)  # a server that refuses at once is not to be flooded

    async with _session(target) as session, asyncio.TaskGroup() as group:
        for _ in range(clients):
            group.create_task(client(session))
    return _run("closed", clients, start, samples)


async def open_loop(
    target: Target, model: str, workload: Workload, rate: float, seconds: float
) -> Run:
    """Requests that arrive at random, whether or not earlier ones have been answered.

    Args:
        target: see :class:`Target`.
        model: its name.
        workload: see :class:`Workload`; its seed fixes the arrivals.
        rate: mean arrivals a second; the gaps are exponential, so arrivals are a Poisson process.
        seconds: how long requests arrive, s.
    """
    samples: list[Sample] = []
    gaps = random.Random(workload.seed)
    start = time.perf_counter()

    async def one(session: aiohttp.ClientSession, number: int, due: float) -> None:
        samples.append(await _ask(session, target, model, workload, number, start, due))

    async with _session(target) as session, asyncio.TaskGroup() as group:
        due, number = start + gaps.expovariate(rate), 0
        while due - start < seconds:
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            group.create_task(one(session, number, due))
            due, number = due + gaps.expovariate(rate), number + 1
    return _run("open", rate, start, samples)


def _run(loop: str, offered: float, start: float, samples: list[Sample]) -> Run:
    ordered = tuple(sorted(samples, key=lambda sample: sample.at_s))
    return Run(loop, offered, time.perf_counter() - start, ordered)


def _session(target: Target) -> aiohttp.ClientSession:
    import aiohttp

    return aiohttp.ClientSession(
        headers=target.headers,
        timeout=aiohttp.ClientTimeout(total=target.timeout_s),
        connector=aiohttp.TCPConnector(limit=0),
    )


def _tls(target: Target) -> dict[str, Any]:
    return {} if target.tls is None else {"ssl": target.tls}


async def _ask(
    session: aiohttp.ClientSession,
    target: Target,
    model: str,
    workload: Workload,
    number: int,
    start: float,
    due: float,
) -> Sample:
    """Send one request and time its tokens as they arrive."""
    import aiohttp

    prompt, length = workload.request(number)
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": length,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    url = f"{target.base_url.rstrip('/')}/openai/v1/completions"
    first = last = None
    tokens, error = 0, None
    try:
        async with session.post(url, json=body, **_tls(target)) as response:
            if response.status != 200:
                error = f"status {response.status}"
            done = False
            async for line in response.content:
                if error or not line.startswith(b"data: "):
                    continue
                data = line.removeprefix(b"data: ").strip()
                if data == b"[DONE]":
                    done = True
                    continue
                event = json.loads(data)
                if "error" in event:
                    error = str(event["error"]["message"])
                elif event.get("usage"):
                    tokens = int(event["usage"]["completion_tokens"])
                elif event["choices"] and event["choices"][0]["finish_reason"] is None:
                    last = time.perf_counter()
                    first = first or last
            if not error and not done:
                error = "the answer broke off"
    except (aiohttp.ClientError, TimeoutError, ValueError, KeyError) as problem:
        error = f"{type(problem).__name__} {problem}".strip()
    return Sample(
        due - start,
        None if first is None else first - due,
        (last - first) / (tokens - 1) if first and last and tokens > 1 else None,
        time.perf_counter() - due,
        tokens,
        error,
    )
