"""Recordings: what is refused when it is read, and what a write leaves behind."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from mlk8s import recordings
from mlk8s.errors import RecordingError
from mlk8s.gpu import catalogue
from mlk8s.provenance import Device, Kind, Provenance, Table
from mlk8s.recordings import DEFAULT, FOLDER, Entry

Run = Callable[..., CompletedProcess[str]]

DEVICE = Device("NVIDIA H100 80GB HBM3", "h100-sxm", "580.95.05", "13.0", 1980, 700.0, "disabled")
ORIGIN = Provenance(Kind.LIVE, "timed", "2026-05-01", DEVICE, {"torch": "2.13.0"})


def entry(
    value: Any, name: str = "test/rates", provenance: Provenance = ORIGIN, **params: Any
) -> Entry:
    return Entry(name, params, "timed", "0123456789abcdef", value, provenance)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder of recordings with a copy of the one that is shipped."""
    shutil.copytree(FOLDER / DEFAULT, tmp_path / DEFAULT)
    return tmp_path


def edit(path: Path, change: Callable[[Any], object], sign: bool = True) -> None:
    """Change a group file's content, with or without a checksum to match."""
    data = json.loads(path.read_text())
    change(data)
    if sign:
        data["sha256"] = recordings.checksum(data)
    path.write_text(json.dumps(data, indent=1))


def refused(folder: Path, name: str = DEFAULT) -> RecordingError:
    with pytest.raises(RecordingError) as caught:
        recordings.load(name, folder)
    return caught.value


# --- what is shipped ----------------------------------------------------------------------------


def test_the_shipped_recordings_are_sound() -> None:
    assert DEFAULT in recordings.names()
    for name in recordings.names():
        kept = recordings.load(name)
        assert kept.device.part == name == catalogue.get(name).id
        assert {"bench", "gpu", "host"} <= {e.name.split("/")[0] for e in kept.entries}
        calls = [(e.name, json.dumps(e.params, sort_keys=True)) for e in kept.entries]
        assert len(calls) == len(set(calls))
        for held in kept.entries:
            assert held.provenance.kind is Kind.RECORDED
            assert kept.get(held.name, held.params) is held


def test_the_shipped_recordings_are_what_the_writer_writes(tmp_path: Path) -> None:
    for name in recordings.names():
        written = recordings.write(tmp_path / name, recordings.load(name).entries)
        for path in written:
            assert path.read_bytes() == (FOLDER / name / path.name).read_bytes()
        assert recordings.load(name, tmp_path) == recordings.load(name)


# --- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["h100-sxm", "h200-sxm"])
def test_the_origins_are_the_runs_oldest_first(name: str) -> None:
    recording = recordings.load(name)
    dates = [run.date or "" for run in recording.origins]
    assert dates == sorted(dates)
    assert set(dates) == {e.provenance.date for e in recording.entries}
    assert {run.device for run in recording.origins} == {recording.device}
    assert recording.device.part == name


def test_a_missing_recording() -> None:
    with pytest.raises(RecordingError, match="There is no recording named 'h1000'") as caught:
        recordings.load("h1000")
    known = ", ".join(recordings.names())
    assert f"auto, recorded, live or one of: {known}" in caught.value.next_step


def test_a_missing_folder(tmp_path: Path) -> None:
    assert recordings.names(tmp_path / "nowhere") == []
    error = refused(tmp_path / "nowhere", "h100-sxm")
    assert "There is no recording" in error.problem
    assert "h100-sxm" in error.problem and "nowhere" in error.next_step


