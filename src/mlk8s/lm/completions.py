"""OpenAI's completions over HTTP: what a request may hold, and the routes.

KServe serves them under ``/openai/v1`` (kserve 0.21, protocol/rest/openai/endpoints.py), with types
that it imports from vLLM, which needs a GPU. The same two routes are written here without it. A
field of OpenAI's that is not implemented is refused by name instead of being ignored.
"""

from __future__ import annotations

import asyncio
import json
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from starlette.background import BackgroundTask

from mlk8s.errors import Mlk8sError
from mlk8s.lm.engine import Engine, Job, QueueFull, Stopped, TooLong
from mlk8s.lm.runner import Sampling

#: Status of a request whose client closed the connection; nobody reads it (as nginx logs it).
CLIENT_CLOSED = 499
RETRY_AFTER_S = 1


class SamplingFields(BaseModel):
    """The fields that steer a generation; see :class:`~mlk8s.lm.runner.Sampling`."""

    model_config = ConfigDict(extra="forbid")

    max_tokens: Annotated[int, Field(ge=1)] = 16
    temperature: Annotated[float, Field(ge=0, le=2)] = 1.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] | None = None
    stop: str | Annotated[list[Annotated[str, Field(min_length=1)]], Field(max_length=4)] | None = (
        None
    )
    ignore_eos: bool = False

    def sampling(self) -> Sampling:
        """The same as the engine takes it."""
        stop = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return Sampling(
            self.max_tokens,
            self.temperature,
            self.seed,
            tuple(text for text in stop if text),
            self.ignore_eos,
        )


class StreamOptions(BaseModel):
    """OpenAI's ``stream_options``."""

    model_config = ConfigDict(extra="forbid")

    include_usage: bool = False


class CompletionRequest(SamplingFields):
    """The body of ``POST /openai/v1/completions``."""

    model: str
    prompt: str | Annotated[list[Annotated[int, Field(ge=0)]], Field(min_length=1)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: Literal[1] = 1
    user: str | None = None


def router(engine: Engine, model: str) -> APIRouter:
    """The routes for one model.

    Args:
        engine: answers.
        model: its name.
    """
    routes = APIRouter(prefix="/openai/v1", tags=["OpenAI"])
    started = int(time.time())

    @routes.get("/models")
    async def models() -> Response:
        card = {"id": model, "object": "model", "created": started, "owned_by": ""}
        card["max_model_len"] = engine.runner.max_model_len
        return JSONResponse({"object": "list", "data": [card]})

    @routes.post("/completions")
    async def completions(request: Request) -> Response:
        try:
            body = CompletionRequest.model_validate_json(await request.body())
        except ValidationError as error:
            return _invalid(error)
        if body.model != model:
            text = f"The model {body.model!r} is not served here; this server has {model!r}."
            return _error(404, text, "model", "model_not_found")
        tokens = engine.runner.encode(body.prompt) if isinstance(body.prompt, str) else body.prompt
        if not tokens:
            return _error(400, "The prompt has no tokens.", "prompt")
        if max(tokens) >= engine.runner.model.config.vocab_size:
            return _error(400, f"The vocabulary has no token {max(tokens)}.", "prompt")
        try:
            job = engine.submit(tokens, body.sampling())
        except TooLong as error:
            return _error(400, str(error), "prompt", "context_length_exceeded")
        except QueueFull as error:
            return _refused(error)
        except Stopped as error:
            return _error(503, str(error))
        answer = _Answer(engine, job, model)
        if body.stream:
            usage = bool(body.stream_options and body.stream_options.include_usage)
            # A client may go before the first event, when there is nothing yet to close.
            last = BackgroundTask(answer.leave)
            events = answer.events(usage)
            return StreamingResponse(events, media_type="text/event-stream", background=last)
        try:
            return await _unless_gone(request, answer)
        except Stopped as error:
            return _error(503, str(error))

    return routes


class _Answer:
    """One answer in OpenAI's forms."""

    def __init__(self, engine: Engine, job: Job, model: str) -> None:
        self._engine = engine
        self._job = job
        self._head = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }

    async def whole(self) -> dict[str, Any]:
        """The answer when it is complete."""
        text, reason = await collect(self._engine, self._job)
        return {**self._head, "choices": [_choice(text, reason)], "usage": self._usage()}

    async def events(self, usage: bool) -> AsyncIterator[bytes]:
        """Server-sent events: one for each token, one with the reason, the usage, ``[DONE]``.

        An answer that is broken off ends with an event that holds an error instead.
        """
        async with aclosing(self._engine.pieces(self._job)) as pieces:
            async for piece in pieces:
                if piece.reason == "abort":
                    yield _event({"error": _fault(str(broken_off()))})
                    return
                yield _event({**self._head, "choices": [_choice(piece.text, piece.reason)]})
        if usage:
            yield _event({**self._head, "choices": [], "usage": self._usage()})
        yield b"data: [DONE]\n\n"

    async def leave(self) -> None:
        """Nobody reads the answer from here on."""
        self._engine.leave(self._job)

    def _usage(self) -> dict[str, int]:
        prompt = len(self._job.generation.prompt)
        new = len(self._job.generation.tokens)
        return {
            "prompt_tokens": prompt,
            "completion_tokens": new,
            "total_tokens": prompt + new,
        }


