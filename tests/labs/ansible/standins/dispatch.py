"""Calls the stand-in whose name the program was called by."""

from __future__ import annotations

import sys

from .calls import Program, run


def main() -> None:
    """``python3 /opt/standins NAME ARGUMENTS``."""
    sys.exit(run(program(sys.argv[1]), sys.argv[1:], inner=sys.argv[1] == "boot"))


def program(name: str) -> Program:
    """The stand-in of a name; its module is imported only when it is called."""
    if name == "snap":
        from . import snap

        return snap.main
    if name == "microk8s":
        from . import microk8s

        return microk8s.main
    if name in ("systemctl", "journalctl", "shutdown", "boot"):
        from . import systemctl

        return {
            "systemctl": systemctl.main,
            "journalctl": systemctl.journalctl,
            "shutdown": systemctl.shutdown,
            "boot": systemctl.boot,
        }[name]
    if name == "make":
        from . import make

        return make.main
    from . import driver

    return driver.PROGRAMS[name]
