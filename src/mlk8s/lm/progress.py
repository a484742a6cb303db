"""What a run says while it runs: a bar in a terminal, nothing elsewhere, and no half-done step.

Elsewhere (a pod, a notebook) lines are the caller's: ``report`` of :mod:`mlk8s.lm.training`.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType


@contextmanager
def bar(title: str, done: int, total: int, *, shown: bool) -> Iterator[Callable[[int, str], None]]:
    """A bar on standard error that is gone at the end.

    Args:
        title: what is counted.
        done: where it starts.
        total: where it ends.
        shown: whether to show it if there is a terminal.

    Yields:
        A function to call with how many are done, and a remark.
    """
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    screen = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Remaining(),
        TextColumn("{task.fields[remark]}", markup=False),
    )
    off = not shown or not screen.is_terminal
    with Progress(*columns, console=screen, transient=True, disable=off) as display:
        task = display.add_task(title, total=total, completed=done, remark="")
        yield lambda at, remark: display.update(task, completed=at, remark=remark)


@dataclass
class Interruption:
    """Whether the process was told to stop.

    Attributes:
        signals: those that came, in order.
    """

    signals: list[int] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.signals)


@contextmanager
def held_back() -> Iterator[Interruption]:
    """Keep Ctrl-C and SIGTERM (how a pod is ended) until the block is done, and then obey.

    The block asks what it was given whether to stop early, in a state that it can leave. A signal
    reaches the main thread only; in another one nothing is held back.
    """
    found = Interruption()
    if threading.current_thread() is not threading.main_thread():
        yield found
        return

    def note(number: int, frame: FrameType | None) -> None:
        found.signals.append(number)

    before = {each: signal.signal(each, note) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield found
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
    if found:
        signal.raise_signal(found.signals[0])
