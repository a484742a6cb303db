"""From tokens to text, token by token."""

from __future__ import annotations

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mlk8s.lm.text_stream import TextStream

# One token for each byte, so that a character of two bytes takes two.
ALPHABET = sorted(pre_tokenizers.ByteLevel.alphabet())


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    found = Tokenizer(models.BPE({each: n for n, each in enumerate(ALPHABET)}, []))
    found.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    found.decoder = decoders.ByteLevel()
    return found


def pushed(tokenizer: Tokenizer, text: str, *stop: str) -> list[tuple[str, bool]]:
    stream = TextStream(tokenizer, stop)
    found = [stream.push(token) for token in tokenizer.encode(text).ids]
    return [*found, (stream.close(), False)]


def test_a_character_comes_when_its_last_byte_does(tokenizer: Tokenizer) -> None:
    assert pushed(tokenizer, "aé") == [("a", False), ("", False), ("é", False), ("", False)]


def test_a_stop_text_ends_the_answer_and_is_no_part_of_it(tokenizer: Tokenizer) -> None:
    assert pushed(tokenizer, "ab--", "--")[:4] == [
        ("a", False),
        ("b", False),
        ("", False),
        ("", True),
    ]


def test_what_only_begins_like_a_stop_text_is_text(tokenizer: Tokenizer) -> None:
    assert "".join(text for text, _ in pushed(tokenizer, "a-b--", "---")) == "a-b--"


def test_the_first_of_several_stop_texts_counts(tokenizer: Tokenizer) -> None:
    found = pushed(tokenizer, "one two", "two", "e t")
    assert "".join(text for text, _ in found[:5]) == "on"
    assert found[4] == ("", True)
