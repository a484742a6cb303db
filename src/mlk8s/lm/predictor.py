"""The model as KServe sees it: its V1 and V2 protocols, its readiness, its engine.

This module imports kserve, which takes seconds; :mod:`mlk8s.lm.serving` imports it when it serves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from fastapi import Request
from fastapi.responses import JSONResponse
from kserve import (  # type: ignore[import-untyped]
    InferOutput,
    InferRequest,
    InferResponse,
    Model,
)
from kserve.errors import InvalidInput  # type: ignore[import-untyped]
from kserve.utils.utils import generate_uuid  # type: ignore[import-untyped]
from pydantic import ValidationError

from mlk8s.lm.completions import RETRY_AFTER_S, SamplingFields, collect
from mlk8s.lm.engine import Engine, Job, QueueFull, Stopped, TooLong


class Predictor(Model):  # type: ignore[misc]  # kserve has no type hints
    """Texts in, texts out.

    V1: ``{"instances": ["text", …], "parameters": {…}}`` gives ``{"predictions": ["text", …]}``.
    V2: one input of type BYTES gives one output of the same shape. The parameters are those of
    :class:`~mlk8s.lm.completions.SamplingFields`. KServe does not tell a model of its V1 and V2
    routes that a client has gone, so such a request runs to its end.

    Args:
        name: in the paths.
        engine: answers.
    """

    def __init__(self, name: str, engine: Engine) -> None:
        super().__init__(name)
        self._requests = engine
        # KServe runs start_engine() beside its HTTP server (kserve 0.21, model_server.py).
        self.engine = True
        self.ready = True

    async def start_engine(self) -> None:
        """Serve until KServe stops the model, which it does after the last request has ended."""
        await self._requests.run()

    def stop_engine(self) -> None:
        """End :meth:`start_engine`."""
        self._requests.stop()

    async def predict(
        self, payload: dict[str, Any] | InferRequest, headers: Mapping[str, str] | None = None
    ) -> dict[str, Any] | InferResponse:
        """Answer one V1 or V2 request.

        Raises:
            InvalidInput: the payload holds something else, or too much; KServe answers 400.
            QueueFull: too many requests run or wait; answered with 429.
            Stopped: the engine has been stopped; answered with 503.
        """
        if isinstance(payload, InferRequest):
            if len(payload.inputs) != 1 or payload.inputs[0].datatype != "BYTES":
                raise InvalidInput("give one input of datatype BYTES with the prompts")
            # as_string() fails on texts that came as JSON (kserve 0.21, protocol/infer_type.py).
            found = payload.inputs[0].as_numpy().ravel().tolist()
            texts = [item.decode() if isinstance(item, bytes) else item for item in found]
            answers = await self._answer(texts, payload.parameters or {})
            output = InferOutput("text", payload.inputs[0].shape, "BYTES", answers)
            # A request may have no id, and an answer must.
            return InferResponse(payload.id or generate_uuid(), self.name, [output])
        if not isinstance(payload, dict):
            # KServe hands on the bare bytes of any other content type.
            raise InvalidInput("give a JSON object with instances, as application/json")
        return {
            "predictions": await self._answer(
                payload.get("instances"), payload.get("parameters", {})
            )
        }

    async def _answer(self, texts: Any, parameters: Any) -> list[str]:
        if not (isinstance(texts, list) and texts and all(isinstance(t, str) and t for t in texts)):
            raise InvalidInput("give a list of texts that are not empty")
        try:
            sampling = SamplingFields.model_validate(parameters).sampling()
        except ValidationError as error:
            raise InvalidInput(f"parameters: {error}") from error
        jobs: list[Job] = []
        try:
            for text in texts:
                jobs.append(self._requests.submit(self._requests.runner.encode(text), sampling))
        except (TooLong, QueueFull, Stopped) as error:
            for job in jobs:
                self._requests.leave(job)
            if isinstance(error, TooLong):
                raise InvalidInput(str(error)) from error
            raise
        answers = await asyncio.gather(*(collect(self._requests, job) for job in jobs))
        return [text for text, _ in answers]


async def unavailable(_: Request, error: Exception) -> JSONResponse:
    """What the V1 and V2 routes answer, in KServe's form, where the engine takes nothing on."""
    status = 429 if isinstance(error, QueueFull) else 503
    headers = {"retry-after": str(RETRY_AFTER_S)}
    return JSONResponse({"error": str(error)}, status_code=status, headers=headers)
