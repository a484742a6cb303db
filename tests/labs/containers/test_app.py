"""What the images run: the training, the model that it writes, and the server on it."""

from __future__ import annotations

import http.client
import json
import math
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.labs.containers.conftest import LABS
from tests.labs.containers.test_images import health_check, healthy

APP = LABS / "app"


def run(program: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, APP / program, *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    path, beat = folder / "model.pt", folder / "heartbeat"
    done = run("train.py", "--device", "cpu", "--out", path, "--heartbeat", beat)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == f"wrote {path}"
    assert beat.exists()
    # Whole or not at all: the file that was written first is gone.
    assert sorted(each.name for each in folder.iterdir()) == ["heartbeat", "model.pt"]
    return path


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[str]:
    options = ["--device", "cpu", "--model", str(model), "--host", "127.0.0.1", "--port", "0"]
    with subprocess.Popen(
        [sys.executable, APP / "serve.py", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line.startswith("listening on port "), line
        yield line.split()[3].rstrip(",")
        process.terminate()
        # Not by the signal: it ends by itself, and well.
        assert process.wait(10) == 0


def ask(port: str, path: str, body: bytes | None = None) -> tuple[int, object]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", body, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def test_it_has_learned_the_sine(server: str) -> None:
    xs = [-3.0, -1.5, 0.0, 0.5, 3.0]
    status, answer = ask(server, "/predict", json.dumps({"x": xs}).encode())
    assert status == 200
    assert isinstance(answer, dict)
    assert answer["y"] == pytest.approx([math.sin(x) for x in xs], abs=0.05)


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/predict", b'{"y": [1]}', 400),
        ("/predict", b'{"x": ["one"]}', 400),
        ("/predict", b'{"x": [[1], [1, 2]]}', 400),
        ("/predict", b"[1]", 400),
        ("/predict", b"no JSON", 400),
        ("/predict", b"\xff", 400),
        ("/predict", b"", 413),
        ("/elsewhere", b"{}", 404),
        ("/elsewhere", None, 404),
    ],
)
def test_bad_requests_get_an_error_and_the_server_lives(
    server: str, path: str, body: bytes | None, status: int
) -> None:
    found, answer = ask(server, path, body)
    assert found == status
    assert isinstance(answer, dict) and list(answer) == ["error"]
    assert ask(server, "/healthz") == (200, {"device": "cpu"})


def test_a_body_that_is_too_large_is_refused_before_it_is_read(server: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", int(server), timeout=10)
    connection.putrequest("POST", "/predict")
    connection.putheader("Content-Length", str(2**40))
    connection.endheaders()
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())) == (413, {"error": "send 1 to 1048576 bytes"})
    connection.close()


def test_the_health_check_of_the_image_asks_it(server: str) -> None:
    assert healthy(health_check("inference"), "8000", server)
    assert not healthy(health_check("inference"), "8000", "1")


def test_without_a_model_it_ends(tmp_path: Path) -> None:
    done = run("serve.py", "--device", "cpu", "--model", tmp_path / "none.pt")
    assert done.returncode == 1
    assert done.stderr.startswith(
        f"There is no model at {tmp_path}/none.pt. Next: mount the volume"
    )


def test_without_a_gpu_it_does_not_take_the_cpu(model: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    for program, option in (("serve.py", "--model"), ("train.py", "--out")):
        done = run(program, option, model)
        assert done.returncode == 1
        assert "There is no usable GPU in this container. Next: start it with" in done.stderr