def test_a_folder_without_measurements_is_no_recording(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.json").write_text("{}")
    assert recordings.names(tmp_path) == []


@pytest.mark.parametrize(
    "text", ["", "{", '{"schema": 1,', "not json", '{"schema": 1} trailing', "\ufeff{}"]
)
def test_damaged_json(folder: Path, text: str) -> None:
    (folder / DEFAULT / "bench.json").write_text(text)
    error = refused(folder)
    assert error.problem.startswith("bench.json is not JSON: ")
    assert "git checkout -- bench.json" in error.next_step
    assert "`mlk8s record --only bench`" in error.next_step


def test_a_file_that_is_cut_off(folder: Path) -> None:
    path = folder / DEFAULT / "host.json"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    assert "host.json is not JSON" in refused(folder).problem


def test_bytes_that_are_no_text(folder: Path) -> None:
    (folder / DEFAULT / "gpu.json").write_bytes(b'{"schema": "\xff"}')
    assert "gpu.json is not JSON" in refused(folder).problem


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda d: d.pop("entries"), "data must contain ['entries']"),
        (lambda d: d.update(schema=2), "data.schema must be same as const definition: 1"),
        (lambda d: d.update(more=1), "data must not contain {'more'} properties"),
        (lambda d: d.update(entries=[]), "data.entries must contain at least 1 items"),
        (lambda d: d["entries"][0].pop("params"), "data.entries[0] must contain"),
        (lambda d: d["entries"][0].update(source="abc"), "data.entries[0].source must match"),
        (lambda d: d["entries"][0].update(name="matmul"), "data.entries[0].name must match"),
        (lambda d: d["entries"][0].update(origin=-1), "data.entries[0].origin must be bigger"),
        (lambda d: d["origins"][0].update(date="May 1"), "data.origins[0].date must match"),
        (lambda d: d["origins"][0].update(software={}), "data.origins[0].software must contain"),
        (lambda d: d["origins"][0]["device"].pop("driver"), "data.origins[0].device must contain"),
        (
            lambda d: d["origins"][0]["device"].update(serial="1650"),
            "data.origins[0].device must not contain {'serial'}",
        ),
    ],
)
def test_content_against_the_schema(
    folder: Path, change: Callable[[Any], object], says: str
) -> None:
    edit(folder / DEFAULT / "bench.json", change)
    error = refused(folder)
    assert error.problem.startswith(f"bench.json is damaged: {says}")
    assert "mlk8s record --only bench" in error.next_step


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d["entries"][0]["value"].update(median_ms=0.001),
        lambda d: d["entries"][0]["params"].update(n=4096),
        lambda d: d["entries"][0].update(source="0" * 16),
        lambda d: d["origins"][0].update(date="2027-01-01"),
        lambda d: d["origins"][0]["device"].update(power_limit_w=701.0),
        lambda d: d["entries"].pop(),
        lambda d: d.update(sha256="0" * 64),
    ],
)
def test_an_edit_does_not_pass(folder: Path, change: Callable[[Any], object]) -> None:
    edit(folder / DEFAULT / "bench.json", change, sign=False)
    error = refused(folder)
    assert error.problem == ("bench.json was changed after it was recorded: its checksum differs.")
    assert "git checkout" in error.next_step


def test_an_edited_digit_in_the_text(folder: Path) -> None:
    path = folder / DEFAULT / "bench.json"
    text = path.read_text()
    path.write_text(re.sub(r'("median_ms": \d+\.\d*?)(\d)(,)', r"\g<1>1\g<2>\g<3>", text, count=1))
    assert path.read_text() != text
    assert "checksum differs" in refused(folder).problem


def test_an_origin_that_is_not_there(folder: Path) -> None:
    edit(folder / DEFAULT / "bench.json", lambda d: d["entries"][0].update(origin=9))
    assert "names an origin that it does not hold" in refused(folder).problem


def test_two_devices_in_one_recording(folder: Path) -> None:
    edit(
        folder / DEFAULT / "bench.json",
        lambda d: d["origins"][0]["device"].update(name="NVIDIA H200"),
    )
    error = refused(folder)
    assert error.problem == (
        f"The recording {DEFAULT!r} mixes devices: {recordings.load().device.name}, NVIDIA H200."
    )
    assert "mlk8s record" in error.next_step


def test_a_reader_gets_one_sentence(
    library_copy: Path,
    process: Run,
    sentence: Callable[[CompletedProcess[str]], tuple[str, str]],
) -> None:
    (library_copy / "mlk8s" / "recordings" / DEFAULT / "bench.json").write_text("{")
    code = "from mlk8s.cli import main; main()"
    variables = {"PYTHONPATH": str(library_copy), "MLK8S_GPU": DEFAULT}
    problem, step = sentence(process("-c", code, "gpu", **variables))
    assert "bench.json is not JSON" in problem
    assert "git checkout -- bench.json" in step


# --- writing ------------------------------------------------------------------------------------


def test_a_round_trip_keeps_everything(tmp_path: Path) -> None:
    rows = [
        {"zeta": 1, "alpha": 2.5, "Größe [µm]": "ß", "none": None, "yes": True},
        {"zeta": 0, "alpha": 1e-300, "Größe [µm]": "", "none": None, "yes": False},
    ]
    entries = [
        entry(rows, sizes=[2, 4], scale=1.5),
        entry({"z": 1, "a": {"y": 2, "b": []}}, name="test/other"),
        entry("a text", name="more/text"),
    ]
    written = recordings.write(tmp_path / "fake", entries)
    assert [p.name for p in written] == ["test.json", "more.json"]
    kept = recordings.load("fake", tmp_path)
    found = kept.get("test/rates", {"scale": 1.5, "sizes": [2, 4]})
    assert found == replace(
        entries[0], provenance=replace(ORIGIN, kind=Kind.RECORDED), params=found.params
    )
    # The order of a row's columns is part of it: it is what a reader sees.
    assert [list(row) for row in found.value] == [list(row) for row in rows]
    assert Table(found.value, found.provenance).columns == list(rows[0])
    assert list(kept.get("test/other", {}).value["a"]) == ["y", "b"]
    assert kept.device == DEVICE


