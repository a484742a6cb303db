"""labs/ray/serve.py: replicas that come with the load."""

from __future__ import annotations

import time
from pathlib import Path

from mlk8s import raylocal
from mlk8s.lm import load
from mlk8s.lm.load_client import Workload
from tests.labs.ray.conftest import lab


def test_replicas_come_with_the_load_and_go(local: raylocal.Local, base: Path) -> None:
    serve = lab("serve")
    workload = Workload(max_tokens=(64,))
    deadline = time.monotonic() + 90
    with serve["served"]({"base": base}, max_batch=2, max_replicas=2) as busy:
        assert serve["replicas"]() == 1
        with serve["replicas_watched"]() as seen:
            while max(seen) < 2:
                assert time.monotonic() < deadline, seen[-3:]
                load.closed(busy, workload, clients=[16], seconds=2)
        while serve["replicas"]() > 1:
            assert time.monotonic() < deadline
            time.sleep(0.2)
