"""Host commands: what is shown of them, and what identifies a machine and is removed."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from subprocess import CompletedProcess
from typing import Any

import pytest

from mlk8s import recordings
from mlk8s.errors import RecordingError
from mlk8s.gpu import host
from mlk8s.gpu.host import REMOVED, scrub
from mlk8s.provenance import Kind

Run = Callable[..., CompletedProcess[str]]

LIVE = """
import json, sys
from mlk8s.errors import Mlk8sError
from mlk8s.gpu import host
try:
    found = host.run(*json.loads(sys.argv[1]))
    print(json.dumps({"lines": found.lines, "kind": found.provenance.kind, "text": repr(found)}))
except Mlk8sError as error:
    print(json.dumps({"error": type(error).__name__, "text": str(error)}))
"""


def live(on_gpu: Run, *arguments: object) -> Any:
    done = on_gpu("-c", LIVE, json.dumps(arguments))
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# --- live ---------------------------------------------------------------------------------------


def test_output_and_errors_in_their_order(on_gpu: Run) -> None:
    found = live(on_gpu, "echo one; echo two >&2; echo '  three  '; echo; echo four")
    assert found["lines"] == ["one", "two", "  three", "", "four"]
    assert found["kind"] == "live"
    assert found["text"].startswith("$ echo one; echo two >&2;")


def test_a_failure_shows_its_exit_status(on_gpu: Run) -> None:
    found = live(on_gpu, "echo before; exit 9")
    assert found["lines"] == ["before", "[exit status 9]"]
    missing = live(on_gpu, "no-such-command-anywhere")
    assert "command not found" in missing["lines"][0]
    assert missing["lines"][-1] == "[exit status 127]"


def test_what_identifies_the_machine_is_removed(on_gpu: Run) -> None:
    found = live(on_gpu, "echo GPU UUID : GPU-01234567-89ab-cdef-0123-456789abcdef; echo a b")
    assert found["lines"] == [f"GPU UUID : {REMOVED}", "a b"]


def test_bytes_that_are_no_text_do_not_stop_it(on_gpu: Run) -> None:
    assert live(on_gpu, r"printf 'a\xffb\n'")["lines"] == ["a\N{REPLACEMENT CHARACTER}b"]


def test_a_command_cannot_wait_for_input(on_gpu: Run) -> None:
    assert live(on_gpu, "cat; echo done", 20)["lines"] == ["done"]


def test_a_command_that_takes_too_long_is_stopped(on_gpu: Run) -> None:
    found = live(on_gpu, "sleep 30", 0.2)
    assert found["error"] == "UsageError"
    assert "`sleep 30` did not end within 0.2 s" in found["text"]
    assert "Next: run it by hand" in found["text"]


# --- recorded -----------------------------------------------------------------------------------


@pytest.fixture
def recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLK8S_GPU", "h100-sxm")


@pytest.mark.usefixtures("recorded")
def test_a_recorded_command() -> None:
    found = host.run("nvidia-smi")
    assert found.provenance.kind is Kind.RECORDED
    assert any("H100" in line for line in found.lines)
    assert repr(found).splitlines()[0] == "$ nvidia-smi"
    kept = found.grep("Driver Version")
    assert kept.command == "nvidia-smi | grep -E 'Driver Version'"
    assert len(kept.lines) == 1 and "CUDA Version" in kept.lines[0]


@pytest.mark.usefixtures("recorded")
def test_a_command_that_was_not_recorded_is_refused_with_those_that_were() -> None:
    with pytest.raises(RecordingError, match="does not hold host/command") as caught:
        host.run("nvidia-smi --no-such-option")
    assert "'nvidia-smi topo -m'" in caught.value.next_step


def test_a_transcript_is_escaped_and_shows_its_source() -> None:
    entry = recordings.load().entries[0]
    transcript = host.Transcript("echo '<b>' && true", ("a <i>", "b & c"), entry.provenance)
    page = transcript._repr_html_()
    assert "$ echo &#x27;&lt;b&gt;&#x27; &amp;&amp; true" in page
    assert "a &lt;i&gt;\nb &amp; c" in page
    assert page.endswith(entry.provenance._repr_html_())


def test_the_recordings_name_no_machine() -> None:
    for name in recordings.names():
        for entry in recordings.load(name).entries:
            text = json.dumps(entry.value, indent=1)
            assert scrub(text) == text, (name, entry.name)


# --- scrub --------------------------------------------------------------------------------------

UUID = "01234567-89ab-cdef-0123-456789abcdef"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (f"    GPU UUID              : GPU-{UUID}", f"    GPU UUID              : {REMOVED}"),
        (f"uuid\nGPU-{UUID}\nMIG-{UUID}", f"uuid\n{REMOVED}\n{REMOVED}"),
        (f"GPU-{UUID.upper()},", f"{REMOVED},"),
        (f"GPU 0: NVIDIA H100 (UUID: GPU-{UUID})", f"GPU 0: NVIDIA H100 (UUID: {REMOVED})"),
        ("    Serial Number         : 1650123456789", f"    Serial Number         : {REMOVED}"),
        ("  Chassis Serial Number   : ABC-123", f"  Chassis Serial Number   : {REMOVED}"),
        ("  GPU Fabric GUID         : 0xa1b2c3d4", f"  GPU Fabric GUID         : {REMOVED}"),
        (f"  ClusterUUID             : {UUID}", f"  ClusterUUID             : {REMOVED}"),
        ("  GPU PDI                 : 0x123456789", f"  GPU PDI                 : {REMOVED}"),
        ("\x1b[1;31mred\x1b[0m and \x1b[mplain", "red and plain"),
    ],
)
def test_identifiers_are_removed(text: str, expected: str) -> None:
    assert scrub(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "    Serial Number         : N/A",
        "    GPU Fabric GUID       : N/A",
        "    Board Part Number     : 692-2G520-0200-000",
        "    GPU Part Number       : 2330-885-A1",
        "    FRU Part Number       : N/A",
        "    Minor Number          : 0",
        "    Bus Id                : 00000000:18:00.0",
        "    VBIOS Version         : 96.00.99.00.01",
        "    Board ID              : 0x1800",
        "GPU-Util  Compute M.",
        "[N/A] and GPU-0",
    ],
)
def test_what_identifies_no_machine_is_kept(text: str) -> None:
    assert scrub(text) == text


@pytest.mark.parametrize("name", ["node-17.example.com", "trainer+1"])
def test_the_host_name_is_removed(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "gethostname", lambda: name)
    assert scrub(f"on {name}: x{name}x") == f"on {REMOVED}: x{name}x"
    assert scrub("node-17xexample.com trainerr1") == "node-17xexample.com trainerr1"


def test_a_short_host_name_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    # It would tear other words apart, and identifies nobody.
    monkeypatch.setattr(socket, "gethostname", lambda: "node")
    assert scrub("NUMA node 0") == "NUMA node 0"


def test_scrubbing_twice_changes_nothing() -> None:
    once = scrub(f"Serial Number : 1650123456789 (UUID: GPU-{UUID}) GPU PDI : N/A")
    assert scrub(once) == once == f"Serial Number : {REMOVED} (UUID: {REMOVED}) GPU PDI : N/A"