def broken_off() -> Stopped:
    """What a client is told whose answer will not be completed."""
    return Stopped("The server stopped before the answer was complete.", "send the request again.")


async def collect(engine: Engine, job: Job) -> tuple[str, str | None]:
    """The whole text of a request, and why it ended.

    Raises:
        Stopped: the engine was stopped before.
    """
    texts, reason = [], None
    async with aclosing(engine.pieces(job)) as pieces:
        async for piece in pieces:
            texts.append(piece.text)
            reason = piece.reason
    if reason == "abort":
        raise broken_off()
    return "".join(texts), reason


async def _unless_gone(request: Request, answer: _Answer) -> Response:
    """The whole answer, or nothing as soon as the client closes the connection."""
    work = asyncio.create_task(answer.whole())
    gone = asyncio.create_task(_disconnected(request))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        return JSONResponse(await work) if work.done() else Response(status_code=CLIENT_CLOSED)
    finally:
        work.cancel()
        gone.cancel()
        await answer.leave()


async def _disconnected(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _choice(text: str, reason: str | None) -> dict[str, Any]:
    return {"index": 0, "text": text, "logprobs": None, "finish_reason": reason}


def _event(value: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(value, ensure_ascii=False).encode() + b"\n\n"


def _error(
    status: int, message: str, param: str | None = None, code: str | None = None
) -> JSONResponse:
    kind = "invalid_request_error" if status < 500 else "server_error"
    return JSONResponse({"error": _fault(message, kind, param, code)}, status_code=status)


def _fault(
    message: str, kind: str = "server_error", param: str | None = None, code: str | None = None
) -> dict[str, str | None]:
    """An error in OpenAI's form."""
    return {"message": message, "type": kind, "param": param, "code": code}


def _refused(error: Mlk8sError) -> Response:
    answer = _error(429, str(error), None, "rate_limit_exceeded")
    answer.headers["retry-after"] = str(RETRY_AFTER_S)
    return answer


def _invalid(error: ValidationError) -> Response:
    """What is wrong with a body, by its first fault."""
    first = error.errors(include_url=False, include_context=False)[0]
    param = str(first["loc"][0]) if first["loc"] else None
    if first["type"] == "extra_forbidden":
        known = ", ".join(CompletionRequest.model_fields)
        text = f"This server has no field {param!r}; it has {known}."
    else:
        text = f"{param or 'The body'}: {first['msg']}."
    return _error(400, text, param)