def test_a_call_replaces_itself_and_leaves_the_others(tmp_path: Path) -> None:
    machine = tmp_path / "fake"
    recordings.write(machine, [entry(1, n=1), entry(2, n=2)])
    later = replace(ORIGIN, date="2026-06-01", software={"torch": "2.14.0"})
    recordings.write(machine, [entry(20, provenance=later, n=2)])
    kept = recordings.load("fake", tmp_path)
    assert {e.params["n"]: e.value for e in kept.entries} == {1: 1, 2: 20}
    # Each value keeps the date and the software of its own measurement.
    assert kept.get("test/rates", {"n": 1}).provenance.date == "2026-05-01"
    assert kept.get("test/rates", {"n": 2}).provenance.date == "2026-06-01"
    assert dict(kept.get("test/rates", {"n": 2}).provenance.software) == {"torch": "2.14.0"}


def test_a_device_that_reports_no_clock_and_no_limit_can_be_recorded(tmp_path: Path) -> None:
    device = replace(DEVICE, max_sm_clock_mhz=None, power_limit_w=None, mig_mode="not supported")
    recordings.write(tmp_path / "fake", [entry(1, provenance=replace(ORIGIN, device=device))])
    assert recordings.load("fake", tmp_path).device == device


def test_the_same_entries_give_the_same_bytes(tmp_path: Path) -> None:
    entries = [entry(i, n=i) for i in range(3)]
    (one,) = recordings.write(tmp_path / "one", entries)
    (two,) = recordings.write(tmp_path / "two", reversed(entries))
    assert one.read_bytes() == two.read_bytes()


def test_an_interrupted_write_leaves_the_old_file(tmp_path: Path) -> None:
    machine = tmp_path / "fake"
    (path,) = recordings.write(machine, [entry(1, n=1)])
    before = path.read_bytes()
    with pytest.raises(TypeError):
        recordings.write(machine, [entry({"no": {"json"}}, n=2)])
    assert path.read_bytes() == before
    assert list(machine.iterdir()) == [path]
    assert len(recordings.load("fake", tmp_path).entries) == 1


def test_a_damaged_file_is_not_overwritten(tmp_path: Path) -> None:
    machine = tmp_path / "fake"
    (path,) = recordings.write(machine, [entry(1, n=1)])
    path.write_text("{")
    with pytest.raises(RecordingError, match="is not JSON"):
        recordings.write(machine, [entry(2, n=2)])
    assert path.read_text() == "{"


# --- difference ---------------------------------------------------------------------------------


def test_difference_names_each_changed_figure(tmp_path: Path) -> None:
    newer = replace(ORIGIN, device=replace(DEVICE, driver="590.1"), date="2026-06-01")
    recordings.write(
        tmp_path / "old",
        [
            entry([{"rate": 100.0, "text": "a"}, {"rate": 50.0, "text": "b"}], n=1),
            entry(1, name="test/gone"),
        ],
    )
    recordings.write(
        tmp_path / "new",
        [
            entry([{"rate": 103.0, "text": "a"}, {"rate": 50.0, "text": "c"}], n=1),
            entry(1, name="test/added"),
        ],
    )
    old, new = (recordings.load(name, tmp_path) for name in ("old", "new"))
    call = "test/rates(n=1)"
    nothing = "(the call)"
    assert recordings.diff(old, new) == [
        {
            "call": "test/added(no arguments)",
            "field": nothing,
            "old": "–",
            "new": "present",
            "change": "",
        },
        {
            "call": "test/gone(no arguments)",
            "field": nothing,
            "old": "present",
            "new": "–",
            "change": "",
        },
        {
            "call": call,
            "field": "value/0/rate",
            "old": "100.0",
            "new": "103.0",
            "change": "+3.0 %",
        },
        {"call": call, "field": "value/1/text", "old": "b", "new": "c", "change": ""},
    ]
    assert recordings.diff(old, old) == []
    recordings.write(tmp_path / "driver", [entry(1, name="test/gone", provenance=newer)])
    changed = recordings.diff(old, recordings.load("driver", tmp_path))
    assert {(r["field"], r["new"]) for r in changed if r["call"].startswith("test/gone")} == {
        ("date", "2026-06-01"),
        ("device/driver", "590.1"),
    }


def test_difference_of_lists_of_other_lengths(tmp_path: Path) -> None:
    recordings.write(tmp_path / "old", [entry([1, 2])])
    recordings.write(tmp_path / "new", [entry([1, 2, 0, True])])
    old, new = (recordings.load(name, tmp_path) for name in ("old", "new"))
    found = [(r["field"], r["old"], r["new"], r["change"]) for r in recordings.diff(old, new)]
    assert found == [("value/2", "–", "0", ""), ("value/3", "–", "True", "")]
