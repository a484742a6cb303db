"""``systemctl`` and ``shutdown``: units as files and processes, a restart of the machine."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
from itertools import pairwise
from pathlib import Path

from . import driver
from .calls import HOME, Failed, changed, state

_FOLDERS = (Path("/etc/systemd/system"), Path("/usr/lib/systemd/system"))
# Units that an Ubuntu server has; nothing of them runs here.
_STANDING = ("ssh.service", "snapd.service", "unattended-upgrades.service", "cron.service")


def main(argv: list[str]) -> int:
    """Answer one command."""
    words = [word for word in argv if not word.startswith("-")]
    if not words:
        raise Failed("Too few arguments.")
    verb, units = words[0], [_full(name) for name in words[1:]]
    if verb == "daemon-reload":
        with changed() as now:
            now["loaded"] = {str(f): f.read_text() for f in _FOLDERS[0].glob("*.service")}
        return 0
    if verb == "reboot":
        return shutdown([])
    if verb in ("show", "is-active", "is-enabled", "is-failed", "status", "cat"):
        return _ask(verb, units)
    if os.geteuid() != 0:
        raise Failed("Failed to connect: Interactive authentication required.")
    for unit in units:
        _change(verb, unit, "--now" in argv)
    return 0


def _full(name: str) -> str:
    return name if "." in name else f"{name}.service"


def _file(unit: str) -> Path | None:
    return next((f / unit for f in _FOLDERS if (f / unit).exists()), None)


def _ask(verb: str, units: list[str]) -> int:
    code = 0
    for unit in units:
        known = state()["units"].get(unit, {"enabled": False, "pid": 0})
        active = "active" if unit in _STANDING or _alive(known["pid"]) else "inactive"
        file = _file(unit)
        there = file is not None or unit in _STANDING
        enabled = "enabled" if known["enabled"] or unit in _STANDING else "disabled"
        if verb == "show":
            print(f"Id={unit}\nLoadState={'loaded' if there else 'not-found'}")
            print(f"ActiveState={active}\nSubState={'running' if active == 'active' else 'dead'}")
            print(f"UnitFileState={enabled if there else ''}\nMainPID={known['pid']}")
            loaded = state()["loaded"].get(str(file), "")
            stale = file is not None and loaded != file.read_text()
            print(f"FragmentPath={file or ''}\nNeedDaemonReload={'yes' if stale else 'no'}")
        elif verb == "is-enabled":
            print(enabled if there else "not-found")
            code = 0 if enabled == "enabled" else 1
        elif verb == "cat":
            print(file.read_text() if file else "")
            code = 0 if file else 1
        else:
            print(active)
            code = 0 if active == "active" else 3
    return code


def _alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return pid != 0 and stat.rpartition(")")[2].split()[0] != "Z"


def _change(verb: str, unit: str, at_once: bool) -> None:
    file = _file(unit)
    if file is None and unit not in _STANDING:
        raise Failed(f"Failed to {verb} {unit}: Unit {unit} not found.", 5)
    with changed() as now:
        known = now["units"].setdefault(unit, {"enabled": False, "pid": 0})
    if verb in ("enable", "disable"):
        known["enabled"] = verb == "enable"
        link = _FOLDERS[0] / "multi-user.target.wants" / unit
        link.parent.mkdir(parents=True, exist_ok=True)
        link.unlink(missing_ok=True)
        if known["enabled"] and file is not None:
            link.symlink_to(file)
    if verb in ("stop", "restart") and _alive(known["pid"]):
        os.killpg(known["pid"], signal.SIGKILL)
        known["pid"] = 0
    start = verb in ("start", "restart") or (verb == "enable" and at_once)
    if start and file is not None and not _alive(known["pid"]):
        known["pid"] = _start(unit, file)
    with changed() as now:
        now["units"][unit] = known


def _start(unit: str, file: Path) -> int:
    """Run what systemd has loaded of the unit, which an edited file is not yet."""
    service = _service(state()["loaded"].get(str(file), file.read_text()))
    environment = {"PATH": "/usr/local/bin:/usr/bin:/bin"}
    pairs = [pair for line in service.get("Environment", []) for pair in shlex.split(line)]
    for name in service.get("EnvironmentFile", []):
        pairs += [line for line in Path(name.lstrip("-")).read_text().splitlines() if "=" in line]
    environment |= {key: value for key, _, value in (pair.partition("=") for pair in pairs)}
    user = service.get("User", ["root"])[-1]
    command = shlex.split(service["ExecStart"][-1])
    if not Path(command[0]).exists():
        raise Failed(f"Job for {unit} failed because the control process exited with error code.")
    with (HOME / f"{unit}.log").open("ab") as log:
        process = subprocess.Popen(
            ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--", *command],
            cwd=service.get("WorkingDirectory", ["/"])[-1],
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    return process.pid


def _service(text: str) -> dict[str, list[str]]:
    """The section [Service]: keys may repeat, and a line may go on after a backslash."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("["):
            section = line.strip("[] ")
        elif section == "Service" and "=" in line and line[0] not in "#;":
            key, _, value = line.partition("=")
            found.setdefault(key.strip(), []).append(value.strip())
    return found


def journalctl(argv: list[str]) -> int:
    """What a unit's process has printed."""
    unit = next((after for word, after in pairwise(argv) if word in ("-u", "--unit")), "")
    log = HOME / f"{_full(unit)}.log"
    print(log.read_text() if log.exists() else "-- No entries --")
    return 0


def shutdown(argv: list[str]) -> int:
    """``-r`` is the only kind that a test machine comes back from."""
    (HOME / "reboot").touch()
    return 0


def boot(argv: list[str]) -> int:
    """What follows a start of the machine; called by its process 1."""
    driver.boot()
    with changed() as now:
        now["reboot_needed"] = False
        for unit in now["units"].values():
            unit["pid"] = 0
    main(["daemon-reload"])
    for name, unit in state()["units"].items():
        if unit["enabled"]:
            _change("start", name, False)
    return 0
