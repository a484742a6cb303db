"""A stand-in for the API, and the real ansible-playbook against it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from .standin import KEY, Paperspace

PLAYBOOK = Path(__file__).parents[3] / "labs" / "ansible" / "paperspace.yml"
ANSIBLE = Path(sys.executable).with_name("ansible-playbook")
# Waits as long as an attempt takes, so that a test is not longer than what it tests.
QUICK = {
    "paperspace_poll_s": 0.1,
    "paperspace_wait_s": 1,
    "paperspace_backoff_s": 0,
    "paperspace_settle_s": 0,
    "paperspace_settle_tries": 1,
    "paperspace_timeout_s": 5,
    "machine_owner": "me2345",
    "machine_template": "t0nspur5",
}
OURS = "mlk8s-me2345-gpu1"
Done = subprocess.CompletedProcess[str]
Play = Callable[..., Done]


@pytest.fixture
def api() -> Iterator[Paperspace]:
    server = Paperspace()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """Where the playbook keeps what it knows."""
    return tmp_path / "state"


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


@pytest.fixture
def environment(home: Path) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("ANSIBLE_", "PAPERSPACE_"))}
    settings = str(PLAYBOOK.with_name("ansible.cfg"))
    quiet = {"NO_COLOR": "1", "no_proxy": "127.0.0.1", "ANSIBLE_CONFIG": settings}
    return {**kept, **quiet, "HOME": str(home)}


@pytest.fixture
def command(api: Paperspace, state: Path) -> Callable[..., list[str]]:
    """The command line of a run; a variable that is None keeps the playbook's own default."""

    def build(action: str, *options: str, name: str = "gpu1", **variables: Any) -> list[str]:
        chosen = {
            **QUICK,
            "paperspace_api": api.url,
            "machine_state": str(state),
            "machine_action": action,
            "machine_name": name,
            **variables,
        }
        given = {name: value for name, value in chosen.items() if value is not None}
        line = [str(ANSIBLE), "-i", "localhost,", str(PLAYBOOK), *options]
        return [*line, "-e", yaml.safe_dump(given, default_flow_style=True, width=10_000)]

    return build


@pytest.fixture
def play(command: Callable[..., list[str]], environment: dict[str, str], tmp_path: Path) -> Play:
    """Run the playbook where nobody can type."""

    def run(action: str, *options: str, key: str | None = KEY, **variables: Any) -> Done:
        known = environment if key is None else {**environment, "PAPERSPACE_API_KEY": key}
        done = subprocess.run(
            command(action, *options, **variables),
            env=known,
            cwd=tmp_path,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert not key or key not in done.stdout + done.stderr
        return done

    return run


@pytest.fixture
def refused(play: Play) -> Callable[..., str]:
    """Run the playbook, check that it ends in one error that has a next step; return the error."""

    def run(*arguments: Any, **variables: Any) -> str:
        done = play(*arguments, **variables)
        assert done.returncode != 0, done.stdout
        output = done.stdout + done.stderr
        (message,) = [line for line in output.splitlines() if line.startswith("[ERROR]: ")]
        assert "Next: " in message, output
        return message

    return run


def printed(done: Done) -> str:
    """What a run printed, without the line ends at which Ansible folds a long text."""
    return " ".join(done.stdout.split())


def recap(done: Done) -> str:
    """What Ansible counts of a run that worked: ``changed=0`` and so on."""
    assert done.returncode == 0, done.stdout + done.stderr
    return next(line for line in done.stdout.splitlines() if "unreachable=" in line)
