"""The server for a built site, and the parts of the extension that need no browser."""

from __future__ import annotations

import gzip
import os
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from mlk8s.course.site import open_server, serve, to_mathml
from mlk8s.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "index.html").write_text("<p>first</p>", encoding="utf-8")
    (tmp_path / "404.html").write_text("<p>not here</p>", encoding="utf-8")
    (tmp_path / "sub").mkdir()
    return tmp_path


def test_a_site_that_is_not_built_is_named_with_the_command_that_builds_it(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"no built site in .*make book"):
        serve(tmp_path, 0)


def test_a_port_in_use_is_named(folder: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UsageError, match=rf"Port {port} .*another program.*name another port"):
            serve(folder, port)


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_port_that_does_not_exist_is_named(folder: Path, port: int) -> None:
    with pytest.raises(UsageError, match=f"Port {port} does not exist"):
        open_server(folder, port)


def test_serves_until_interrupted(folder: Path) -> None:
    code = "import sys; from pathlib import Path; from mlk8s.course.site import serve; "
    process = subprocess.Popen(
        [sys.executable, "-c", code + "serve(Path(sys.argv[1]), 0)", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    url = process.stdout.readline().split()[4]
    with urllib.request.urlopen(url, timeout=5) as answer:
        assert answer.read() == b"<p>first</p>"
    for missing in ("nothing.html", "sub/"):  # a folder is not listed
        with pytest.raises(urllib.error.HTTPError) as caught:
            urllib.request.urlopen(url + missing, timeout=5)
        assert caught.value.code == 404
        assert caught.value.read() == b"<p>not here</p>"
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=5)
    assert process.returncode == 0
    assert errors == ""


def test_text_is_compressed_for_who_asks(folder: Path) -> None:
    (folder / "picture.png").write_bytes(b"\x89PNG" * 9)
    with open_server(folder, 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()

        def get(name: str, **headers: str) -> tuple[str | None, bytes]:
            url = f"http://127.0.0.1:{server.server_port}/{name}"
            request = urllib.request.Request(url, headers=headers)
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.headers["Content-Encoding"], answer.read()

        ask = {"Accept-Encoding": "gzip, br"}
        try:
            assert get("index.html") == (None, b"<p>first</p>")
            encoding, body = get("index.html", **ask)
            assert (encoding, gzip.decompress(body)) == ("gzip", b"<p>first</p>")
            assert get("picture.png", **ask)[0] is None
            (folder / "index.html").write_text("<p>second</p>", encoding="utf-8")
            os.utime(folder / "index.html", ns=(1, 1))
            assert gzip.decompress(get("index.html", **ask)[1]) == b"<p>second</p>"
            with pytest.raises(urllib.error.HTTPError, match="404"):
                get("nothing.html", **ask)
        finally:
            server.shutdown()
            thread.join()


def test_formula_becomes_mathml() -> None:
    mathml, problem = to_mathml(r"t \ge \frac{2mnk}{P}", "block")
    assert problem == ""
    assert mathml.startswith("<math") and "<mfrac>" in mathml and 'display="block"' in mathml


@pytest.mark.parametrize("latex", [r"\nosuchcommand{x}", r"x_1_2"])
def test_formula_that_cannot_be_drawn_is_reported(latex: str) -> None:
    assert to_mathml(latex, "inline")[1] != ""
