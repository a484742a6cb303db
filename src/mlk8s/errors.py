"""The library's own errors: each names the thing, the reason and the next step.

The command line prints ``str(error)`` and exits with status 1; a notebook shows an expected one
through :func:`expected`, because papermill stops at any error output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Mlk8sError(Exception):
    """Base of all errors raised on purpose.

    Args:
        problem: what failed and why, one sentence.
        next_step: what the reader can do about it, one sentence.
    """

    def __init__(self, problem: str, next_step: str) -> None:
        super().__init__(problem, next_step)
        self.problem = problem
        self.next_step = next_step

    def __str__(self) -> str:
        return f"{self.problem} Next: {self.next_step}"


class GpuUnavailable(Mlk8sError):
    """A live GPU was asked for, and the driver, NVML or CUDA cannot give it."""


class UnknownGpu(Mlk8sError):
    """The catalogue has no entry that matches; it never answers with another GPU's figures."""


class RecordingError(Mlk8sError):
    """A recording is missing, damaged, out of date, or does not hold what was asked for."""


class NotRecorded(RecordingError):
    """A sound recording does not hold this call, or holds it from code that has changed since."""


class NotebookError(Mlk8sError):
    """A notebook is not in canonical form, is missing, or one of its cells failed."""


class ClusterUnavailable(Mlk8sError):
    """The cluster that was asked for cannot be reached, or none was named."""


class ClusterError(Mlk8sError):
    """The cluster refused a request, or an object in it is not there or not as expected."""


class UsageError(Mlk8sError):
    """An argument or an environment variable has a value that cannot be used."""


@contextmanager
def expected(*kinds: type[BaseException], show: Callable[[str], object] = print) -> Iterator[None]:
    """Catch an error that the text announces, and print it as a line of output.

    Args:
        kinds: the error types the block has to raise.
        show: takes the line.

    Raises:
        AssertionError: the block raised nothing, so what the text says is no longer true.
    """
    try:
        yield
    except kinds as error:
        show(f"{type(error).__name__}: {error}")
    else:
        names = ", ".join(kind.__name__ for kind in kinds)
        raise AssertionError(f"expected {names}, and nothing was raised")
