"""JupyterLab as `mlk8s lab` starts it: on loopback, closed without its token, gone after Ctrl-C."""

import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest


def status(url: str) -> int:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as error:
        return error.code


@pytest.fixture
def port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_lab_needs_its_token_and_stops(tmp_path: Path, port: int) -> None:
    (tmp_path / "notebooks").mkdir()
    command = [sys.executable, "-m", "mlk8s.cli", "lab", "--port", str(port)]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as lab:
        try:
            assert lab.stdout is not None
            found = re.search(r"(http://127\.0\.0\.1:\d+)/lab\?token=(\S+)", lab.stdout.readline())
            assert found, "the first line names the address and the token"
            base, token = found.groups()
            assert base.endswith(f":{port}")
            deadline = time.monotonic() + 30
            while True:
                try:
                    assert status(f"{base}/api/contents") == 403
                    break
                except urllib.error.URLError:
                    assert time.monotonic() < deadline, "JupyterLab did not answer within 30 s"
                    time.sleep(0.2)
            assert status(f"{base}/api/contents?token={token}") == 200
            listening = Path("/proc/net/tcp").read_text()
            # 0100007F is 127.0.0.1; any other address would be open to the network.
            assert f"0100007F:{port:04X}" in listening
            assert f"00000000:{port:04X}" not in listening
            command_line = Path(f"/proc/{lab.pid}/cmdline").read_bytes()
            assert token.encode() not in command_line
        finally:
            lab.send_signal(signal.SIGTERM)
            lab.wait(timeout=20)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))  # free again
