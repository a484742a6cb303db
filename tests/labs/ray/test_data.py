"""labs/ray/data.py: what goes through the object store, streamed and not."""

from __future__ import annotations

from pathlib import Path

import numpy
import pytest

from mlk8s import raylocal
from mlk8s.errors import UsageError
from mlk8s.lm import task, tokenizer
from tests.labs.ray.conftest import lab


def test_streaming_stays_in_memory_and_materializing_spills(
    local: raylocal.Local, base: Path
) -> None:
    store = local.head.machine.store_mib
    found = lab("data")["measure"](
        local, mib=2 * store, kib=256, ways=("materialized", "streamed"), model=base, limit=24
    )
    materialized, streamed = found
    assert materialized["rows"] == streamed["rows"] == 2 * store * 4
    # The same rows come out of the same model.
    assert materialized["mean loss [nats/token]"] == streamed["mean loss [nats/token]"] > 1
    # What does not fit goes to disk, and has to come back from there.
    assert materialized["spilled [MiB]"] >= store / 2
    assert materialized["read back [MiB]"] >= store / 2
    assert streamed["spilled [MiB]"] == 0
    assert 0 < streamed["peak in store [MiB]"] <= store


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
