"""What Paperspace or the network may do wrong: one clear error, and never a second machine."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from .conftest import OURS, Play, printed, recap
from .standin import Fault, Paperspace

Refused = Callable[..., str]
MACHINES = "/v1/machines"
ONE = "/v1/machines/[^/]+"


def test_a_list_survives_passing_faults(api: Paperspace, play: Play) -> None:
    api.faults = [
        Fault("GET", MACHINES, status=429, code="TOO_MANY_REQUESTS", headers={"Retry-After": "1"}),
        Fault("GET", MACHINES),
        Fault("GET", MACHINES, "drop"),
    ]
    recap(play("list"))
    assert len(api.asked) == 4


def test_a_long_pause_is_said_and_not_waited_for(api: Paperspace, refused: Refused) -> None:
    api.faults = [Fault("GET", MACHINES, status=429, headers={"Retry-After": "3600"})]
    assert "HTTP 429" in refused("list")
    assert len(api.asked) == 1


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("status", "HTTP 500, INTERNAL_SERVER_ERROR, Something went wrong"),
        ("malformed", "not JSON"),
        ("slow", "no answer from http://127.0.0.1"),
    ],
)
def test_a_lasting_fault_ends_in_its_own_words(
    api: Paperspace, refused: Refused, kind: str, said: str
) -> None:
    api.faults = [Fault("GET", MACHINES, kind, times=99)]
    message = refused("list", paperspace_timeout_s=1, paperspace_attempts=1)
    assert "did not list the machines" in message and said in message


def test_a_wrong_key_is_named_and_not_shown(api: Paperspace, refused: Refused) -> None:
    message = refused("list", "-vvv", key="psk-wrong-0123456789abcdef")
    assert "HTTP 401, UNAUTHORIZED" in message and "PAPERSPACE_API_KEY" in message


@pytest.mark.parametrize(("status", "code"), [(422, "BAD_REQUEST"), (409, "CONFLICT")])
def test_a_refused_creation_says_why_and_leaves_nothing(
    api: Paperspace, refused: Refused, state: Path, status: int, code: str
) -> None:
    issue = "diskSize: Invalid literal value, expected 50"
    api.faults = [
        Fault("POST", MACHINES, status=status, code=code, message="Not so", issues=(issue,))
    ]
    message = refused("create", confirm="gpu1")
    assert f"HTTP {status}, {code}, Not so ({issue})" in message
    assert api.machines == {} and len(api.changes()) == 1
    assert not list(state.iterdir())


def test_a_creation_whose_answer_is_lost_is_found_in_the_same_run(
    api: Paperspace, play: Play
) -> None:
    api.faults = [Fault("POST", MACHINES, "lost")]
    recap(play("create", confirm="gpu1"))
    assert [machine["name"] for machine in api.machines.values()] == [OURS]
    assert len(api.changes()) == 1


def test_a_creation_whose_answer_is_lost_is_not_sent_again(
    api: Paperspace, play: Play, refused: Refused
) -> None:
    """The machine shows up in the list only after the run, and one look late in the next."""
    api.faults = [Fault("POST", MACHINES, "lost"), Fault("POST", MACHINES)]
    api.hide_after_create = 3
    message = refused("create", confirm="gpu1")
    assert "may or may not have created gpu1" in message and OURS in message
    done = play("create", confirm="gpu1")
    recap(done)
    assert "nothing was created" in printed(done)
    assert len(api.machines) == 1 and len(api.changes()) == 1


def test_a_machine_that_never_gets_ready_is_waited_for_within_bounds(
    api: Paperspace, play: Play, refused: Refused
) -> None:
    api.stuck = True
    message = refused("create", confirm="gpu1", paperspace_wait_s=0)
    assert "is provisioning and not ready after 0 s" in message and "Last event: create" in message
    api.stuck = False
    recap(play("create", confirm="gpu1"))
    assert len(api.changes()) == 1, "the second run goes on with the first one's machine"


@pytest.mark.parametrize(
    ("action", "before", "method", "path", "said"),
    [
        ("create", "", "GET", "/v1/machine-availability", "say whether A4000 is available in ny2"),
        ("create", "", "GET", "/v1/os-templates", "list its templates"),
        ("start", "off", "PATCH", f"{ONE}/start", "start gpu1"),
        ("stop", "ready", "PATCH", f"{ONE}/stop", "stop gpu1"),
        ("destroy", "ready", "PATCH", f"{ONE}/stop", "stop gpu1"),
        ("destroy", "off", "DELETE", ONE, "delete gpu1"),
    ],
)
def test_each_call_says_what_it_was_for(
    api: Paperspace,
    refused: Refused,
    action: str,
    before: str,
    method: str,
    path: str,
    said: str,
) -> None:
    if before:
        api.add(OURS, before)
    api.faults = [Fault(method, path, status=403, code="FORBIDDEN", message="Not you.")]
    message = refused(action, confirm="gpu1", machine_template="")
    assert f"Paperspace did not {said}: HTTP 403, FORBIDDEN, Not you." in message
    assert "ask the owner of the team" in message
    assert [machine["state"] for machine in api.machines.values()] == ([before] if before else [])


def test_a_key_that_expires_during_a_wait_ends_it_at_once(
    api: Paperspace, refused: Refused
) -> None:
    api.add(OURS, "stopping")
    api.faults = [Fault("GET", ONE, status=401, code="UNAUTHORIZED", times=99)]
    message = refused("stop", paperspace_wait_s=900)
    assert "does not tell (HTTP 401) and not off. Next: " in message
    assert [path for _, path, _ in api.asked].count("/machines/ps000001") == 1


def test_a_machine_that_disappears_while_it_is_waited_for(
    api: Paperspace, refused: Refused
) -> None:
    api.add(OURS, "provisioning")
    api.vanish = True
    assert "was deleted while this play waited" in refused("create", confirm="gpu1")


def test_a_wait_pauses_as_long_as_it_is_told(api: Paperspace, play: Play) -> None:
    api.add(OURS, "stopping")
    api.turn(OURS, "off")
    api.faults = [Fault("GET", ONE, status=429, headers={"Retry-After": "1"}), Fault("GET", ONE)]
    recap(play("stop"))


def test_a_deletion_that_somebody_else_made_counts(api: Paperspace, play: Play) -> None:
    api.add(OURS, "off")
    api.faults = [Fault("DELETE", ONE, status=404, code="NOT_FOUND")]
    api.vanish = True
    recap(play("destroy", confirm="gpu1"))
    assert api.machines == {}


def test_a_refused_deletion_says_why(api: Paperspace, refused: Refused) -> None:
    api.add(OURS, "off")
    api.faults = [Fault("DELETE", ONE, status=409, code="CONFLICT", message="A snapshot is made.")]
    assert "HTTP 409, CONFLICT, A snapshot is made." in refused("destroy", confirm="gpu1")
    assert len(api.machines) == 1


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"key": None}, "PAPERSPACE_API_KEY is not set"),
        ({"name": "GPU 1"}, "cannot be a machine's name"),
        ({"paperspace_api": "http://api.example.com/v1"}, "unencrypted"),
        ({"machine_action": "reboot"}, "There is no ACTION=reboot"),
    ],
)
def test_what_cannot_be_is_refused_before_any_request(
    api: Paperspace, refused: Refused, options: dict[str, str], said: str
) -> None:
    assert said in refused("create", **options)
    assert api.asked == []
