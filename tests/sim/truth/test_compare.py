"""The comparison tells apart what must be equal, and lets pass what may differ."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from . import compare

TIE = frozenset({"gpu-0", "gpu-1"})
REAL: list[dict[str, Any]] = [
    {
        "did": [{"created": "Deployment/serve"}, {"created": "Job/train"}],
        "pods": [
            {"name": "a", "phase": "Running", "node": "gpu-1"},
            {"name": "serve-7c44b4d94b-2c2kv", "phase": "Running", "node": "gpu-0"},
            {"name": "train-6tz26", "phase": "Pending"},
        ],
        "events": [
            ["Pod", "a", "Normal", "Scheduled", "Successfully assigned golden/a to gpu-1"],
            [
                *("Pod", "a", "Normal", "Preempted"),
                "Preempted by pod a06072b3-b406-4ce9-a285-6c92a87b27cd on node gpu-1",
            ],
        ],
        "quotas": [{"name": "q", "hard": {"pods": "2"}, "used": {"pods": "1"}}],
    }
]


def changed(old: str, new: str) -> Any:
    """The play with another word in it."""

    def change(value: Any) -> Any:
        match value:
            case dict():
                return {key: change(one) for key, one in value.items()}
            case list():
                return [change(one) for one in value]
            case str():
                return value.replace(old, new)
        return value

    return change(REAL)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("7c44b4d94b-2c2kv", "5bdf7c9b8-zzzzz"),
        ("train-6tz26", "train-abcde"),
        ("a06072b3-b406-4ce9-a285-6c92a87b27cd", "11111111-2222-4333-8444-555555555555"),
    ],
)
def test_generated_names_and_uids_may_differ(old: str, new: str) -> None:
    assert compare.scheduling(REAL, changed(old, new)) == []


def test_the_order_of_events_may_differ() -> None:
    ours = copy.deepcopy(REAL)
    ours[0]["events"].reverse()
    assert compare.scheduling(REAL, ours) == []


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("serve-7c44b4d94b-2c2kv", "other-7c44b4d94b-2c2kv", "pods"),
        ("Pending", "Running", "pods"),
        ("Successfully assigned", "Assigned", "events"),
        ("Normal", "Warning", "events"),
        ("Job/train", "Job/other", "did"),
    ],
)
def test_everything_else_must_be_equal(old: str, new: str, part: str) -> None:
    found = compare.scheduling(REAL, changed(old, new))
    assert any(one.startswith(f"step 1: {part} ") for one in found)


def test_a_quota_and_a_missing_step_count() -> None:
    ours = copy.deepcopy(REAL)
    ours[0]["quotas"][0]["used"]["pods"] = "2"
    assert len(compare.scheduling(REAL, ours)) == 2  # one without, one with
    assert compare.scheduling(REAL, []) == ["1 steps, and here 0"]


def test_an_event_that_comes_twice_is_not_the_same_as_one() -> None:
    ours = copy.deepcopy(REAL)
    ours[0]["events"].append(ours[0]["events"][0])
    (found,) = compare.scheduling(REAL, ours)
    assert found.startswith("step 1: events with")


def swapped() -> Any:
    there = {"gpu-0": "gpu-1", "gpu-1": "gpu-0"}
    ours = copy.deepcopy(REAL)
    for pod in ours[0]["pods"][:2]:
        pod["node"] = there[pod["node"]]
    for event in ours[0]["events"]:
        event[4] = event[4].replace("gpu-1", "gpu-0")
    return ours


def test_equal_nodes_may_be_exchanged_throughout() -> None:
    assert compare.scheduling(REAL, swapped(), [TIE]) == []
    # They were not equal to the scheduler, or it were others.
    assert compare.scheduling(REAL, swapped()) != []
    assert compare.scheduling(REAL, swapped(), [frozenset({"gpu-1", "gpu-2"})]) != []


def test_equal_nodes_may_not_be_exchanged_for_one_pod_alone() -> None:
    ours = copy.deepcopy(REAL)
    ours[0]["pods"][0]["node"] = "gpu-0"
    assert compare.scheduling(REAL, ours, [TIE]) != []


def test_ties_that_overlap_are_followed_in_turn() -> None:
    ours = changed("gpu-1", "gpu-2")
    assert compare.scheduling(REAL, ours, [TIE, frozenset({"gpu-1", "gpu-2"})]) == []


def test_commands_differ_by_status_and_output() -> None:
    real = [{"command": "get x", "rc": 0, "stdout": "a\n"}]
    assert compare.commands(real, copy.deepcopy(real)) == {}
    found = compare.commands(real, [{"command": "get x", "rc": 1, "stderr": "no\n"}])
    assert found == {
        "1 get x": 'rc: 0, and here 1; stdout: "a\\n", and here null; '
        'stderr: null, and here "no\\n"'
    }


def test_blanks_count_only_in_lines_without_an_age() -> None:
    def printed(text: str) -> Any:
        return [{"command": "get x", "rc": 0, "stdout": text}]

    assert compare.commands(printed("a  <age>   b\n"), printed("a  <age>  b\n")) == {}
    assert compare.commands(printed("a   b\n"), printed("a  b\n")) != {}


def test_calls_must_give_the_answer_of_one_recording() -> None:
    first, second = {"a": {"ok": 1}, "b": {"ok": 1}}, {"a": {"ok": 2}, "b": {"ok": 1}}
    assert compare.calls([first], first) == {}
    assert compare.calls([first, second], second) == {}
    assert compare.calls([first], second) == {"a": '{"ok": 1}, and here {"ok": 2}'}
    # A call that was not made is a difference too.
    assert list(compare.calls([first], {"a": {"ok": 1}})) == ["b"]
    assert list(compare.calls([first], first | {"c": {"ok": 1}})) == ["c"]
