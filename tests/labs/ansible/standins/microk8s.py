"""``microk8s``: one node, its addons, and the join of another; ``kubectl`` is the real one."""

from __future__ import annotations

import argparse
import getpass
import json
import os
import secrets
import subprocess
import sys

from . import addons, helm
from .calls import HOME, Failed, changed, run, state
from .snap import CURRENT

SITE = HOME / "site"
_CONFIG = CURRENT / "credentials/client.config"
_WORKER = CURRENT / "var/lock/clustered.lock"
_KUBECTL = "/opt/kubectl"
_HASH = "a4b12bc50b2d"
_PERMISSIONS = """\
Insufficient permissions to access MicroK8s.
You can either try again with sudo or add the user {0} to the 'microk8s' group:

    sudo usermod -a -G microk8s {0}
    sudo chown -R {0} ~/.kube

After this, reload the user groups either via a reboot or by running 'newgrp microk8s'."""
_STOPPED = "microk8s is not running, try microk8s start"
_NOT_READY = "microk8s is not running. Use microk8s inspect for a deeper inspection."


def main(argv: list[str]) -> int:
    """Answer one command."""
    commands = {
        "status": _status,
        "start": _start,
        "stop": _stop,
        "enable": _enable,
        "disable": _disable,
        "kubectl": kubectl,
        "helm3": _helm,
        "helm": _helm,
        "config": _config,
        "version": _version,
        "add-node": _add_node,
        "join": _join,
        "leave": _leave,
    }
    if not argv or argv[0] not in commands:
        print(f"'{' '.join(argv)}' is not a valid MicroK8s subcommand.")
        return 1
    if argv[0] != "version" and not os.access(_CONFIG, os.R_OK):
        raise Failed(_PERMISSIONS.format(getpass.getuser()))
    if _WORKER.exists() and argv[0] in ("status", "kubectl", "helm3", "helm", "start"):
        print("This MicroK8s deployment is acting as a node in a cluster.")
        return 0
    if argv[0] in ("start", "stop", "enable", "disable", "join") and os.geteuid() != 0:
        print("Elevated permissions is needed for this operation.", end=" ")
        print("Please run this command with sudo.")
        return 50
    return commands[argv[0]](argv[1:])


def _status(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="microk8s status")
    parser.add_argument("--format", default="pretty", choices=("pretty", "yaml", "short"))
    parser.add_argument("-w", "--wait-ready", action="store_true")
    parser.add_argument("-t", "--timeout", type=int, default=0)
    parser.add_argument("-a", "--addon", default="all")
    options = parser.parse_args(argv)
    now = state()["microk8s"]
    if not now["running"]:
        print(_STOPPED)
        return 0
    known = sorted(addons.KNOWN, key=lambda name: (addons.KNOWN[name], name))
    enabled = [name for name in known if name in now["addons"] and now["ready"]]
    if options.addon != "all":
        print("enabled" if options.addon.rpartition("/")[2] in enabled else "disabled")
    elif options.format == "yaml":
        print(f"microk8s:\n  running: {now['ready']}\nhigh-availability:\n  enabled: False")
        print("addons:" if now["ready"] else f"  message: {_NOT_READY}")
        for name in known if now["ready"] else []:
            print(f"  - name: {name}\n    repository: {addons.KNOWN[name]}")
            print(f"    status: {'enabled' if name in enabled else 'disabled'}")
    elif not now["ready"]:
        print(_NOT_READY)
    else:
        _print_addons(options.format, known, enabled)
    return 0 if now["ready"] else 1


def _print_addons(kind: str, known: list[str], enabled: list[str]) -> None:
    print("microk8s is running")
    disabled = [name for name in known if name not in enabled]
    if kind == "short":
        print("addons:")
        for word, names in (("enabled", enabled), ("disabled", disabled)):
            for name in names:
                print(f"{addons.KNOWN[name]}/{name}: {word}")
        return
    print("high-availability: no\naddons:")
    for word, names in (("enabled", enabled), ("disabled", disabled)):
        if names:
            print(f"  {word}:")
        for name in names:
            print(f"    {name:<20} # ({addons.KNOWN[name]})")


def _start(argv: list[str]) -> int:
    with changed() as now:
        now["microk8s"]["running"] = True
    return 0


def _stop(argv: list[str]) -> int:
    with changed() as now:
        now["microk8s"]["running"] = False
    print("Stopped.")
    return 0


def _needs_running() -> None:
    if not state()["microk8s"]["running"]:
        raise Failed(_STOPPED)


def _enable(argv: list[str]) -> int:
    _needs_running()
    names = [name.rpartition("/")[2] for name in argv]
    if len(argv) > 1 and all(name.partition(":")[0] in addons.KNOWN for name in names):
        return max(_enable_one(name, []) for name in names)
    return _enable_one(names[0], argv[1:])


def _enable_one(name: str, options: list[str]) -> int:
    if name not in addons.KNOWN:
        print(f"Addon {name} was not found in any repository")
        return 1
    name = "nvidia" if name == "gpu" else name
    print(f"Infer repository {addons.KNOWN[name]} for addon {name}")
    if name in state()["microk8s"]["addons"]:
        print(f"Addon {addons.KNOWN[name]}/{name} is already enabled")
        return 0
    for needed in addons.NEEDS.get(name, ()):
        _enable_one(needed, [])
    if name == "nvidia":
        _nvidia(options)
    else:
        addons.put(name)
        print(f"Enabled {name}.")
    with changed() as now:
        # As in status.py: whether an addon is enabled is read from what it has put there.
        if name != "nvidia" or "gpu-operator" in now["helm"]:
            now["microk8s"]["addons"].append(name)
    return 0


