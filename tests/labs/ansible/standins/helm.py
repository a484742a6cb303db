"""``helm3``: releases, their versions and values. Charts are names; nothing is rendered."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from . import addons
from .calls import Failed, changed, state

_TIME = "2026-11-24 08:00:00.000000000 +0000 UTC"


def main(argv: list[str]) -> int:
    """Answer one command."""
    commands = {
        "repo": _repo,
        "list": _list,
        "ls": _list,
        "get": _get,
        "install": _install,
        "upgrade": _upgrade,
        "uninstall": _uninstall,
        "version": _version,
    }
    if not argv or argv[0] not in commands:
        raise Failed(f'Error: unknown command "{" ".join(argv[:1])}" for "helm"')
    return commands[argv[0]](argv[1:])


def _version(argv: list[str]) -> int:
    print('version.BuildInfo{Version:"v3.18.6"}')
    return 0


def _repo(argv: list[str]) -> int:
    if argv[0] == "add":
        with changed() as now:
            now["repositories"][argv[1]] = argv[2]
        print(f'"{argv[1]}" has been added to your repositories')
    else:
        print("Update Complete. ⎈Happy Helming!⎈")
    return 0


def _list(argv: list[str]) -> int:
    namespace = _option(argv, "--namespace", "-n")
    everywhere = "--all-namespaces" in argv or "-A" in argv
    rows = [
        {key: value for key, value in release.items() if key != "values"}
        for _, release in sorted(state()["helm"].items())
        if everywhere or release["namespace"] == (namespace or "default")
    ]
    if _option(argv, "--output", "-o") == "json":
        print(json.dumps(rows))
    else:
        print("NAME\tNAMESPACE\tREVISION\tUPDATED\tSTATUS\tCHART\tAPP VERSION")
        for row in rows:
            print("\t".join(str(value) for value in row.values()))
    return 0


def _option(argv: list[str], *names: str) -> str:
    for index, word in enumerate(argv):
        for name in names:
            if word == name and index + 1 < len(argv):
                return argv[index + 1]
            if word.startswith(f"{name}="):
                return word.partition("=")[2]
    return ""


def _get(argv: list[str]) -> int:
    release = state()["helm"].get(argv[1])
    if release is None:
        raise Failed("Error: release: not found")
    print(json.dumps(release["values"] or None))
    return 0


def _parse(argv: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="helm")
    parser.add_argument("name")
    parser.add_argument("chart")
    for name in ("--version", "--repo", "--timeout"):
        parser.add_argument(name, default="")
    parser.add_argument("-n", "--namespace", default="default")
    parser.add_argument("-f", "--values", action="append", default=[])
    parser.add_argument("--set", action="append", default=[])
    for name in ("--create-namespace", "--wait", "--atomic", "--reset-values", "--reuse-values"):
        parser.add_argument(name, action="store_true")
    parser.add_argument("-i", "--install", action="store_true")
    parser.add_argument("--history-max", type=int)
    return parser.parse_args(argv)


def _install(argv: list[str]) -> int:
    options = _parse(argv)
    if options.name in state()["helm"]:
        raise Failed("Error: INSTALLATION FAILED: cannot re-use a name that is still in use")
    return _release(options, 1)


def _upgrade(argv: list[str]) -> int:
    options = _parse(argv)
    known = state()["helm"].get(options.name)
    if known is None and not options.install:
        raise Failed(f'Error: UPGRADE FAILED: "{options.name}" has no deployed releases')
    if known and known["status"].startswith("pending"):
        raise Failed(
            "Error: UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress"
        )
    return _release(options, int(known["revision"]) + 1 if known else 1)


def _release(options: argparse.Namespace, revision: int) -> int:
    repository, _, chart = options.chart.rpartition("/")
    if repository and not options.repo and repository not in state()["repositories"]:
        raise Failed(f"Error: INSTALLATION FAILED: repo {repository} not found")
    if not repository and not options.repo:
        raise Failed(
            f"Error: INSTALLATION FAILED: non-absolute URLs should be in form of "
            f"repo_name/path_to_chart, got: {chart}"
        )
    release = {
        "name": options.name,
        "namespace": options.namespace,
        "revision": str(revision),
        "updated": _TIME,
        "status": "deployed",
        "chart": f"{chart}-{options.version}",
        "app_version": options.version,
        "values": _values(options),
    }
    addons.release(release)
    with changed() as now:
        now["helm"][options.name] = release
    print(
        f"NAME: {options.name}\nLAST DEPLOYED: Tue Nov 24 08:00:00 2026\nNAMESPACE: "
        f"{options.namespace}\nSTATUS: deployed\nREVISION: {revision}"
    )
    return 0


def _values(options: argparse.Namespace) -> dict[str, Any]:
    # The stand-ins start without site-packages, as most need none.
    sys.path.append("/usr/lib/python3/dist-packages")
    import yaml

    merged: dict[str, Any] = {}
    for file in options.values:
        try:
            text = Path(file).read_text()
        except OSError as error:
            raise Failed(f"Error: open {file}: {error.strerror}".lower()) from None
        _merge(merged, yaml.safe_load(text) or {})
    for pair in options.set:
        path, _, value = pair.partition("=")
        for key in reversed(path.split(".")):
            value = {key: {"true": True, "false": False}.get(value, value)}
        _merge(merged, value)
    return merged


def _merge(into: dict[str, Any], more: dict[str, Any]) -> None:
    for key, value in more.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            _merge(into[key], value)
        else:
            into[key] = value


def _uninstall(argv: list[str]) -> int:
    name = next(a for a in argv if not a.startswith("-"))
    with changed() as now:
        release = now["helm"].pop(name, None)
    if release is None:
        raise Failed(f"Error: uninstall: Release not loaded: {name}: release: not found")
    addons.remove(release)
    print(f'release "{name}" uninstalled')
    return 0
