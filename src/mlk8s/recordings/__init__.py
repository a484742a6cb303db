"""What named GPUs did, stored as JSON: one folder for each machine, one file for each group.

A group is the part of a measurement's name before the slash: ``host`` (command transcripts),
``gpu`` (the probe), ``bench`` (the library's benchmarks), ``ch1`` (the cells of chapter 1). Files
are written by ``mlk8s record`` on the hardware and by nothing else: each carries a checksum, so
that an edited figure is refused.
"""

from __future__ import annotations

import hashlib
import json
import os
import reprlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from mlk8s.errors import NotRecorded, RecordingError
from mlk8s.provenance import Device, Kind, Provenance

FOLDER = Path(__file__).parent
DEFAULT = "h100-sxm"


@dataclass(frozen=True)
class Entry:
    """One recorded call.

    Attributes:
        name: ``group/measurement``.
        params: the arguments of the call.
        method: how it was measured, one sentence.
        source: hash of the code that was run.
        value: what it returned, as JSON.
        provenance: device, software and date of the recording.
    """

    name: str
    params: Mapping[str, Any]
    method: str
    source: str
    value: Any
    provenance: Provenance


@dataclass(frozen=True)
class Recording:
    """All that was recorded on one machine."""

    name: str
    entries: tuple[Entry, ...]

    @property
    def device(self) -> Device:
        """The machine's GPU."""
        device = self.entries[0].provenance.device
        assert device is not None  # the schema requires it
        return device

    @property
    def origins(self) -> tuple[Provenance, ...]:
        """The runs that it was recorded in, oldest first: date, device and software of each."""
        runs = dict.fromkeys(
            replace(e.provenance, method="read from the recording") for e in self.entries
        )
        return tuple(sorted(runs, key=lambda run: run.date or ""))

    def get(self, name: str, params: Mapping[str, Any]) -> Entry:
        """The entry of a call.

        Raises:
            NotRecorded: there is none; the message lists what the recording holds.
        """
        same = [e for e in self.entries if e.name == name]
        for entry in same:
            if entry.params == params:
                return entry
        if same:
            held = "; ".join(_brief(e.params) for e in same)
            asked = f"{name} with {_brief(params)}"
            hint = f"ask for one that it holds: {held}"
        else:
            names = sorted({e.name for e in self.entries})
            asked, hint = name, f"ask for one that it holds: {', '.join(names)}"
        raise NotRecorded(
            f"The recording {self.name!r} does not hold {asked}.",
            f"{hint}; or measure it with MLK8S_GPU=live on a GPU machine.",
        )


def _call(params: Mapping[str, Any]) -> str:
    return ", ".join(f"{k}={v!r}" for k, v in params.items()) or "no arguments"


def _brief(params: Mapping[str, Any]) -> str:
    """A call for a person: a program that is an argument is not shown whole."""
    short = reprlib.Repr()
    short.maxstring, short.maxlist = 60, 20
    return ", ".join(f"{k}={short.repr(v)}" for k, v in params.items()) or "no arguments"


def names(folder: Path = FOLDER) -> list[str]:
    """The machines that have a recording."""
    if not folder.is_dir():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and any(p.glob("*.json")))


@cache
def load(name: str = DEFAULT, folder: Path = FOLDER) -> Recording:
    """Read a recording and check it against its schema and its checksums.

    Args:
        name: a machine's folder name, such as ``h100-sxm``.
        folder: where the recordings are.

    Raises:
        RecordingError: there is no such recording, or a file of it is damaged.
    """
    if name not in names(folder):
        if folder != FOLDER:
            held = ", ".join(names(folder)) or "no recording"
            raise RecordingError(
                f"There is no recording {folder / name}.", f"name one that {folder} has: {held}."
            )
        raise RecordingError(
            f"There is no recording named {name!r}.",
            f"set MLK8S_GPU to auto, recorded, live or one of: {', '.join(names(folder))}.",
        )
    entries = [e for path in sorted((folder / name).glob("*.json")) for e in _read(path)]
    devices = {e.provenance.device.name for e in entries if e.provenance.device}
    if len(devices) > 1:
        raise RecordingError(
            f"The recording {name!r} mixes devices: {', '.join(sorted(devices))}.",
            "record the whole machine again with `mlk8s record`.",
        )
    return Recording(name, tuple(entries))


@cache
def _validator() -> Callable[[Any], Any]:
    """The check of a group file against its schema, compiled once."""
    import fastjsonschema

    schema = json.loads((FOLDER / "schema.json").read_text(encoding="utf-8"))
    check: Callable[[Any], Any] = fastjsonschema.compile(schema, use_default=False)
    return check


