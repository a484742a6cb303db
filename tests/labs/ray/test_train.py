"""labs/ray/train.py: what it refuses. Chapter 8 asserts that it goes on after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlk8s.errors import UsageError
from tests.labs.ray.conftest import lab


def test_a_batch_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="16 rows cannot be split evenly over 3"):
        lab("train")["train"](tmp_path, workers=3)
