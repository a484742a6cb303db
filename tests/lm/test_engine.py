"""The model, its memory and the loop that serves, in this process: what is batched changes nothing.

The model is real (random weights), the reference is transformers' own generation.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from mlk8s.errors import UsageError
from mlk8s.lm.batching import Kind
from mlk8s.lm.completions import collect
from mlk8s.lm.engine import Engine, QueueFull, Stopped, TooLong
from mlk8s.lm.kv_cache import BLOCK_TOKENS
from mlk8s.lm.runner import Generation, ModelRunner, Sampling, warm_up
from mlk8s.lm.serving_metrics import Metrics
from tests.lm import random_model

PROMPTS = ("kind: Job", "apiVersion: v1\n" * 5, "é", "name", "metadata:\n  name: x", "Job Job")
LENGTHS = (40, 7, 25, 1, 33, 12)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model.save(tmp_path_factory.mktemp("model"))


@pytest.fixture(scope="module")
def runner(folder: Path) -> ModelRunner:
    import torch

    torch.set_num_threads(1)
    found = ModelRunner(folder, max_batch_size=8)
    warm_up(found)
    return found


@pytest.fixture
def serve(runner: ModelRunner) -> Callable[..., Any]:
    """Run what a function makes of an engine, with the engine's loop beside it."""

    def run(
        work: Callable[[Engine], Coroutine[Any, Any, Any]], model: ModelRunner = runner, **how: Any
    ) -> Any:
        async def both() -> Any:
            engine = Engine(model, Metrics("m", CollectorRegistry()), **how)
            loop = asyncio.create_task(engine.run())
            try:
                return await asyncio.wait_for(work(engine), 60)
            finally:
                engine.stop()
                await loop
                assert model.cache.used_blocks == 0, "all memory is given back"

        return asyncio.run(both())

    return run


def alone(runner: ModelRunner, prompt: str, length: int) -> list[int]:
    """What transformers generates, greedily, without a batch and with its own cache."""
    import torch

    tokens = runner.encode(prompt)
    found = runner.model.generate(
        torch.tensor([tokens]),
        attention_mask=torch.ones(1, len(tokens), dtype=torch.long),
        max_new_tokens=length,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
    )
    new: list[int] = found[0, len(tokens) :].tolist()
    return new


async def tokens_of(engine: Engine, prompt: str, length: int) -> list[int]:
    sampling = Sampling(length, 0.0, ignore_eos=True)
    job = engine.submit(engine.runner.encode(prompt), sampling)
    await collect(engine, job)
    return job.generation.tokens


@pytest.mark.parametrize("kind", list(Kind))
def test_greedy_answers_are_the_same_whatever_is_in_the_batch(
    kind: Kind, runner: ModelRunner, serve: Callable[..., Any]
) -> None:
    # Fewer places than requests, so that they join a batch whose others are under way.
    async def all_at_once(engine: Engine) -> list[list[int]]:
        asked = zip(PROMPTS, LENGTHS, strict=True)
        return await asyncio.gather(*(tokens_of(engine, *each) for each in asked))

    found = serve(all_at_once, kind=kind, max_batch_size=3)
    expected = [alone(runner, *each) for each in zip(PROMPTS, LENGTHS, strict=True)]
    assert found == expected
    assert len(set(expected[0])) > 10, "an answer of one repeated token would prove nothing"


def test_a_seed_gives_the_same_sample_among_any_neighbors(serve: Callable[..., Any]) -> None:
    async def sampled(engine: Engine, neighbors: int) -> list[int]:
        seeds = [7, *range(neighbors)]
        jobs = [engine.submit(engine.runner.encode("kind"), Sampling(20, 1.0, s)) for s in seeds]
        await asyncio.gather(*(collect(engine, job) for job in jobs))
        return jobs[0].generation.tokens

    first = serve(lambda engine: sampled(engine, 0))
    assert serve(lambda engine: sampled(engine, 4)) == first
    other = serve(lambda engine: sampled(engine, 0), kind=Kind.NONE)
    assert other == first


def test_a_temperature_near_zero_takes_the_likeliest_token(
    runner: ModelRunner, serve: Callable[..., Any]
) -> None:
    async def cold(engine: Engine) -> list[int]:
        job = engine.submit(runner.encode("kind"), Sampling(9, 1e-300, ignore_eos=True))
        await collect(engine, job)
        return job.generation.tokens

    assert serve(cold) == alone(runner, "kind", 9)


def test_stopping_ends_what_has_no_answer(serve: Callable[..., Any]) -> None:
    async def stop(engine: Engine) -> list[str | None]:
        jobs = [engine.submit([5], Sampling(200, 0.0, ignore_eos=True)) for _ in ("runs", "waits")]
        async for _ in (pieces := engine.pieces(jobs[0])):
            engine.stop()
            break
        reasons = [piece.reason async for piece in pieces][-1:]
        with pytest.raises(Stopped, match="before the answer was complete"):
            await collect(engine, jobs[1])
        with pytest.raises(Stopped, match="has been unloaded"):
            engine.submit([5], Sampling(1))
        return reasons

    assert serve(stop, max_batch_size=1) == ["abort"]


