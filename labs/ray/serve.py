#!/usr/bin/env python3
"""The model of chapter 7 behind Ray Serve: dynamic batches, replicas on demand, many models.

Requests and answers are those of OpenAI's completions, with the paths of KServe
(/openai/v1/completions), so that one load generator, mlk8s.lm.load, measures both. The model's
steps are those of the KServe server as well (mlk8s.lm.runner); what differs is who makes a batch:
here @serve.batch, which fills it once and ends it with its longest request.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import socket
import sys
import threading
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from ray import serve

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.provenance import Table

HOW = """\
  ./serve.py --model manifest=tuned                  # measure with 1, 2, 4 and 8 clients
  ./serve.py --model manifest=tuned --max-batch 1    # the same without batches
  ./serve.py --model manifest=tuned --max-replicas 2 # replicas come with the load, and go
  ./serve.py --model a=tuned-a --model b=tuned-b     # two models, loaded where they are asked for
  ./serve.py --model manifest=tuned --stay           # serve until Ctrl-C, on --port

Serve fills a batch for --wait-ms and then queues it, whether or not one is under way. A wait that
is short beside the time of a batch therefore gives small batches; see the column "mean batch":
  ./serve.py --model manifest=tuned --wait-ms 150

Beside KServe's: python -m mlk8s.lm.load URL measures any server with these paths.
"""
ROUTE = "/openai/v1"
#: Replicas are added when more requests than this run on each, on average.
TARGET = 4
#: Columns of a load's table that say nothing here.
SKIPPED = ("loop", "offered [1/s]", "latency p99 [ms]")


def options() -> argparse.ArgumentParser:
    """What the command line takes."""
    parser = argparse.ArgumentParser(
        description="Serve the course's model with Ray Serve, and measure it.",
        epilog=HOW,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--model", action="append", required=True, metavar="NAME=FOLDER", help="may be repeated")
    add("--max-batch", type=int, default=8, help="requests of a batch (default 8)")
    add("--wait-ms", type=float, default=20, help="a batch waits so long to fill (default 20)")
    add("--max-replicas", type=int, default=1, help="with more than 1 they are scaled (default 1)")
    add("--clients", type=int, nargs="+", default=[1, 2, 4, 8], help="default: 1 2 4 8")
    add("--seconds", type=float, default=5, help="of each number of clients (default 5)")
    add("--port", type=int, default=0, help="default: a free one")
    add("--stay", action="store_true", help="do not measure; serve until Ctrl-C")
    return parser


@dataclass
class Job:
    """A request in a batch.

    Attributes:
        runner: of its model.
        generation: what is generated for it.
        left: nobody reads it any more.
    """

    runner: Any
    generation: Any
    left: bool = False

    @property
    def going(self) -> bool:
        """Whether it needs another token."""
        made, sampling = self.generation.tokens, self.generation.sampling
        ended = made and not sampling.ignore_eos and made[-1] in self.runner.eos
        return not self.left and not ended and len(made) < sampling.max_tokens


class Completions:
    """One replica: it holds models, makes batches of requests and streams tokens.

    Args:
        folders: of the models, by name; the first is the default of a list of models.
        max_batch: requests of a batch.
        wait_s: how long the first request of a batch waits for others, s.
        device: ``cpu`` or ``cuda``.
    """

    def __init__(
        self, folders: Mapping[str, str], max_batch: int, wait_s: float, device: str
    ) -> None:
        import torch

        torch.set_num_threads(1)
        self.folders = dict(folders)
        self.max_batch = max_batch
        self.device = device
        self.batches: list[int] = []
        # The sizes are known only now; Serve lets them be set on the method.
        self.step.set_max_batch_size(max_batch)
        self.step.set_batch_wait_timeout_s(wait_s)

    @serve.multiplexed(max_num_models_per_replica=2)
    async def runner(self, name: str) -> Any:
        """The model of this name, loaded when it is first asked for."""
        from mlk8s.lm.runner import ModelRunner, warm_up

        def load() -> ModelRunner:
            folder = Path(self.folders[name])
            made = ModelRunner(folder, max_batch_size=self.max_batch, device=self.device)
            warm_up(made)
            return made

        return await asyncio.get_running_loop().run_in_executor(None, load)

    @serve.batch(max_batch_size=8, batch_wait_timeout_s=0.02)
    async def step(self, jobs: list[Job]) -> AsyncIterator[list[Any]]:
        """Generate for a batch; each turn gives every request its next token.

        Args:
            jobs: of one model; Serve makes no batch of several.
        """
        runner = jobs[0].runner
        self.batches.append(len(jobs))
        loop = asyncio.get_running_loop()
        for job in jobs:
            # The pool has room for a full batch of the longest requests.
            runner.start(job.generation)
        try:
            going = jobs
            advance: Any = runner.prefill
            while going:
                generations = [job.generation for job in going]
                tokens = await loop.run_in_executor(None, advance, generations)
                for generation, token in zip(generations, tokens, strict=True):
                    generation.tokens.append(token)
                # StopIteration ends the answer of a request that was complete before.
                yield [job.generation.tokens[-1] if job in going else StopIteration for job in jobs]
                going = [job for job in going if job.going]
                # Its row stays in the batch, and costs what it cost.
                advance = partial(runner.decode, rows=len(jobs))
        finally:
            for job in jobs:
                runner.end(job.generation)

    async def complete(self, name: str, body: dict[str, Any]) -> AsyncIterator[bytes]:
        """The answer to a request, as server-sent events.

        Args:
            name: of the model.
            body: of the request, checked.
        """
        from mlk8s.lm.completions import CompletionRequest
        from mlk8s.lm.runner import Generation
        from mlk8s.lm.text_stream import TextStream

        request = CompletionRequest.model_validate(body)
        runner = await self.runner(name)
        sampling = request.sampling()
        prompt = request.prompt
        tokens = runner.encode(prompt) if isinstance(prompt, str) else prompt
        generation = Generation(tokens, sampling)
        if not tokens or generation.most > runner.max_model_len:
            message = (
                f"The context is {runner.max_model_len} tokens, and the request has {len(tokens)} "
                f"in its prompt, at least 1, and wants {sampling.max_tokens}."
            )
            yield _event({"error": {"message": message}})
            return
        head = {"id": f"cmpl-{id(generation):x}", "object": "text_completion", "model": name}
        text = TextStream(runner.tokenizer.backend_tokenizer, sampling.stop)
        job, reason = Job(runner, generation), "length"
        try:
            async with aclosing(self.step(job)) as made:
                async for token in made:
                    piece, stopped = text.push(token)
                    yield _event({**head, "choices": [_choice(piece, None)]})
                    if stopped or (token in runner.eos and not sampling.ignore_eos):
                        reason = "stop"
                        break
        finally:
            # Also where the client has closed the connection.
            job.left = True
        yield _event({**head, "choices": [_choice(text.close(), reason)]})
        if request.stream and request.stream_options and request.stream_options.include_usage:
            usage = {"prompt_tokens": len(tokens), "completion_tokens": len(generation.tokens)}
            yield _event({**head, "choices": [], "usage": usage})
        yield b"data: [DONE]\n\n"

    async def sizes(self) -> list[int]:
        """How many requests each batch of this replica had."""
        return self.batches


class Door:
    """Takes HTTP requests, checks them, and passes them on to a replica that holds the model.

    Args:
        models: handle of :class:`Completions`.
        names: of the models.
    """

    def __init__(self, models: Any, names: Sequence[str]) -> None:
        self.models = models
        self.names = list(names)

    async def __call__(self, request: Any) -> Any:
        """Answer one request."""
        from pydantic import ValidationError
        from starlette.responses import JSONResponse, StreamingResponse

        from mlk8s.lm.completions import CompletionRequest

        path = request.url.path
        if path == f"{ROUTE}/models":
            data = [{"id": name, "object": "model"} for name in self.names]
            return JSONResponse({"object": "list", "data": data})
        if path != f"{ROUTE}/completions" or request.method != "POST":
            return _refused(404, f"There is no {request.method} {path} here.")
        try:
            body = CompletionRequest.model_validate_json(await request.body())
        except ValidationError as error:
            first = error.errors(include_url=False, include_context=False)[0]
            return _refused(400, f"{'.'.join(map(str, first['loc']))}: {first['msg']}.")
        if body.model not in self.names:
            return _refused(404, f"The model {body.model!r} is not served; {self.names} are.")
        to = self.models.options(stream=True, multiplexed_model_id=body.model)
        events = to.complete.remote(body.model, body.model_dump())
        if body.stream:
            return StreamingResponse(events, media_type="text/event-stream")
        parts = [json.loads(event[6:]) async for event in events if b"[DONE]" not in event[:12]]
        if "error" in parts[-1]:
            return JSONResponse(parts[-1], status_code=400)
        text = "".join(part["choices"][0]["text"] for part in parts)
        parts[-1]["choices"][0]["text"] = text
        return JSONResponse(parts[-1])


def _choice(text: str, reason: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _refused(status: int, message: str) -> Any:
    from starlette.responses import JSONResponse

    return JSONResponse({"error": {"message": message}}, status_code=status)


@contextmanager
def served(
    models: Mapping[str, Path],
    *,
    max_batch: int = 8,
    wait_ms: float = 20,
    max_replicas: int = 1,
    port: int = 0,
    gpus: float = 0,
) -> Iterator[Any]:
    """Serve on the Ray that runs, until the end of the block.

    Args:
        models: folders as ``Model.save`` writes them, by name.
        max_batch: requests of a batch.
        wait_ms: how long the first request of a batch waits for others.
        max_replicas: with more than 1 Serve adds replicas with the load, and takes them away.
        port: on this machine alone; 0 takes a free one.
        gpus: of each replica; with 0 it computes on the processor.

    Yields:
        The target for :func:`mlk8s.lm.load.closed`.

    Raises:
        UsageError: a folder holds no model, or something is served already.
        Mlk8sError: the application does not become healthy.
    """
    from mlk8s.lm.load_client import Target
    from mlk8s.lm.runner import check_folder

    for folder in models.values():
        check_folder(folder)
    # Importing Serve sets it.
    logging.getLogger("ray.serve").setLevel(logging.ERROR)
    if serve.status().applications:
        raise UsageError("Serve serves already on this Ray.", "leave the other block first.")
    quiet = {"log_level": "ERROR", "enable_access_log": False}
    scaling = {
        "min_replicas": 1,
        "max_replicas": max_replicas,
        "target_ongoing_requests": TARGET,
        "upscale_delay_s": 1,
        "downscale_delay_s": 3,
        "metrics_interval_s": 0.5,
        "look_back_period_s": 1,
    }
    folders = {name: str(folder.resolve()) for name, folder in models.items()}
    replicas = serve.deployment(
        max_ongoing_requests=64,
        ray_actor_options={"num_cpus": 0.5, "num_gpus": gpus},
        logging_config=quiet,
        autoscaling_config=scaling,
    )(Completions)
    door = serve.deployment(ray_actor_options={"num_cpus": 0}, logging_config=quiet)(Door)
    listens = port or _free_port()
    http = {"host": "127.0.0.1", "port": listens}
    try:
        serve.start(proxy_location="HeadOnly", http_options=http, logging_config=quiet)
        model = replicas.bind(folders, max_batch, wait_ms / 1000, "cuda" if gpus else "cpu")
        serve.run(door.bind(model, list(models)), name="lm", route_prefix="/")
    except RuntimeError as error:
        serve.shutdown()
        raise Mlk8sError(
            f"Serve did not start: {str(error).strip().splitlines()[-1]}",
            "see whether the port is free and the machine has memory to spare.",
        ) from error
    target = Target(f"http://127.0.0.1:{listens}", next(iter(models)))
    try:
        # Loads the first model, so that the first client does not wait for it.
        answer(target, "kind:", max_tokens=1)
        yield target
    finally:
        serve.shutdown()


def answer(target: Any, prompt: str, *, max_tokens: int = 64) -> dict[str, Any]:
    """Ask for a completion, greedily, and give the whole answer.

    Args:
        target: of :func:`served`; its model is asked.
        prompt: what the model is to continue.
        max_tokens: of the answer.

    Raises:
        Mlk8sError: the server refuses.
    """
    body = {"model": target.model, "prompt": prompt, "max_tokens": max_tokens, "temperature": 0}
    url = f"{target.base_url}{ROUTE}/completions"
    request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    try:
        with urlopen(request, timeout=target.timeout_s) as response:
            found: dict[str, Any] = json.load(response)
    except HTTPError as error:
        said = json.loads(error.read())["error"]["message"]
        raise Mlk8sError(
            f"The server answers {error.code}: {said}", "correct the request."
        ) from error
    return found


def _free_port() -> int:
    with socket.socket() as trial:
        trial.bind(("127.0.0.1", 0))
        found: int = trial.getsockname()[1]
    return found


def replicas() -> int:
    """Replicas of the model that run now."""
    states = serve.status().applications["lm"].deployments["Completions"].replica_states
    return sum(count for state, count in states.items() if str(state).endswith("RUNNING"))


def batches() -> list[int]:
    """Sizes of the batches that a replica made; with one replica, all of them."""

    def ask() -> list[int]:
        handle = serve.get_deployment_handle("Completions", app_name="lm")
        found: list[int] = handle.sizes.remote().result(timeout_s=60)
        return found

    # Serve refuses to wait in a thread that runs an event loop, as a notebook's does.
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(ask).result()


@contextmanager
def replicas_watched(every_s: float = 0.2) -> Iterator[list[int]]:
    """Note how many replicas run while the block does; complete when it is left."""
    found, done = [replicas()], threading.Event()

    def watch() -> None:
        while not done.wait(every_s):
            found.append(replicas())

    watcher = threading.Thread(target=watch, name="replicas", daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()


def measure(target: Any, clients: Sequence[int], seconds: float) -> Table:
    """The curve of latency and throughput, with the batches that Serve made at each point.

    Args:
        target: of :func:`served`.
        clients: one run for each number.
        seconds: of each run.

    Raises:
        UsageError: see :func:`mlk8s.lm.load.closed`.
    """
    from mlk8s.lm import load

    rows = []
    for number in clients:
        before = len(batches())
        with replicas_watched() as seen:
            found = load.closed(target, clients=[number], seconds=seconds).table()[0]
        sizes = batches()[before:]
        rows.append(
            {
                **{name: value for name, value in found.items() if name not in SKIPPED},
                "mean batch": round(sum(sizes) / len(sizes), 2) if sizes else None,
                "replicas": max(seen),
            }
        )
    origin = raylocal.provenance(load.METHOD, "torch", "transformers", "aiohttp")
    return Table(rows, origin, title="Latency and throughput by load")


def main() -> int:
    """The command."""
    chosen = options().parse_args()
    models = {}
    try:
        for text in chosen.model:
            name, equals, folder = text.partition("=")
            if not (name and equals and folder):
                raise UsageError(f"--model {text} has no name.", "write it as NAME=FOLDER.")
            models[name] = Path(folder)
        with (
            raylocal.running(cpus=max(2, -(-chosen.max_replicas // 2))),
            served(
                models,
                max_batch=chosen.max_batch,
                wait_ms=chosen.wait_ms,
                max_replicas=chosen.max_replicas,
                port=chosen.port,
            ) as target,
        ):
            if chosen.stay:
                print(
                    f"{', '.join(models)} at {target.base_url}{ROUTE}; Ctrl-C ends it", flush=True
                )
                threading.Event().wait()
            print(measure(target, chosen.clients, chosen.seconds))
    except Mlk8sError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; Ray has been stopped", file=sys.stderr)
        return 0 if chosen.stay else 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
