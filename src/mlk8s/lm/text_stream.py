"""From tokens to text, one token at a time, up to the first stop text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class TextStream:
    """The text of one answer as it grows.

    A character of several bytes may take several tokens, and the beginning of a stop text looks
    like any other text: both are held back until it is clear what they are.

    Args:
        tokenizer: a ``tokenizers.Tokenizer``.
        stop: texts that end the answer and are not part of it.
    """

    def __init__(self, tokenizer: Any, stop: Sequence[str] = ()) -> None:
        from tokenizers.decoders import DecodeStream

        self._tokenizer = tokenizer
        self._stop = stop
        self._decode: Any = DecodeStream(skip_special_tokens=True)
        self._held = ""

    def push(self, token: int) -> tuple[str, bool]:
        """Add a token.

        Returns:
            The text that is now certain, and whether a stop text came.
        """
        self._held += self._decode.step(self._tokenizer, token) or ""
        found = [at for at in (self._held.find(text) for text in self._stop) if at >= 0]
        if found:
            certain, self._held = self._held[: min(found)], ""
            return certain, True
        keep = max((_overlap(self._held, text) for text in self._stop), default=0)
        certain, self._held = self._held[: len(self._held) - keep], self._held[-keep:] * bool(keep)
        return certain, False

    def close(self) -> str:
        """What was held back for a stop text that did not come."""
        rest, self._held = self._held, ""
        return rest


def _overlap(text: str, stop: str) -> int:
    """Characters at the end of ``text`` that may become ``stop``."""
    longest = min(len(text), len(stop) - 1)
    return next((n for n in range(longest, 0, -1) if text.endswith(stop[:n])), 0)
