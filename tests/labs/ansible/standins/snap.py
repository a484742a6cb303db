"""``snap``: what the playbook asks of snapd, for the one snap microk8s."""

from __future__ import annotations

import argparse
import grp
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from .calls import HOME, Failed, changed, state

CHANNELS = {
    "1.34/stable": ("v1.34.1", "8485"),
    "1.35/stable": ("v1.35.0", "8612"),
    "1.36/stable": ("v1.36.0", "8790"),
    "latest/stable": ("v1.36.0", "8790"),
}
_DATA = Path("/var/snap/microk8s/8612")
CURRENT = Path("/var/snap/microk8s/current")
_TEMPLATE = """\
version = 3
[plugins."io.containerd.cri.v1.runtime".containerd]
  default_runtime_name = "${RUNTIME}"
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "${RUNTIME_TYPE}"
"""
_NOT_INSTALLED = 'error: snap "{}" is not installed'


def main(argv: list[str]) -> int:
    """Answer one command."""
    commands = {
        "list": _list,
        "install": _install,
        "refresh": _refresh,
        "info": _info,
        "restart": _restart,
        "remove": _remove,
        "wait": lambda rest: 0,
        "watch": lambda rest: 0,
        "version": _version,
    }
    if not argv or argv[0] not in commands:
        raise Failed(f"error: unknown command \"{' '.join(argv)}\", see 'snap help'.", 64)
    if argv[0] not in ("list", "info", "version", "wait", "watch") and os.geteuid() != 0:
        raise Failed("error: access denied (try with sudo)")
    return commands[argv[0]](argv[1:])


def _list(argv: list[str]) -> int:
    names = [name for name in argv if not name.startswith("-")]
    snaps = {k: v for k, v in state()["snaps"].items() if not names or k in names}
    if not snaps:
        raise Failed(
            "error: no matching snaps installed" if names else "No snaps are installed yet."
        )
    print(f"{'Name':<9} {'Version':<8} {'Rev':<5} {'Tracking':<13} {'Publisher':<10}  Notes")
    for name, snap in snaps.items():
        notes = ",".join([snap["confinement"], *(["held"] if snap["held"] else [])]).strip(",")
        print(
            f"{name:<9} {snap['version']:<8} {snap['rev']:<5} {snap['channel']:<13} canonical✓  "
            f"{notes}"
        )
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="snap")
    parser.add_argument("names", nargs="*")
    parser.add_argument("--channel", default="")
    parser.add_argument("--classic", action="store_true")
    parser.add_argument("--hold", nargs="?", const="forever")
    parser.add_argument("--unhold", action="store_true")
    return parser.parse_args(argv)


def _version_of(channel: str) -> tuple[str, str]:
    if channel not in CHANNELS:
        raise Failed(f'error: requested a non-existing branch on {channel} for snap "microk8s"')
    return CHANNELS[channel]


def _install(argv: list[str]) -> int:
    options = _parse(argv)
    channel = options.channel or "latest/stable"
    for name in options.names:
        if name != "microk8s":
            raise Failed(f'error: snap "{name}" not found')
        if name in state()["snaps"]:
            print(f"snap \"{name}\" is already installed, see 'snap help refresh'")
            continue
        version, revision = _version_of(channel)
        if not options.classic:
            raise Failed(
                f'error: This revision of snap "{name}" was published using classic confinement '
                "and thus may perform\n       arbitrary system changes outside of the security "
                "sandbox that snaps are usually confined to,\n       which may put your system at "
                "risk.\n\n       If you understand and want to proceed repeat the command "
                "including --classic."
            )
        _lay_out()
        with changed() as now:
            now["snaps"][name] = {
                "version": version,
                "rev": revision,
                "channel": channel,
                "confinement": "classic",
                "held": False,
            }
            now["microk8s"]["running"] = True
        print(f"{name} ({channel}) {version} from Canonical✓ installed")
    return 0


def _lay_out() -> None:
    """What the snap's installation leaves in the file system."""
    Path("/snap/bin").mkdir(parents=True, exist_ok=True)
    link = Path("/snap/bin/microk8s")
    if not link.exists():
        link.write_text('#!/bin/sh\nexec /opt/standins/stand-in microk8s "$@"\n')
        link.chmod(0o755)
    try:
        group = grp.getgrnam("microk8s").gr_gid
    except KeyError:
        subprocess.run(["groupadd", "--system", "microk8s"], check=True)
        group = grp.getgrnam("microk8s").gr_gid
    (_DATA / "credentials").mkdir(parents=True, exist_ok=True)
    # Where the operator of another machine's cluster reaches it.
    args = HOME / "site" / f"args-{state()['name']}"
    args.mkdir(exist_ok=True)
    if not (_DATA / "args").is_symlink():
        (_DATA / "args").symlink_to(args)
    if not CURRENT.is_symlink():
        CURRENT.symlink_to(_DATA.name)
    for name in ("containerd-template.toml", "containerd.toml"):
        (CURRENT / "args" / name).write_text(_TEMPLATE)
    config = CURRENT / "credentials/client.config"
    config.touch(mode=0o660)
    shutil.copyfile("/var/lib/standins/kubeconfig", config)
    os.chmod(config, 0o660)
    os.chown(config, 0, group)


def _refresh(argv: list[str]) -> int:
    options = _parse(argv)
    with changed() as now:
        for name in options.names:
            if name not in now["snaps"]:
                raise Failed(_NOT_INSTALLED.format(name))
            _refresh_one(now["snaps"][name], name, options)
    return 0


def _refresh_one(snap: dict[str, Any], name: str, options: argparse.Namespace) -> None:
    if options.hold is not None:
        snap["held"] = True
        print(f'General refreshes of "{name}" held indefinitely')
    elif options.unhold:
        snap["held"] = False
        print(f'Removed general refresh hold of "{name}"')
    elif options.channel and options.channel != snap["channel"]:
        version, revision = _version_of(options.channel)
        snap.update(version=version, rev=revision, channel=options.channel)
        print(f"{name} ({options.channel}) {version} from Canonical✓ refreshed")
    else:
        print(f'snap "{name}" has no updates available')


def _info(argv: list[str]) -> int:
    print("name:      microk8s\nsummary:   Kubernetes for workstations and appliances")
    print("publisher: Canonical✓\nchannels:")
    for channel, (version, revision) in CHANNELS.items():
        print(f"  {channel + ':':<22} {version} 2026-05-20 ({revision}) 176MB classic")
    return 0


def _restart(argv: list[str]) -> int:
    for service in argv:
        if service.partition(".")[0] not in state()["snaps"]:
            raise Failed(_NOT_INSTALLED.format(service.partition(".")[0]))
    if any(name in ("microk8s", "microk8s.daemon-containerd") for name in argv):
        # containerd's wrapper writes its configuration anew from the template at each start.
        shutil.copyfile(CURRENT / "args/containerd-template.toml", CURRENT / "args/containerd.toml")
    print("Restarted.")
    return 0


def _remove(argv: list[str]) -> int:
    with changed() as now:
        for name in (name for name in argv if not name.startswith("-")):
            if name not in now["snaps"]:
                raise Failed(_NOT_INSTALLED.format(name))
            del now["snaps"][name]
            Path("/snap/bin", name).unlink()
            print(f"{name} removed")
    return 0


def _version(argv: list[str]) -> int:
    print("snap    2.71\nsnapd   2.71\nseries  16\nubuntu  24.04")
    return 0
