"""``nvidia-smi`` for devices that are simulated; it says so before anything else that it prints.

Options, field names, exit codes and error texts follow the real tool as its users know it; they
were not compared with a run of it. What only a real GPU could tell, such as temperatures, is
``N/A``. The module stands alone: in a container it runs as a program, with what is visible there
in a file.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

# What a container can see: driver, cuda, error (said instead of anything else), error_code, and
# gpus: name, uuid, bus, memory (MiB), watts, compute, architecture, mig ("Enabled", "Disabled" or
# "N/A") and instances (gi, uuid, profile, memory, sms, copy, encoder, decoder, ofa, jpeg).
Seen = dict[str, Any]

NOTICE = "# simulated by mlk8s: no GPU is behind this, and nothing here is measured"
_NONE = "No devices were found"
_LINE = (
    "+-----------------------------------------------------------------------------------------+"
)
_COLUMNS = """\
|-----------------------------------------+------------------------+----------------------+
| GPU  Name                 Persistence-M | Bus-Id          Disp.A | Volatile Uncorr. ECC |
| Fan  Temp   Perf          Pwr:Usage/Cap |           Memory-Usage | GPU-Util  Compute M. |
|                                         |                        |               MIG M. |
|=========================================+========================+======================|"""
_RULE = f"+{'-' * 41}+{'-' * 24}+{'-' * 22}+"
_MIG_COLUMNS = """\
| MIG devices:                                                                            |
+------------------+----------------------------------+-----------+-----------------------+
| GPU  GI  CI  MIG |                     Memory-Usage |        Vol|        Shared         |
|      ID  ID  Dev |                       BAR1-Usage | SM     Unc| CE ENC  DEC  OFA  JPG |
|                  |                                  |        ECC|                       |
|==================+==================================+===========+=======================|"""
_MIG_RULE = f"+{'-' * 18}+{'-' * 34}+{'-' * 11}+{'-' * 23}+"
_PROCESSES = """\
| Processes:                                                                              |
|  GPU   GI   CI              PID   Type   Process name                        GPU Memory |
|        ID   ID                                                               Usage      |
|=========================================================================================|
|  No running processes found                                                             |"""

# Exit codes: an invalid argument; nothing found.
_INVALID, _NOT_FOUND = 2, 6
_HELP = "Please run 'nvidia-smi -h' for help."


@dataclass(frozen=True)
class Answer:
    """What the tool does: its exit code, its output, and what goes to standard error."""

    code: int
    out: str
    err: str = ""


class _Refused(Exception):
    def __init__(self, message: str, code: int = _INVALID) -> None:
        super().__init__(message)
        self.code = code


def answer(seen: Seen, arguments: Sequence[str]) -> Answer:
    """One call of the tool.

    Args:
        seen: what is visible where it is called.
        arguments: of the command line, without the program's name.
    """
    try:
        options = _options(arguments)
        if seen["error"]:
            raise _Refused(seen["error"], seen["error_code"])
        chosen = _chosen(seen, options.get("id", ""))
        # A table for people begins with the notice; what programs read has it beside.
        if "query-gpu" in options:
            return Answer(0, _csv(seen, chosen, options), f"{NOTICE}\n")
        if "query-compute-apps" in options:
            return Answer(0, _applications(options), f"{NOTICE}\n")
        if "version" in options:
            text = _version(seen)
        elif "list" in options:
            text = _listing(chosen)
        elif "query" in options:
            text = _log(seen, chosen, options.get("display", ""))
        else:
            text = _table(seen, chosen)
    except _Refused as refusal:
        return Answer(refusal.code, f"{NOTICE}\n{refusal}\n")
    return Answer(0, f"{NOTICE}\n{text}\n")


# -- the command line ----------------------------------------------------------------------------

# spelling → (what it is, whether a value follows).
_OPTIONS = {
    "-L": ("list", False),
    "--list-gpus": ("list", False),
    "-q": ("query", False),
    "--query": ("query", False),
    "-d": ("display", True),
    "--display": ("display", True),
    "-i": ("id", True),
    "--id": ("id", True),
    "--query-gpu": ("query-gpu", True),
    "--query-compute-apps": ("query-compute-apps", True),
    "--format": ("format", True),
    "-l": ("loop", True),
    "--loop": ("loop", True),
    "--version": ("version", False),
}
# Of the real tool, but not of this one.
_UNKNOWN_HERE = (
    "topo",
    "nvlink",
    "mig",
    "dmon",
    "pmon",
    "daemon",
    "drain",
    "vgpu",
    "compute-policy",
)


def _options(arguments: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    rest = list(arguments)
    if rest and rest[0] in _UNKNOWN_HERE:
        raise _Refused(f"# simulated: nvidia-smi {rest[0]} is not modeled")
    while rest:
        given = rest.pop(0)
        spelled, equals, value = given.partition("=")
        if spelled not in _OPTIONS:
            raise _Refused(f"Invalid combination of input arguments. {_HELP}\n")
        name, takes = _OPTIONS[spelled]
        if takes and not equals:
            # The interval of -l may be left out, as its default.
            value = rest.pop(0) if rest and not rest[0].startswith("-") else ""
        if takes and not value and name != "loop":
            raise _Refused(f'Option "{spelled}" is missing its value. {_HELP}\n')
        found[name] = value
    for name in ("query-gpu", "query-compute-apps"):
        if name in found and "format" not in found:
            raise _Refused(f'"--format=" switch is missing. {_HELP}\n')
    return found


def _chosen(seen: Seen, wanted: str) -> list[tuple[int, Seen]]:
    """The GPUs with their numbers: all, or those that ``-i`` names."""
    gpus = list(enumerate(seen["gpus"]))
    if not gpus:
        raise _Refused(_NONE, _NOT_FOUND)
    if not wanted:
        return gpus
    chosen = []
    for each in wanted.split(","):
        found = [(i, gpu) for i, gpu in gpus if each in (str(i), gpu["uuid"], gpu["bus"])]
        if not found:
            raise _Refused(_NONE, _NOT_FOUND)
        chosen += found
    return chosen


# -- for programs --------------------------------------------------------------------------------

_Field = Callable[[Seen, int, Seen], object]
_NA = "[N/A]"


def _unknown(_seen: Seen, _index: int, _gpu: Seen) -> object:
    return _NA


def _idle(_seen: Seen, _index: int, gpu: Seen) -> object:
    # The whole GPU's utilization is not known where it is cut.
    return _NA if gpu["mig"] == "Enabled" else 0


def _mode(_seen: Seen, _index: int, gpu: Seen) -> object:
    return _NA if gpu["mig"] == "N/A" else gpu["mig"]


# field → (its unit, its value); other spellings of the same stand below.
_FIELDS: dict[str, tuple[str, _Field]] = {
    "timestamp": ("", lambda *_: time.strftime("%Y/%m/%d %H:%M:%S.000")),
    "count": ("", lambda seen, *_: len(seen["gpus"])),
    "index": ("", lambda _, index, __: index),
    "name": ("", lambda _, __, gpu: gpu["name"]),
    "uuid": ("", lambda _, __, gpu: gpu["uuid"]),
    "pci.bus_id": ("", lambda _, __, gpu: gpu["bus"]),
    "driver_version": ("", lambda seen, *_: seen["driver"]),
    "compute_cap": ("", lambda _, __, gpu: gpu["compute"]),
    "compute_mode": ("", lambda *_: "Default"),
    "persistence_mode": ("", lambda *_: "Enabled"),
    "pstate": ("", lambda *_: "P0"),
    "mig.mode.current": ("", _mode),
    "mig.mode.pending": ("", _mode),
    "memory.total": ("MiB", lambda _, __, gpu: gpu["memory"]),
    "memory.used": ("MiB", lambda *_: 0),
    "memory.free": ("MiB", lambda _, __, gpu: gpu["memory"]),
    "utilization.gpu": ("%", _idle),
    "utilization.memory": ("%", _idle),
    "power.limit": ("W", lambda _, __, gpu: f"{gpu['watts']:.2f}"),
    "power.default_limit": ("W", lambda _, __, gpu: f"{gpu['watts']:.2f}"),
    "power.draw": ("W", _unknown),
    "memory.reserved": ("MiB", _unknown),
    "fan.speed": ("%", _unknown),
    "clocks.current.sm": ("MHz", _unknown),
    "clocks.current.graphics": ("MHz", _unknown),
    "clocks.current.memory": ("MHz", _unknown),
    "clocks.max.sm": ("MHz", _unknown),
    "clocks.max.memory": ("MHz", _unknown),
    **dict.fromkeys(
        (
            "temperature.gpu",
            "temperature.memory",
            "serial",
            "vbios_version",
            "display_active",
            "display_mode",
            "ecc.mode.current",
            "ecc.errors.uncorrected.volatile.total",
            "pcie.link.gen.current",
            "pcie.link.width.current",
        ),
        ("", _unknown),
    ),
}
_SAME = {
    "gpu_name": "name",
    "gpu_uuid": "uuid",
    "gpu_bus_id": "pci.bus_id",
    "gpu_serial": "serial",
    "clocks.sm": "clocks.current.sm",
    "clocks.gr": "clocks.current.graphics",
    "clocks.mem": "clocks.current.memory",
}
_APPLICATION_UNITS = {
    "timestamp": "",
    "gpu_name": "",
    "gpu_bus_id": "",
    "gpu_uuid": "",
    "pid": "",
    "process_name": "",
    "name": "",
    "used_gpu_memory": "MiB",
    "used_memory": "MiB",
}


def _csv(seen: Seen, chosen: list[tuple[int, Seen]], options: dict[str, str]) -> str:
    names = [name.strip() for name in options["query-gpu"].split(",")]
    fields = []
    for name in names:
        if _SAME.get(name, name) not in _FIELDS:
            raise _Refused(f'Field "{name}" is not a valid field to query.\n')
        fields.append(_FIELDS[_SAME.get(name, name)])
    parts = _format(options["format"])
    lines = []
    if "noheader" not in parts:
        lines.append(_header(names, [unit for unit, _ in fields]))
    for index, gpu in chosen:
        row = []
        for unit, value in fields:
            found = value(seen, index, gpu)
            bare = "nounits" in parts or not unit or found == _NA
            row.append(f"{found}" if bare else f"{found} {unit}")
        lines.append(", ".join(row))
    return "".join(f"{line}\n" for line in lines)


def _applications(options: dict[str, str]) -> str:
    """No process runs on a simulated GPU: the header, or nothing."""
    names = [name.strip() for name in options["query-compute-apps"].split(",")]
    for name in names:
        if name not in _APPLICATION_UNITS:
            raise _Refused(f'Field "{name}" is not a valid field to query.\n')
    if "noheader" in _format(options["format"]):
        return ""
    return _header(names, [_APPLICATION_UNITS[name] for name in names]) + "\n"


def _format(text: str) -> list[str]:
    parts = text.split(",")
    if "csv" not in parts or set(parts) - {"csv", "noheader", "nounits"}:
        raise _Refused(f'Format "{text}" is not supported. {_HELP}\n')
    return parts


def _header(names: list[str], units: list[str]) -> str:
    # The unit is named in the header also where the rows leave it out.
    pairs = zip(names, units, strict=True)
    return ", ".join(f"{name} [{unit}]" if unit else name for name, unit in pairs)


# -- for people ----------------------------------------------------------------------------------


def _listing(chosen: list[tuple[int, Seen]]) -> str:
    lines = []
    for position, gpu in chosen:
        lines.append(f"GPU {position}: {gpu['name']} (UUID: {gpu['uuid']})")
        for index, each in enumerate(gpu["instances"]):
            lines.append(f"  MIG {each['profile']:<10} Device {index:>2}: (UUID: {each['uuid']})")
    return "\n".join(lines)


def _version(seen: Seen) -> str:
    library = ".".join(seen["driver"].split(".")[:2])
    return (
        f"NVIDIA-SMI version  : {seen['driver']}\nNVML version        : {library}\n"
        f"DRIVER version      : {seen['driver']}\nCUDA Version        : {seen['cuda']}"
    )


def _table(seen: Seen, chosen: list[tuple[int, Seen]]) -> str:
    """Idle GPUs without processes."""
    driver, cuda = seen["driver"], seen["cuda"]
    version = f"NVIDIA-SMI {driver:<23}Driver Version: {driver:<14} CUDA Version: {cuda:<9}"
    lines = [_LINE, f"| {version}|", _COLUMNS]
    for position, gpu in chosen:
        lines += _gpu(position, gpu)
    lines.append("")
    if any(gpu["instances"] for _, gpu in chosen):
        lines += [_LINE, _MIG_COLUMNS, *_mig(chosen), ""]
    return "\n".join([*lines, _LINE, _PROCESSES, _LINE])


def _gpu(position: int, gpu: Seen) -> list[str]:
    usage = "N/A" if gpu["mig"] == "Enabled" else "0%"
    bus = f"{gpu['bus']} Off"
    memory = f"0MiB / {gpu['memory']:>6}MiB"
    power = f"N/A / {gpu['watts']:>4}W"
    return [
        f"| {position:>3}  {gpu['name']:<31}On  | {bus:>22} | {'N/A':>20} |",
        f"| N/A   N/A    P0   {power:>21} | {memory:>22} | {usage:>7}      Default |",
        f"|{'':41}|{'':24}| {gpu['mig']:>20} |",
        _RULE,
    ]


def _mig(chosen: list[tuple[int, Seen]]) -> list[str]:
    lines = []
    for position, gpu in chosen:
        for index, each in enumerate(gpu["instances"]):
            memory = f"0MiB / {each['memory']}MiB"
            engines = (
                f"{each['copy']:>2}{each['encoder']:>4}{each['decoder']:>5}{each['ofa']:>5}"
                f"{each['jpeg']:>5}"
            )
            lines += [
                f"| {position:>2} {each['gi']:>4} {0:>3} {index:>4} | {memory:>32} "
                f"| {each['sms']:>3}    N/A | {engines} |",
                _MIG_RULE,
            ]
    return lines


_SECTIONS = ("MEMORY", "UTILIZATION", "POWER", "TEMPERATURE", "COMPUTE", "PIDS")


def _log(seen: Seen, chosen: list[tuple[int, Seen]], display: str) -> str:
    """``nvidia-smi -q``: the sections that have something to say."""
    wanted = [part.strip().upper() for part in display.split(",")] if display else []
    for each in wanted:
        if each not in _SECTIONS:
            raise _Refused(f"# simulated: nvidia-smi -q -d {each} is not modeled")
    rows = [
        "",
        "==============NVSMI LOG==============",
        "",
        _row(0, "Timestamp", time.strftime("%a %b %e %H:%M:%S %Y")),
        _row(0, "Driver Version", seen["driver"]),
        _row(0, "CUDA Version", seen["cuda"]),
        "",
        _row(0, "Attached GPUs", str(len(seen["gpus"]))),
    ]
    for _, gpu in chosen:
        rows.append(f"GPU {gpu['bus']}")
        if not wanted:
            rows += _identity(gpu)
        for name, section in zip(_SECTIONS, _sections(gpu), strict=True):
            if not wanted or name in wanted:
                rows += section
        rows.append("")
    return "\n".join(rows).rstrip()


def _row(depth: int, name: str, value: str) -> str:
    indent = " " * (4 * depth)
    return f"{indent}{name:<{50 - len(indent)}}: {value}"


def _identity(gpu: Seen) -> list[str]:
    rows = [
        _row(1, "Product Name", gpu["name"]),
        _row(1, "Product Architecture", gpu["architecture"]),
        _row(1, "Persistence Mode", "Enabled"),
        "    MIG Mode",
        _row(2, "Current", gpu["mig"]),
        _row(2, "Pending", gpu["mig"]),
    ]
    if gpu["mig"] == "Enabled":
        rows.append("    MIG Device")
    for index, each in enumerate(gpu["instances"]):
        rows += [
            _row(2, "Index", str(index)),
            _row(2, "GPU Instance ID", str(each["gi"])),
            _row(2, "Compute Instance ID", "0"),
            "        Device Attributes",
            "            Shared",
            _row(4, "Multiprocessor count", str(each["sms"])),
            _row(4, "Copy Engine count", str(each["copy"])),
            "        FB Memory Usage",
            _row(3, "Total", f"{each['memory']} MiB"),
            _row(3, "Used", "0 MiB"),
            _row(3, "Free", f"{each['memory']} MiB"),
        ]
    return [
        *rows,
        _row(1, "GPU UUID", gpu["uuid"]),
        "    PCI",
        _row(2, "Bus Id", gpu["bus"]),
    ]


def _sections(gpu: Seen) -> list[list[str]]:
    usage = "N/A" if gpu["mig"] == "Enabled" else "0 %"
    return [
        [
            "    FB Memory Usage",
            _row(2, "Total", f"{gpu['memory']} MiB"),
            _row(2, "Reserved", "N/A"),
            _row(2, "Used", "0 MiB"),
            _row(2, "Free", f"{gpu['memory']} MiB"),
        ],
        ["    Utilization", _row(2, "GPU", usage), _row(2, "Memory", usage)],
        [
            "    GPU Power Readings",
            _row(2, "Average Power Draw", "N/A"),
            _row(2, "Current Power Limit", f"{gpu['watts']:.2f} W"),
        ],
        ["    Temperature", _row(2, "GPU Current Temp", "N/A")],
        [_row(1, "Compute Mode", "Default")],
        [_row(1, "Processes", "None")],
    ]


def main(arguments: Sequence[str]) -> int:
    """Run as a program: a file with what is seen, then the arguments of the command."""
    file, *rest = arguments
    while True:
        with open(file, encoding="utf-8") as text:
            found = answer(json.load(text), rest)
        sys.stdout.write(found.out)
        sys.stdout.flush()
        sys.stderr.write(found.err)
        sys.stderr.flush()
        pause = interval(rest)
        if found.code or pause is None:
            return found.code
        time.sleep(pause)


def interval(arguments: Sequence[str]) -> float | None:
    """Seconds between repetitions, where the arguments ask for them (``-l``; 5 by default)."""
    try:
        text = _options(arguments).get("loop")
    except _Refused:
        return None
    return None if text is None else float(text or 5)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
