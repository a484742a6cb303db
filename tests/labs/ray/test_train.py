"""labs/ray/train.py: chapter 7's training on two workers, and after a crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from mlk8s import raylocal
from mlk8s.errors import UsageError
from mlk8s.lm import model
from tests.labs.ray.conftest import lab


def test_it_goes_on_from_its_checkpoint_after_a_crash(
    local: raylocal.Local, tmp_path: Path
) -> None:
    train = lab("train")
    found = train["train"](tmp_path, steps=12, texts=300, every=4, crash_at=7)
    assert found["processes"] == 2
    assert found["resumed at"] == 4
    # Steps 5 to 7 were done twice, and count once.
    assert len(found["losses"]) == 12
    first, second = train["attempts"](tmp_path)
    assert (first["first step"], first["last step"], first["done again"]) == (1, 7, 0)
    assert (second["first step"], second["last step"], second["done again"]) == (5, 12, 3)
    assert model.load(found["model"]).parameters.total > 800_000


def test_a_batch_that_cannot_be_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="16 rows cannot be split evenly over 3"):
        lab("train")["train"](tmp_path, workers=3)