def _nvidia(options: list[str]) -> None:
    """The addon's script: helm's status is not looked at, as in the original."""
    parser = argparse.ArgumentParser(prog="microk8s enable nvidia")
    parser.add_argument("--gpu-operator-version", default="v25.10.0")
    parser.add_argument("--gpu-operator-driver", choices=("auto", "host", "operator"))
    parser.add_argument("--gpu-operator-set", action="append", default=[])
    parser.add_argument("--gpu-operator-values", action="append", default=[])
    parser.add_argument("--gpu-operator-toolkit-version")
    chosen = parser.parse_args(options)
    for command in (
        ["repo", "add", "nvidia", "https://helm.ngc.nvidia.com/nvidia"],
        ["repo", "update", "nvidia"],
    ):
        run(helm.main, ["helm3", *command], inner=True)
    print(f"Deploy NVIDIA GPU operator\nUsing {chosen.gpu_operator_driver} GPU driver", flush=True)
    arguments = ["install", "gpu-operator", "nvidia/gpu-operator"]
    arguments += [f"--version={chosen.gpu_operator_version}", "--create-namespace"]
    arguments += ["--namespace=gpu-operator-resources", "--values", str(HOME / "stage/addon.json")]
    for pair in chosen.gpu_operator_set:
        arguments += ["--set", pair]
    for file in chosen.gpu_operator_values:
        arguments += ["--values", file]
    run(helm.main, ["helm3", *arguments], inner=True)
    print("Deployed NVIDIA GPU operator")


def _disable(argv: list[str]) -> int:
    _needs_running()
    name = argv[0].rpartition("/")[2]
    with changed() as now:
        if name in now["microk8s"]["addons"]:
            now["microk8s"]["addons"].remove(name)
    if name == "nvidia" and "gpu-operator" in state()["helm"]:
        run(helm.main, ["helm3", "uninstall", "gpu-operator"], inner=True)
    print(f"Disabled {name}.")
    return 0


def kubectl(argv: list[str]) -> int:
    """The real kubectl against the embedded cluster; a service's proxy is answered here."""
    _needs_running()
    sys.stdout.flush()
    if "--raw" in argv and "/proxy/" in (path := argv[argv.index("--raw") + 1]):
        print(addons.proxied(path))
        return 0
    return subprocess.run([_KUBECTL, f"--kubeconfig={_CONFIG}", *argv], check=False).returncode


def _helm(argv: list[str]) -> int:
    _needs_running()
    return helm.main(argv)


def _config(argv: list[str]) -> int:
    print(_CONFIG.read_text(), end="")
    return 0


def _version(argv: list[str]) -> int:
    snap = state()["snaps"]["microk8s"]
    print(f"MicroK8s {snap['version']} revision {snap['rev']}")
    return 0


def _add_node(argv: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="microk8s add-node")
    parser.add_argument("-l", "--token-ttl", type=int, default=-1)
    parser.add_argument("-t", "--token")
    parser.add_argument("--format", default="pretty")
    options = parser.parse_args(argv)
    token = options.token or secrets.token_hex(16)
    address = state()["address"]
    with (SITE / f"{address}.tokens").open("a") as tokens:
        tokens.write(token + "\n")
    url = f"{address}:25000/{token}/{_HASH}"
    if options.format == "json":
        print(json.dumps({"token": f"{token}/{_HASH}", "urls": [url]}, indent=2))
    elif options.format == "token":
        print(token)
    elif options.format == "token-check":
        print(f"{token}/{_HASH}")
    else:
        print("From the node you wish to join to this cluster, run the following:")
        print(f"microk8s join {url}")
    return 0


def _join(argv: list[str]) -> int:
    url = next(a for a in argv if not a.startswith("-"))
    where, _, rest = url.partition("/")
    address = where.partition(":")[0]
    token = rest.partition("/")[0]
    print(f"Contacting cluster at {address}")
    tokens = SITE / f"{address}.tokens"
    if not tokens.exists():
        print(f"Please ensure the master node is reachable. No route to {address}")
        return 1
    known = tokens.read_text().split()
    if token not in known:
        print("Joining cluster failed. Invalid token (500).")
        return 6
    # Usable once.
    tokens.write_text("".join(f"{t}\n" for t in known if t != token))
    _CONFIG.write_text((SITE / f"{address}.kubeconfig").read_text())
    addons.join(state()["name"])
    if "--worker" in argv:
        _WORKER.parent.mkdir(parents=True, exist_ok=True)
        _WORKER.touch()
        print("\nThe node has joined the cluster", end=" ")
        print("and will appear in the nodes list in a few seconds.")
    print("Successfully joined the cluster.")
    return 0


def _leave(argv: list[str]) -> int:
    _WORKER.unlink(missing_ok=True)
    _CONFIG.write_text((HOME / "kubeconfig").read_text())
    print("Configuring services.\nWaiting for node to start.")
    return 0
