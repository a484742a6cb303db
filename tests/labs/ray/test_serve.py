"""labs/ray/serve.py: answers, batches, many models."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from mlk8s import raylocal
from mlk8s.errors import Mlk8sError, UsageError
from mlk8s.lm import generation, model
from mlk8s.lm.load_client import Target
from tests.labs.ray.conftest import lab
from tests.lm import random_model

PROMPT = "apiVersion: v1\nkind:"


@pytest.fixture(scope="module")
def serve() -> dict[str, Any]:
    return lab("serve")


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose answers are text."""
    return random_model.save(tmp_path_factory.mktemp("text") / "base")


@pytest.fixture(scope="module")
def target(
    serve: dict[str, Any], local: raylocal.Local, base: Path, other: Path
) -> Iterator[Target]:
    with serve["served"]({"base": base, "other": other}, max_batch=4, wait_ms=300) as found:
        yield found


def test_requests_that_come_together_are_one_batch(serve: dict[str, Any], target: Target) -> None:
    alone = serve["answer"](target, PROMPT, max_tokens=12)
    before = len(serve["batches"]())
    lengths = [3, 6, 12, 12]
    with ThreadPoolExecutor(4) as threads:
        answers = list(
            threads.map(lambda n: serve["answer"](target, PROMPT, max_tokens=n), lengths)
        )
    assert max(serve["batches"]()[before:]) > 1
    texts = [answer["choices"][0]["text"] for answer in answers]
    whole = alone["choices"][0]["text"]
    assert texts[2] == texts[3] == whole
    assert whole.startswith(texts[0]) and whole.startswith(texts[1])


def test_each_model_answers_as_it_does_by_itself(
    serve: dict[str, Any], target: Target, base: Path, other: Path
) -> None:
    found = {}
    for name, folder in (("base", base), ("other", other)):
        asked = replace(target, model=name)
        found[name] = serve["answer"](asked, PROMPT, max_tokens=10)["choices"][0]["text"]
        expected = generation.generate(model.load(folder), [PROMPT], longest=10)
        # A stream holds back bytes that are no whole character yet, and drops them at the end.
        assert [found[name]] == [text.rstrip("\ufffd") for text in expected]
    assert found["base"] != found["other"]


def test_a_stream_has_an_event_for_each_token(target: Target) -> None:
    body = {
        "model": "base", "prompt": PROMPT, "max_tokens": 5, "temperature": 0, "stream": True,
        "ignore_eos": True, "stream_options": {"include_usage": True},
    }  # fmt: skip
    url = f"{target.base_url}/openai/v1/completions"
    with urlopen(Request(url, json.dumps(body).encode()), timeout=60) as response:
        lines = [line for line in response.read().decode().split("\n\n") if line]
    assert lines.pop() == "data: [DONE]"
    events = [json.loads(line.removeprefix("data: ")) for line in lines]
    assert events.pop()["usage"]["completion_tokens"] == 5
    reasons = [event["choices"][0]["finish_reason"] for event in events]
    assert reasons == [None] * 5 + ["length"]


def test_the_load_generator_measures_it(serve: dict[str, Any], target: Target) -> None:
    [row] = serve["measure"](target, [2], 2.0)
    assert row["clients"] == 2 and row["errors"] == 0 and row["requests"] > 0
    assert row["replicas"] == 1 and row["mean batch"] >= 1


def test_requests_that_cannot_be_answered_are_refused(
    serve: dict[str, Any], target: Target
) -> None:
    with pytest.raises(Mlk8sError, match=r"404: The model 'third' is not served"):
        serve["answer"](replace(target, model="third"), PROMPT)
    with pytest.raises(Mlk8sError, match=r"400: max_tokens: Input should be greater"):
        serve["answer"](target, PROMPT, max_tokens=0)
    with pytest.raises(Mlk8sError, match=r"400: The context is 256 tokens"):
        serve["answer"](target, PROMPT, max_tokens=600)


def test_a_folder_without_a_model_is_refused(serve: dict[str, Any], tmp_path: Path) -> None:
    with (
        pytest.raises(UsageError, match=r"has no config\.json"),
        serve["served"]({"a": tmp_path}),
    ):
        pass


def test_two_at_once_are_refused(serve: dict[str, Any], target: Target, base: Path) -> None:
    with pytest.raises(UsageError, match="serves already"), serve["served"]({"b": base}):
        pass