@pytest.mark.parametrize(("kind", "first"), [(Kind.CONTINUOUS, "short"), (Kind.STATIC, "long")])
def test_who_is_answered_first(kind: Kind, first: str, serve: Callable[..., Any]) -> None:
    async def overtaking(engine: Engine) -> list[str]:
        order: list[str] = []
        started = asyncio.Event()

        async def long() -> None:
            job = engine.submit(engine.runner.encode("kind"), Sampling(120, 0.0, ignore_eos=True))
            async for _ in engine.pieces(job):
                started.set()
            order.append("long")

        async def short() -> None:
            await started.wait()  # the batch is running
            await tokens_of(engine, "name", 2)
            order.append("short")

        await asyncio.gather(long(), short())
        return order

    assert serve(overtaking, kind=kind)[0] == first


def test_static_answers_are_complete_together(serve: Callable[..., Any]) -> None:
    async def ends(engine: Engine) -> int:
        """Pieces that the long request had when the short one was complete."""
        seen = 0
        jobs = [
            engine.submit(engine.runner.encode("kind"), Sampling(n, 0.0, ignore_eos=True))
            for n in (2, 30)
        ]

        async def long() -> None:
            nonlocal seen
            async for _ in engine.pieces(jobs[1]):
                seen += 1

        async def short() -> int:
            await collect(engine, jobs[0])
            return seen

        _, at = await asyncio.gather(long(), short())
        return at

    assert serve(ends, kind=Kind.STATIC) >= 29
    assert serve(ends, kind=Kind.CONTINUOUS) < 10


def test_a_request_that_is_left_frees_its_place(serve: Callable[..., Any]) -> None:
    async def leave(engine: Engine) -> None:
        jobs = [
            engine.submit(engine.runner.encode("kind"), Sampling(200, 0.0, ignore_eos=True))
            for _ in range(2)
        ]
        pieces = [engine.pieces(job) for job in jobs]
        await anext(pieces[0])
        await pieces[0].aclose()  # running
        engine.leave(jobs[1])  # waiting
        assert len(await tokens_of(engine, "name", 3)) == 3
        assert all(len(job.generation.tokens) < 200 for job in jobs)

    serve(leave, max_batch_size=1)


def test_bounds(folder: Path, serve: Callable[..., Any]) -> None:
    small = ModelRunner(folder, max_model_len=64, kv_cache_tokens=64)

    async def refused(engine: Engine) -> None:
        with pytest.raises(TooLong, match=r"context is 64 tokens.*wants 65: 1 of the prompt"):
            engine.submit([5], Sampling(64))
        # Each may come to more than half of the cache: they run one after the other.
        jobs = [engine.submit([5], Sampling(40, 0.0, ignore_eos=True)) for _ in range(2)]
        with pytest.raises(QueueFull, match="2 requests run or wait already"):
            engine.submit([5], Sampling(1))
        await asyncio.gather(*(collect(engine, job) for job in jobs))
        assert jobs[1].first_at > jobs[0].last_at

    serve(refused, small, max_batch_size=2, max_waiting=0)


def test_the_cache_is_as_large_as_the_formula_says(runner: ModelRunner) -> None:
    heads, width, layers = random_model.HEADS, random_model.HEAD_DIM, random_model.LAYERS
    token = 2 * layers * heads * width * 4  # keys and values, float32
    assert runner.cache.token_bytes == token
    assert runner.cache.blocks * BLOCK_TOKENS == 8 * random_model.CONTEXT
    assert runner.cache.nbytes == token * (runner.cache.blocks + 1) * BLOCK_TOKENS


def test_the_end_token_and_a_stop_text_end_an_answer(
    runner: ModelRunner, serve: Callable[..., Any]
) -> None:
    async def reasons(engine: Engine) -> list[tuple[str, str | None]]:
        prompt = engine.runner.encode(PROMPTS[0])
        whole = await collect(engine, engine.submit(prompt, Sampling(40, 0.0, ignore_eos=True)))
        stop = whole[0][10:13]
        how = Sampling(40, 0.0, stop=(stop,), ignore_eos=True)
        return [whole, (stop, None), await collect(engine, engine.submit(prompt, how))]

    whole, (stop, _), stopped = serve(reasons)
    assert whole[1] == "length"
    assert stopped == (whole[0][: whole[0].index(stop)], "stop")

    first = alone(runner, PROMPTS[0], 5)
    before, runner.eos = runner.eos, frozenset({first[3]})
    try:
        assert serve(lambda e: reason_of(e, PROMPTS[0])) == ("stop", first[: first.index(first[3])])
    finally:
        runner.eos = before


async def reason_of(engine: Engine, prompt: str) -> tuple[str | None, list[int]]:
    job = engine.submit(engine.runner.encode(prompt), Sampling(40, 0.0))
    _, reason = await collect(engine, job)
    return reason, job.generation.tokens[:-1]


def test_a_pool_or_context_that_does_not_fit_the_model_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="more than the 256 positions"):
        ModelRunner(folder, max_model_len=257)
    with pytest.raises(UsageError, match="KV cache of 100 tokens cannot hold"):
        ModelRunner(folder, kv_cache_tokens=100)


def test_an_empty_answer_takes_no_block_of_another(runner: ModelRunner) -> None:
    """Rows that only fill up a batch write into the spare block."""
    kept = Generation(runner.encode("kind"), Sampling(9, 0.0))
    assert runner.start(kept)
    kept.tokens += runner.prefill([kept])
    while len(kept.tokens) < 9:
        kept.tokens += runner.decode([kept], 5)
    runner.end(kept)
    assert kept.tokens == alone(runner, "kind", 9)
