"""labs/ray/gpu*.py at tiny sizes on the processor: every part runs, and its rows fit together."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest

from mlk8s.errors import UsageError
from tests.labs.ray.conftest import LABS, lab

LOAD = {"model": "the example's", "sizes": {}, "rows": 2, "tokens": 16}
#: What only a GPU can tell.
TELEMETRY = ("gpu_util_percent", "tensor_active_percent", "power_w")
CODE = """
import json, runpy, sys
script, function, arguments = sys.argv[1:]
found = runpy.run_path(script)[function](device="cpu", **json.loads(arguments))
print(json.dumps(found))
"""


def measured(script: str, function: str, **arguments: Any) -> list[dict[str, Any]]:
    """The rows of a function, called in a process of its own: this one is connected to a Ray."""
    done = subprocess.run(
        [sys.executable, "-c", CODE, str(LABS / f"{script}.py"), function, json.dumps(arguments)],
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def test_documents_stream_through_a_store_smaller_than_the_data_set() -> None:
    ways = [{"workers": 0, "batch": 64, "calls": 1}, {"workers": 2, "batch": 32, "calls": 2}]
    rows = measured(
        "gpu", "inference", sizes={}, tries=ways, kib=16, tail_kib=1, tokens=32, data_mib=200,
        seconds=1, settle_s=0.2, cpus=5, store_mib=100, limit_mib=32,
    )  # fmt: skip
    assert [{name: row[name] for name in ways[0]} for row in rows] == ways
    for row in rows:
        assert row["rows_scored"] >= row["batch"] and row["rows_scored"] % row["batch"] == 0
        assert row["rows_per_s"] == pytest.approx(row["rows_scored"] / row["measured_s"], rel=0.05)
        assert row["tokens_per_s"] == pytest.approx(32 * row["rows_per_s"], abs=1)
        assert 0 <= row["wait_share"] < 1
        assert 0 < row["store_peak_mib"] <= row["store_mib"] < row["data_mib"]
        assert row["spilled_mib"] == 0
        # 2 FLOPs for each weight of a matrix product and each token, and attention on top.
        assert 1 < row["flop_per_row"] / (2 * 32 * 880_000) < 1.2
        assert {row[name] for name in (*TELEMETRY, "gpu_share")} == {None}
    # The actor that holds the model spends its time on tokens as well.
    assert rows[0]["call_ms"] > 0


def test_fractions_let_actors_share_and_hold_them_to_nothing() -> None:
    rows = measured("gpu_shares", "fractional", loads=[LOAD], shares=[[0.5, [1, 2]]], seconds=0.5)
    assert [(row["num_gpus"], row["actors"]) for row in rows] == [(0.5, 1), (0.5, 2)]
    for row in rows:
        assert row["rows_per_s"] >= row["actors"] * row["slowest_rows_per_s"] * 0.99 > 0
        # All are on the one GPU.
        assert row["cuda_visible_devices"] == ["0"] * row["actors_there"]

    facts = measured("gpu_shares", "limits", load=LOAD, hog=0.1, matrix=256, seconds=0.5, wait_s=1)
    found = {fact["what"]: fact["value"] for fact in facts}
    assert found["memory that the first actor takes"] > 0
    assert found["the neighbor's calls alone"] > 0
    # What Ray does hold to: there is no share left for it.
    assert found["an actor with num_gpus=0.75 beside the two starts"] is False


def test_both_servers_answer_the_same_load() -> None:
    rows = measured("gpu_serving", "serving", sizes={}, clients=[1, 3], seconds=1, max_batch=4)
    assert [(row["server"], row["clients"]) for row in rows] == [
        ("Ray Serve", 1), ("Ray Serve", 3), ("continuous batching", 1), ("continuous batching", 3),
    ]  # fmt: skip
    for row in rows:
        assert row["requests"] > 0 and row["errors"] == 0
        assert 1 <= row["mean batch"] <= row["clients"]


def test_what_cannot_be_measured_is_refused() -> None:
    inference = lab("gpu")["inference"]
    with pytest.raises(UsageError, match="8 workers do not fit on 4 logical CPUs"):
        inference(device="cpu", cpus=4)
    with pytest.raises(UsageError, match="2 KiB may be fewer than 512 tokens"):
        inference(device="cpu", tail_kib=2)
