"""The scripts of labs/containers, run by root and by somebody who is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

LABS = Path(__file__).parents[3] / "labs" / "containers"
Run = Callable[..., subprocess.CompletedProcess[str]]
NOBODY = "65534"


@pytest.fixture(params=["root", "rootless"])
def user(request: pytest.FixtureRequest) -> list[str]:
    """What stands before a command to run it as root, or as an ordinary user."""
    root = os.getuid() == 0
    if request.param == "root":
        if not root:
            pytest.skip("the tests do not run as root")
        return []
    drop = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"] if root else []
    done = subprocess.run(
        [*drop, "unshare", "--user", "--map-root-user", "--mount", "true"],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        pytest.skip(f"this kernel allows ordinary users no namespaces: {done.stderr.strip()}")
    return drop


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that another user may enter and write; pytest's own are closed."""
    folder = Path(tempfile.mkdtemp(prefix="mlk8s-containers-"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def script(user: list[str], open_folder: Path) -> Run:
    """Run a script of labs/containers with arguments, as that user."""

    def run(name: str, *arguments: object, stdin: str = "") -> subprocess.CompletedProcess[str]:
        # A copy: the repository may lie where another user cannot go.
        copied = shutil.copy(LABS / name, open_folder)
        return subprocess.run(
            [*user, copied, *map(str, arguments)],
            cwd=open_folder,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