def _read(path: Path) -> list[Entry]:
    """The entries of one group file, checked."""
    restore = f"restore it with `git checkout -- {path.name}` in {path.parent.name}/, or record "
    restore += f"it again on the hardware with `mlk8s record --only {path.stem}`."
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        _validator()(data)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RecordingError(f"{path.name} is not JSON: {error}.", restore) from error
    except ValueError as error:
        # fastjsonschema's error is a ValueError whose message says where: "data.origins[0] must…".
        raise RecordingError(f"{path.name} is damaged: {error}.", restore) from error
    if data["sha256"] != checksum(data):
        raise RecordingError(
            f"{path.name} was changed after it was recorded: its checksum differs.", restore
        )
    entries = []
    for entry in data["entries"]:
        if entry["origin"] >= len(data["origins"]):
            raise RecordingError(f"{path.name} names an origin that it does not hold.", restore)
        origin = data["origins"][entry["origin"]]
        provenance = Provenance(
            Kind.RECORDED,
            entry["method"],
            origin["date"],
            Device(**origin["device"]),
            origin["software"],
        )
        fields = {k: entry[k] for k in ("name", "params", "method", "source", "value")}
        entries.append(Entry(**fields, provenance=provenance))
    return entries


def checksum(data: Mapping[str, Any]) -> str:
    """SHA-256 over everything in a group file but the checksum itself."""
    rest = {k: v for k, v in data.items() if k != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()


def write(folder: Path, entries: Iterable[Entry]) -> list[Path]:
    """Add entries to the group files of a folder, replacing those of the same call.

    Every entry keeps the device, software and date of its own measurement. Each file is written
    whole and moved into place, so an interruption leaves the old one.

    Args:
        folder: the machine's folder; created if missing.
        entries: what was measured.

    Returns:
        The files written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    groups: dict[str, list[Entry]] = {}
    for entry in entries:
        groups.setdefault(entry.name.split("/")[0], []).append(entry)
    written = []
    for group, fresh in groups.items():
        path = folder / f"{group}.json"
        calls = {(e.name, _call(e.params)): e for e in _read(path)} if path.exists() else {}
        calls |= {(e.name, _call(e.params)): e for e in fresh}
        origins: list[dict[str, Any]] = []
        listed = []
        for _, entry in sorted(calls.items()):
            origin = _origin(entry.provenance)
            if origin not in origins:
                origins.append(origin)
            fields = {k: getattr(entry, k) for k in ("name", "method", "source", "value")}
            fields |= {"params": dict(entry.params), "origin": origins.index(origin)}
            listed.append(fields)
        data: dict[str, Any] = {"schema": 1, "group": group, "origins": origins, "entries": listed}
        data["sha256"] = checksum(data)
        temporary = path.with_suffix(".tmp")
        text = json.dumps(data, indent=1)
        # Not sorted: the order of a row's columns is part of it.
        temporary.write_text(text + "\n", encoding="utf-8")
        os.replace(temporary, path)
        written.append(path)
    return written


def _origin(provenance: Provenance) -> dict[str, Any]:
    assert provenance.device is not None  # what is recorded was measured on a device
    return {
        "date": provenance.date,
        "device": asdict(provenance.device),
        "software": dict(provenance.software),
    }


def diff(old: Recording, new: Recording) -> list[dict[str, str]]:
    """What changed between two recordings, one row a changed figure.

    Returns:
        Rows with ``call``, ``field``, ``old``, ``new`` and ``change`` (percent, for numbers).
    """
    before = {f"{e.name}({_call(e.params)})": e for e in old.entries}
    after = {f"{e.name}({_call(e.params)})": e for e in new.entries}
    rows = []
    for call in sorted(before.keys() | after.keys()):
        a, b = before.get(call), after.get(call)
        if a is None or b is None:
            there = ("–", "present") if a is None else ("present", "–")
            rows.append(_change(call, "(the call)", *there))
            continue
        flat_a = dict(_flatten({"source": a.source, **_origin(a.provenance), "value": a.value}))
        flat_b = dict(_flatten({"source": b.source, **_origin(b.provenance), "value": b.value}))
        for key in [*flat_a, *(k for k in flat_b if k not in flat_a)]:
            if flat_a.get(key) != flat_b.get(key):
                rows.append(_change(call, key, flat_a.get(key, "–"), flat_b.get(key, "–")))
    return rows


def _flatten(value: Any, path: str = "") -> Iterable[tuple[str, Any]]:
    """Leaf values with their path; lists are numbered."""
    if isinstance(value, Mapping):
        items: Iterable[tuple[Any, Any]] = value.items()
    elif isinstance(value, list):
        items = enumerate(value)
    else:
        yield path, value
        return
    for key, item in items:
        yield from _flatten(item, f"{path}/{key}" if path else str(key))


def _change(call: str, field: str, old: Any, new: Any) -> dict[str, str]:
    numbers = all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in (old, new))
    percent = f"{100 * (new - old) / old:+.1f} %" if numbers and old else ""
    return {"call": call, "field": field, "old": str(old), "new": str(new), "change": percent}
