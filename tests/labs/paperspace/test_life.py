"""A machine's life, from its creation to its end, and each step a second time."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from .conftest import OURS, Play, printed, recap
from .standin import KEY, ML, Paperspace


def test_a_machine_is_created_stopped_started_and_destroyed(
    api: Paperspace, play: Play, state: Path
) -> None:
    inventory = state / "gpu1.inventory.yml"

    created = play("create", confirm="gpu1", machine_template="")
    assert "changed=0" not in recap(created)
    (machine,) = api.machines.values()
    assert (machine["name"], machine["state"]) == (OURS, "ready")
    (body,) = [body for method, _, body in api.asked if method == "POST"]
    assert body == {
        "name": OURS,
        "machineType": "A4000",
        "templateId": "t0nspur5",
        "diskSize": 100,
        "region": "ny2",
        "publicIpType": "dynamic",
        "startOnCreate": True,
        "emailPassword": False,
        "autoShutdownEnabled": True,
        "autoShutdownTimeout": 8,
    }
    for shown in ("$0.76 per hour", "$554.80 for 730 hours", "$7.00 per month", "2026-09-20"):
        assert shown in printed(created)
    assert "make node HOST=paperspace@203.0.113.77" in printed(created)
    host = yaml.safe_load(inventory.read_text())["gpu_nodes"]["hosts"]["gpu1"]
    assert (host["ansible_host"], host["ansible_user"]) == ("203.0.113.77", "paperspace")

    api.asked.clear()
    again = play("create", confirm="gpu1")
    assert "changed=0" in recap(again) and api.changes() == []
    assert "nothing was created" in printed(again)

    stopped = play("stop")
    assert "changed=0" not in recap(stopped) and machine["state"] == "off"
    assert not inventory.exists(), "the address may be somebody else's from here on"
    api.asked.clear()
    assert "changed=0" in recap(play("stop")) and api.changes() == []

    assert "changed=0" not in recap(play("start")) and machine["state"] == "ready"
    assert inventory.exists()
    api.asked.clear()
    assert "changed=0" in recap(play("start")) and api.changes() == []

    destroyed = play("destroy", confirm="gpu1")
    assert "changed=0" not in recap(destroyed) and api.machines == {}
    assert "all files on it and its snapshots are lost for good" in printed(destroyed)
    assert api.changes() == [
        ("PATCH", f"/machines/{machine['id']}/stop"),
        ("DELETE", f"/machines/{machine['id']}"),
    ]
    assert not inventory.exists()
    api.asked.clear()
    gone = play("destroy")
    assert "changed=0" in recap(gone) and api.changes() == []
    assert "nothing was destroyed" in printed(gone)


def test_the_list_reads_every_page_and_says_whose_each_machine_is(
    api: Paperspace, play: Play
) -> None:
    for number in range(120):
        api.add(f"colleague-{number}", "off")
    api.add("mlk8s-qqqqqq-gpu1")
    api.add(OURS)
    done = play("list", machine_name="")
    assert "changed=0" in recap(done)
    rows = {line.split()[0]: line for line in done.stdout.splitlines() if line.strip()}
    assert "not of this course" in rows["colleague-119"]
    assert "of another checkout" in rows["mlk8s-qqqqqq-gpu1"]
    assert "of this checkout" in rows[OURS] and "usageRate 0.76" in rows[OURS]
    assert "ready" in rows[OURS] and "at most $" in rows[OURS]
    assert [path for _, path, _ in api.asked] == ["/machines", "/machines"]


def test_a_machine_on_the_second_page_is_found(api: Paperspace, play: Play) -> None:
    for number in range(120):
        api.add(f"colleague-{number}", "off")
    api.add(OURS)
    recap(play("create", confirm="gpu1"))
    assert api.changes() == []


def test_without_a_yes_nothing_is_created(api: Paperspace, refused: Callable[..., str]) -> None:
    assert "Nothing was changed" in refused("create", confirm="yes")
    assert api.changes() == []


@pytest.mark.parametrize(("typed", "left"), [("gpu1", 0), ("", 1)])
def test_who_can_type_is_asked(
    api: Paperspace,
    command: Callable[..., list[str]],
    environment: dict[str, str],
    typed: str,
    left: int,
) -> None:
    api.add(OURS, "off")
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command("destroy"),
        env={**environment, "PAPERSPACE_API_KEY": KEY},
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
    )
    os.close(theirs)
    output = b""
    asked = False
    while True:
        # What is typed before Ansible listens is thrown away: type into silence, and again.
        if asked and not select.select([ours], [], [], 0.5)[0]:
            os.write(ours, typed.encode() + b"\r")
        try:
            output += os.read(ours, 4096)
        except OSError:  # the last writer has gone
            break
        asked = b"Type gpu1 to go on" in output
    os.close(ours)
    assert asked and (process.wait(30) == 0) == (typed == "gpu1"), output.decode()
    assert len(api.machines) == left


def test_a_machine_of_somebody_else_is_left_alone(
    api: Paperspace, play: Play, refused: Callable[..., str]
) -> None:
    api.add("gpu1")
    api.add("mlk8s-qqqqqq-gpu1")
    done = play("destroy", confirm="gpu1")
    assert "changed=0" in recap(done) and "left alone" in printed(done)
    assert "left alone" in refused("stop")
    assert api.changes() == []


def test_of_two_machines_with_the_same_name_none_is_touched(
    api: Paperspace, refused: Callable[..., str]
) -> None:
    first, second = api.add(OURS), api.add(OURS)
    message = refused("destroy", confirm="gpu1")
    assert first["id"] in message and second["id"] in message
    assert api.changes() == []


def test_of_several_templates_none_is_guessed(api: Paperspace, refused: Callable[..., str]) -> None:
    api.templates = [*api.templates, ML]
    message = refused("create", confirm="gpu1", machine_template="")
    assert "t0nspur5" in message and "tmlbox22" in message and "twin10pr" not in message
    assert api.changes() == []


def test_a_type_that_is_not_to_be_had_is_not_ordered(
    api: Paperspace, refused: Callable[..., str]
) -> None:
    api.available = False
    assert "no A4000 free in ny2" in refused("create", confirm="gpu1")
    assert api.changes() == []


def test_a_checkout_gives_its_machines_a_name_of_its_own(
    api: Paperspace, play: Play, state: Path
) -> None:
    """The owner is made at first use and kept, so the second run finds the first one's machine."""
    recap(play("create", confirm="gpu1", machine_owner=None))
    (machine,) = api.machines.values()
    owner = (state / "owner").read_text().strip()
    assert machine["name"] == f"mlk8s-{owner}-gpu1" and len(owner) == 6
    recap(play("create", confirm="gpu1", machine_owner=None))
    assert len(api.changes()) == 1
