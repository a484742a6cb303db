"""podman builds the reader's image, and its layers and its configuration are looked into."""

from __future__ import annotations

import io
import json
import re
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.podman import podman
from mlk8s.errors import UsageError

SLIM, DEVEL = "localhost/slim:1.0", "localhost/devel:1.0"
TOOLS = "sh cat cp chmod echo id ls mkdir mv rm sleep test true"
# Two images from the static busybox that podman.sh has in /run/image.
BASES = f"""
set -e
mkdir -p /run/slim/bin /run/slim/tmp /run/devel/opt/compiler
cp /run/image/bin/busybox /run/slim/bin/
for tool in {TOOLS}; do ln -s busybox /run/slim/bin/$tool; done
printf '#!/bin/sh\\nmkdir -p "${{2%%/*}}"; cp "$1" "$2" && chmod 755 "$2"\\n' \
  > /run/devel/opt/compiler/cc
chmod 755 /run/devel/opt/compiler/cc
printf 'FROM scratch\\nCOPY . /\\n' > /run/slim.dockerfile
printf 'FROM {SLIM}\\nCOPY . /\\n' > /run/devel.dockerfile
podman build -q -f /run/slim.dockerfile -t {SLIM} /run/slim >/dev/null
podman build -q -f /run/devel.dockerfile -t {DEVEL} /run/devel >/dev/null
"""


def check(work: Work) -> str:
    """The tags first, which need no build; then what the image is."""
    images = re.findall(
        r"^FROM\s+(?:--\S+\s+)*(\S+)(?:\s+AS\s+(\S+))?",
        work.file("Dockerfile").read_text(),
        re.M | re.I,
    )
    stages = {name.lower() for _, name in images if name}
    for image, _ in images:
        if image.lower() not in stages and (":" not in image or image.endswith(":latest")):
            raise Wrong(f"FROM {image}: which version is that tomorrow? Give a tag of a version.")
    with tempfile.TemporaryDirectory(prefix="mlk8s-build-") as temporary:
        # Beside the context, which COPY . would take in.
        context, archive = Path(temporary, "context"), Path(temporary, "image.tar")
        shutil.copytree(work.folder, context)
        built = podman(
            f"{BASES}podman --log-level fatal build --format docker -t answer {context} && "
            f"podman save --format docker-archive -o {archive} answer >/dev/null"
        )
        if not archive.is_file():
            raise Wrong(f"podman does not build it: {built.stdout.strip()[-600:]}")
        settings, layers = _image(archive)
    for layer, names in enumerate(layers):
        for name in names:
            if name.startswith("opt/compiler") or name.endswith("token.txt"):
                raise Wrong(
                    f"/{name} is in layer {layer + 1} of {len(layers)}, so every node pulls it, "
                    "whatever a later layer does."
                )
    if not any("app/server" in names for names in layers):
        raise Wrong("The image has no /app/server.")
    _judge(settings["config"])
    return f"podman built it: {len(layers)} layers without compiler and token, for user 10001."


def _image(archive: Path) -> tuple[dict[str, Any], list[set[str]]]:
    """The configuration of an image, and the names in each of its layers."""
    with tarfile.open(archive) as image:

        def content(name: str) -> bytes:
            member = image.extractfile(name)
            if member is None:
                raise UsageError(f"podman saved an image without {name}.", "check again.")
            return member.read()

        (manifest,) = json.loads(content("manifest.json"))
        layers = []
        for name in manifest["Layers"]:
            with tarfile.open(fileobj=io.BytesIO(content(name))) as layer:
                layers.append({each.name.lstrip("./") for each in layer.getmembers()})
        return json.loads(content(manifest["Config"])), layers


def _judge(config: dict[str, Any]) -> None:
    user = (config.get("User") or "root").partition(":")[0]
    if user != "10001":
        raise Wrong(f"It runs as {user}. Write the user 10001, as a number.")
    command = [*(config.get("Entrypoint") or ()), *(config.get("Cmd") or ())]
    if command[:1] != ["/app/server"]:
        raise Wrong(f"Process 1 is {command[:1]}: who would get SIGTERM? Start /app/server itself.")
    if "Healthcheck" not in config:
        raise Wrong("The image has no health check.")
