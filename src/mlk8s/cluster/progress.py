"""How a run shows itself: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal, Protocol


class Display(Protocol):
    """Takes what happens.

    Attributes:
        live: whether lines of several pods may be mixed as they come.
    """

    live: bool

    def line(self, text: str) -> None:
        """Something that stays to be read."""

    def now(self, text: str) -> None:
        """The present state, which the next one replaces."""


class Plain:
    """Lines without times, the same in every run."""

    live = False

    def __init__(self, show: Callable[[str], None]) -> None:
        self.line = show

    def now(self, text: str) -> None:
        """Not shown: the lines say it."""


class Terminal:
    """Lines that scroll above a spinner with the present state."""

    live = True

    def __init__(self, console: object, status: object) -> None:
        self._console = console
        self._status = status

    def line(self, text: str) -> None:
        """Print above the spinner."""
        self._console.print(text, markup=False, highlight=False, soft_wrap=True)  # type: ignore[attr-defined]

    def now(self, text: str) -> None:
        """Put it beside the spinner."""
        from rich.markup import escape

        self._status.update(escape(text))  # type: ignore[attr-defined]


@contextmanager
def display(show: Callable[[str], None] | Literal["auto"] | None) -> Iterator[Display]:
    """The display that suits: ``auto`` is live in a terminal, plain in a notebook or a pipe."""
    from rich.console import Console

    if show is None:
        yield Plain(lambda line: None)
        return
    if show != "auto":
        yield Plain(show)
        return
    console = Console()
    if console.is_terminal and not console.is_jupyter:
        with console.status("submitting") as status:
            yield Terminal(console, status)
    else:
        yield Plain(lambda line: print(line, flush=True))
