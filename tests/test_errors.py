"""The library's errors: what a reader sees of them."""

from __future__ import annotations

import pickle

import pytest

from mlk8s import errors
from mlk8s.errors import GpuUnavailable, Mlk8sError, RecordingError, UsageError, expected

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, Mlk8sError)
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_error_says_what_is_wrong_and_what_to_do(kind: type[Mlk8sError]) -> None:
    error = kind("The disk is full.", "remove something.")
    assert str(error) == "The disk is full. Next: remove something."
    assert (error.problem, error.next_step) == ("The disk is full.", "remove something.")
    # An error of a worker process reaches its parent as a pickle.
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again)) == (kind, str(error))


def test_every_kind_can_be_caught_as_one() -> None:
    assert len(KINDS) > 1 and all(issubclass(kind, Mlk8sError) for kind in KINDS)
    with pytest.raises(Mlk8sError):
        raise RecordingError("a", "b")


def test_an_expected_error_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with expected(UsageError, GpuUnavailable):
        raise GpuUnavailable("There is no GPU.", "use a recording.")
    out, err = capsys.readouterr()
    assert out == "GpuUnavailable: There is no GPU. Next: use a recording.\n"
    assert err == ""


def test_an_expected_error_that_does_not_come_is_an_error() -> None:
    message = "expected UsageError, KeyError, and nothing was raised"
    with pytest.raises(AssertionError, match=message), expected(UsageError, KeyError):
        pass


def test_another_error_than_the_expected_one_goes_on() -> None:
    with pytest.raises(ZeroDivisionError), expected(UsageError):
        1 / 0  # noqa: B018
