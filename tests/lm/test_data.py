"""Batches: what counts for the loss, the order of rows, padding; and the tokenizer below them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlk8s.errors import UsageError
from mlk8s.lm import data, task, tokenizer

WORDS: Any = tokenizer.train()


@settings(max_examples=60, deadline=None)
@given(st.text())
def test_no_text_is_unknown(text: str) -> None:
    assert WORDS.decode(WORDS(text).input_ids) == text


def test_the_tokenizer_is_the_same_each_time_and_survives_its_folder(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    WORDS.save_pretrained(tmp_path)
    read = AutoTokenizer.from_pretrained(tmp_path)
    again: Any = tokenizer.train()
    for example in task.examples(50):
        ids = WORDS(example.prompt + example.answer).input_ids
        assert read(example.prompt + example.answer).input_ids == ids
        assert again(example.prompt + example.answer).input_ids == ids
        assert len(ids) < 160
    assert (read.eos_token, read.pad_token) == (task.STOP, tokenizer.PADDING)
    assert WORDS(task.STOP).input_ids == [WORDS.eos_token_id]


def test_only_the_answer_and_its_end_count_for_the_loss() -> None:
    examples = task.examples(8)
    rows = data.pairs(WORDS, examples, 160)
    inputs, labels = data.tensors(rows, WORDS.pad_token_id)
    for example, row, given_, wanted in zip(examples, rows, inputs, labels, strict=True):
        counted = [int(label) for label in wanted if label != data.IGNORED]
        assert WORDS.decode(counted) == example.answer + task.STOP
        assert len(counted) == row.targets
        assert WORDS.decode(row.ids[: row.start]) == example.prompt
        assert given_[: len(row.ids)].tolist() == list(row.ids)
        assert (given_[len(row.ids) :] == WORDS.pad_token_id).all()


def test_a_stream_is_cut_without_a_gap() -> None:
    texts = task.corpus(40)
    rows = data.packed(WORDS, texts, 32)
    assert {len(row.ids) for row in rows} == {32}
    whole = "---\n".join(texts)
    assert whole.startswith(WORDS.decode([each for row in rows for each in row.ids]))
    assert sum(row.targets for row in rows) == 31 * len(rows)
    with pytest.raises(UsageError, match="a row has 4000"):
        data.packed(WORDS, texts[:1], 4000)


@pytest.mark.parametrize("size", [4, 8])
def test_each_row_comes_once_an_epoch_and_in_another_order_in_the_next(size: int) -> None:
    rows = [data.Row(tuple(range(2 + index % 9)), index % 2) for index in range(64)]
    rows = [data.Row((*row.ids, 1000 + index), 0) for index, row in enumerate(rows)]
    steps = len(rows) // size
    epochs = [
        [row for step in range(first, first + steps) for row in data.batch_at(rows, step, size, 7)]
        for first in (0, steps)
    ]
    assert [sorted(epoch, key=lambda row: row.ids[-1]) for epoch in epochs] == [rows, rows]
    assert epochs[0] != epochs[1]
    assert data.batch_at(rows, 3, size, 7) == data.batch_at(rows, 3, size, 7)
    assert data.batch_at(rows, 3, size, 7) != data.batch_at(rows, 3, size, 8)


def test_batches_of_like_lengths_are_padded_less() -> None:
    rows = data.pairs(WORDS, task.examples(512), 160)
    padded = sum(
        max(len(row.ids) for row in data.batch_at(rows, step, 16, 0)) * 16 for step in range(32)
    )
    assert padded < 1.1 * sum(len(row.ids) for row in rows)


def test_refusals() -> None:
    with pytest.raises(UsageError, match="tokens, and 20 are"):
        data.pairs(WORDS, task.examples(1), 20)
    with pytest.raises(UsageError, match="A batch has 16 rows, and there are 2"):
        data.batch_at(data.pairs(WORDS, task.examples(2), 160), 0, 16, 0)
