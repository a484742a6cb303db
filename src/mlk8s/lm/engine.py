"""The loop that serves: it keeps the batch full, runs one step after the other, hands out tokens.

All state is changed on the event loop's thread; only the forward pass runs in another one, so that
the server answers probes meanwhile. No lock is needed.

Bounds: a request reserves the KV cache of its whole possible length before it starts, so a started
request never runs out of memory and is never preempted (vLLM grows by a block and preempts). One
that finds the cache or the batch full waits; where too many wait, :class:`QueueFull` refuses it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mlk8s.errors import UsageError
from mlk8s.lm.batching import STATIC_WAIT_S, Kind, batcher
from mlk8s.lm.runner import Generation, ModelRunner, Sampling
from mlk8s.lm.serving_metrics import Metrics
from mlk8s.lm.text_stream import TextStream


class TooLong(UsageError):
    """Prompt and answer together are longer than the context."""


class QueueFull(UsageError):
    """So many requests run or wait that another one is refused."""


class Stopped(UsageError):
    """The engine does not run any more: KServe has unloaded the model."""


@dataclass(frozen=True)
class Piece:
    """What one token adds to an answer.

    Attributes:
        text: may be empty: part of a character, or text held back for a stop text.
        reason: why the answer ends here: ``stop`` (end-of-text token or a stop text), ``length``
            (``max_tokens``), ``abort`` (the engine was stopped); ``None`` where it goes on.
    """

    text: str
    reason: str | None = None


class Job:
    """One request: a generation, its text, and who waits for it."""

    def __init__(self, generation: Generation, text: TextStream) -> None:
        self.generation = generation
        self.text = text
        self.arrived = time.monotonic()
        self.pieces: asyncio.Queue[Piece] = asyncio.Queue()
        self.ended = False
        self.reason = "abort"
        self.first_at = 0.0
        self.last_at = 0.0


class Engine:
    """Serves requests with one model.

    Args:
        runner: the model.
        metrics: what is counted.
        kind: how requests share the model.
        max_batch_size: requests that run together at most; ``none`` runs one.
        max_waiting: requests beyond a full batch that may wait.
        static_wait_s: see :class:`~mlk8s.lm.batching.StaticBatcher`.
    """

    def __init__(
        self,
        runner: ModelRunner,
        metrics: Metrics,
        *,
        kind: Kind = Kind.CONTINUOUS,
        max_batch_size: int = 8,
        max_waiting: int = 64,
        static_wait_s: float = STATIC_WAIT_S,
    ) -> None:
        self.runner = runner
        self._metrics = metrics
        self._max_waiting = max_waiting
        self._batch = batcher(kind, max_batch_size, self._reserve, static_wait_s)
        self._changed = asyncio.Event()
        self._stopping = False
        metrics.cache_bytes.set(runner.cache.nbytes)
        metrics.cache_token_bytes.set(runner.cache.token_bytes)

    def submit(self, prompt: Sequence[int], sampling: Sampling) -> Job:
        """Queue a request; :meth:`pieces` gives its answer.

        Raises:
            TooLong: prompt and ``max_tokens`` together exceed the context.
            QueueFull: too many requests run or wait.
            Stopped: the engine has been stopped.
        """
        if self._stopping:
            raise Stopped("The model has been unloaded.", "start the server again.")
        limit = self.runner.max_model_len
        generation = Generation(prompt, sampling)
        if generation.most > limit:
            raise TooLong(
                f"The context is {limit} tokens, and the request wants {generation.most}: "
                f"{len(prompt)} of the prompt and {sampling.max_tokens} of max_tokens.",
                "shorten the prompt or lower max_tokens.",
            )
        # A burst that finds the batch empty waits for the next step only: free places count.
        held = len(self._batch.running) + len(self._batch.waiting)
        if held >= self._batch.size + self._max_waiting:
            raise QueueFull(
                f"{held} requests run or wait already, the most that this server takes on.",
                "try again later, or add replicas.",
            )
        text = TextStream(self.runner.tokenizer.backend_tokenizer, sampling.stop)
        job = Job(generation, text)
        self._batch.waiting.append(job)
        self._changed.set()
        self._gauge()
        return job

    async def pieces(self, job: Job) -> AsyncGenerator[Piece, None]:
        """The answer as it grows; leaving the iterator early takes the request out of the batch."""
        try:
            while True:
                piece = await job.pieces.get()
                yield piece
                if piece.reason:
                    return
        finally:
            self.leave(job)

    def leave(self, job: Job) -> None:
        """Its client has gone: take a request that has not ended out before the next step."""
        if not job.ended:
            job.ended = True
            self._changed.set()

    def stop(self) -> None:
        """Have :meth:`run` return after the current step, and end what has no answer yet."""
        self._stopping = True
        self._changed.set()

    async def run(self) -> None:
        """Serve until :meth:`stop`. An error of the model ends it, and with it the server."""
        try:
            with ThreadPoolExecutor(1, thread_name_prefix="model") as thread:
                while not self._stopping:
                    self._let_go()
                    joined = self._batch.admit(time.monotonic())
                    self._gauge()
                    if not self._batch.running:
                        await self._wait()
                        continue
                    if joined:
                        await self._prefill(joined, thread)
                    await self._decode(thread)
        finally:
            self._stopping = True
            self._let_go()
            for job in (*self._batch.running, *self._batch.waiting):
                self.runner.end(job.generation)
                job.ended = True
                job.pieces.put_nowait(Piece("", job.reason))

    async def _wait(self) -> None:
        """Until a request comes or goes, or a static batch has waited enough."""
        self._changed.clear()
        delay = self._batch.delay(time.monotonic())
        try:
            await asyncio.wait_for(self._changed.wait(), delay)
        except TimeoutError:
            return

    async def _prefill(self, joined: list[Job], thread: ThreadPoolExecutor) -> None:
        now = time.monotonic()
        for job in joined:
            self._metrics.queued.observe(now - job.arrived)
            self._metrics.prompt_tokens.inc(len(job.generation.prompt))
        generations = [job.generation for job in joined]
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(thread, self.runner.prefill, generations)
        self._hand_out(joined, tokens)

    async def _decode(self, thread: ThreadPoolExecutor) -> None:
        going = [job for job in self._batch.running if not job.ended]
        if not going:
            return
        rows = self._batch.rows()
        self._metrics.decode_steps.inc()
        self._metrics.decode_rows.inc(rows)
        generations = [job.generation for job in going]
        loop = asyncio.get_running_loop()
        tokens = await loop.run_in_executor(thread, self.runner.decode, generations, rows)
        self._hand_out(going, tokens)

    def _hand_out(self, jobs: list[Job], tokens: list[int]) -> None:
        """Give each request its new token, and see which ones end with it."""
        now = time.monotonic()
        for job, token in zip(jobs, tokens, strict=True):
            if job.ended:  # its client went during the step
                continue
            self._metrics.generation_tokens.inc()
            if job.generation.tokens:
                self._metrics.between_tokens.observe(now - job.last_at)
            else:
                job.first_at = now
                self._metrics.first_token.observe(now - job.arrived)
            job.last_at = now
            job.generation.tokens.append(token)
            sampling = job.generation.sampling
            text, stopped = job.text.push(token)
            if stopped or (token in self.runner.eos and not sampling.ignore_eos):
                job.ended, job.reason = True, "stop"
            elif len(job.generation.tokens) == sampling.max_tokens:
                job.ended, job.reason = True, "length"
            job.pieces.put_nowait(Piece(text))

    def _let_go(self) -> None:
        """End the requests that the batch releases, and drop those that left while they waited."""
        for job in self._batch.release():
            self.runner.end(job.generation)
            self._metrics.ended(job.reason)
            if job.reason == "abort":
                continue
            self._metrics.latency.observe(job.last_at - job.arrived)
            after_first = len(job.generation.tokens) - 1
            if after_first:
                self._metrics.per_token.observe((job.last_at - job.first_at) / after_first)
            job.pieces.put_nowait(Piece(job.text.close(), job.reason))
        for job in [job for job in self._batch.waiting if job.ended]:
            self._batch.waiting.remove(job)
            self._metrics.ended(job.reason)

    def _reserve(self, job: Job) -> bool:
        return self.runner.start(job.generation)

    def _gauge(self) -> None:
        self._metrics.running.set(len(self._batch.running))
        self._metrics.waiting.set(len(self._batch.waiting))
        cache = self.runner.cache
        self._metrics.cache_usage.set(cache.used_blocks / cache.blocks)
        generations = [job.generation for job in self._batch.running]
        self._metrics.cache_written.set(
            sum(len(g.prompt) + max(0, len(g.tokens) - 1) for g in generations if g.tokens)
        )
