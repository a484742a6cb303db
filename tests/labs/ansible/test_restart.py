"""A driver that needs a restart: the run says so, or restarts the machine where it may."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import New
from .machine import Machine
from .playbook import play


def works(machine: Machine) -> bool:
    return "580.95.05" in machine.run("nvidia-smi", check=False)


def test_without_permission_it_says_so_and_goes_on_after_a_restart(new: New) -> None:
    machine = new(reboot_needed=True)
    for _ in range(2):
        run = play(machine, only="driver")
        assert run.failed == "driver : Stop, since restarting is not allowed", run.output
        for word in (
            "ubuntu@192.0.2.11 needs a restart: the new module is not for the running kernel",
            "couldn't communicate with the NVIDIA driver",
            "Next: restart it (sudo reboot)",
            "ARGS='-e allow_reboot=true'",
        ):
            assert word in run.message
        assert machine.state["boots"] == 1
    held = machine.run("apt-mark showhold").split()
    assert "libnvidia-compute-580-server" in held, "an upgrade in between would need another one"
    machine.restart()
    play(machine, only="driver").check()
    assert works(machine)
    assert play(machine, only="driver").check().changes == ()


def test_with_permission_it_restarts_the_machine(new: New) -> None:
    machine = new(nouveau=True, nouveau_at_boot=True)
    play(machine, only="driver", allow_reboot=True).check()
    assert machine.state["boots"] == 2 and works(machine)
    assert "blacklist nouveau" in machine.run("cat /etc/modprobe.d/mlk8s-nouveau.conf")
    lines = [call.line for call in machine.calls()]
    assert lines.index("update-initramfs -u") < next(
        i for i, line in enumerate(lines) if line.startswith("shutdown ")
    )


@pytest.mark.parametrize(
    ("branch", "loaded", "reason", "permission"),
    [
        # Its packages were upgraded while the module was in use: nothing is to be installed.
        (580, "580.65.06", "version mismatch", {}),
        (570, "570.195.03", "an older driver module is loaded", {"allow_driver_replace": True}),
    ],
)
def test_a_driver_that_is_there_and_not_right(
    new: New, branch: int, loaded: str, reason: str, permission: dict[str, Any]
) -> None:
    machine = new()
    machine.install_driver(branch)
    machine.set(nvidia=loaded)
    run = play(machine, only="driver", **permission)
    assert run.failed == "driver : Stop, since restarting is not allowed", run.output
    assert reason in run.message
    installs = [call for call in machine.calls() if call.line.startswith("ubuntu-drivers install")]
    assert len(installs) == len(permission)
    machine.restart()
    play(machine, only="driver", **permission).check()
    assert works(machine)


def test_a_restart_that_does_not_help_is_not_tried_again(new: New) -> None:
    machine = new(secure_boot=True, signed=False)
    run = play(machine, only="driver", allow_reboot=True)
    assert run.failed == "driver : Stop if the restart did not help", run.output
    assert machine.state["boots"] == 2
    # Somebody enrolls a key, and something else is wrong still.
    machine.set(secure_boot=False, reboot_needed=True)
    run = play(machine, only="driver", allow_reboot=True)
    assert run.failed == "driver : Stop if the restart has been and did not help", run.output
    assert machine.state["boots"] == 2
    assert "Next: on the machine, look at sudo dmesg" in run.message
    assert "modprobe nvidia: modprobe: ERROR: could not insert 'nvidia'" in run.message
