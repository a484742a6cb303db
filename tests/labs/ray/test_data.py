"""labs/ray/data.py: the rows. Chapter 8 asserts what streaming keeps out of the object store."""

from __future__ import annotations

import numpy
import pytest

from mlk8s import raylocal
from mlk8s.errors import UsageError
from mlk8s.lm import task, tokenizer
from tests.labs.ray.conftest import lab


def test_rows_are_repeatable_large_and_hold_a_request() -> None:
    data = lab("data")
    ids = {"id": numpy.arange(64, 128)}
    first, again = data["made"](ids, 4096), data["made"](ids, 4096)
    assert list(first["raw"]) == list(again["raw"])
    assert {len(raw) for raw in first["raw"]} == {4096}
    tokens = data["Tokenizer"](None)(first)
    assert list(tokens["number"]) == list(range(64, 128))
    words = tokenizer.train()
    requests = [words.decode(ids.tolist()) for ids in tokens["ids"]]
    assert requests == [each.request for each in task.examples(64, seed=64)]


def test_data_smaller_than_a_block_is_refused(local: raylocal.Local) -> None:
    with pytest.raises(UsageError, match="1 MiB in rows of 64 KiB are 16 rows"):
        lab("data")["measure"](local, mib=1)
