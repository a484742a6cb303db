"""The image catalogue: which images exist for the embedded cluster, and how each one runs."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import lru_cache
from importlib.resources import files
from typing import Literal

import yaml

Kind = Literal["process", "replay", "serve"]

_REPOSITORY = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+|/)[a-z0-9]+)*")
# Tags that an image of the catalogue has unless it lists its own.
_TAGS = ("latest", "[0-9]*", "v[0-9]*", "stable*", "slim*", "alpine*", "mainline*", "bookworm*")


class InvalidName(ValueError):
    """An image name that no registry can have; the message is the kubelet's."""


@dataclass(frozen=True)
class Reference:
    """An image name in full, as containerd writes it.

    Attributes:
        repository: with registry, such as ``docker.io/library/python``.
        tag: ``latest`` where none was given.
        digest: ``sha256:…``, or empty.
    """

    repository: str
    tag: str
    digest: str = ""

    def __str__(self) -> str:
        if self.digest:
            return f"{self.repository}@{self.digest}"
        return f"{self.repository}:{self.tag}"

    @property
    def registry(self) -> str:
        """The host it is pulled from."""
        host = self.repository.partition("/")[0]
        return "registry-1.docker.io" if host == "docker.io" else host


@lru_cache(maxsize=4096)
def parse(name: str) -> Reference:
    """The full reference of an image name as it stands in a container.

    Raises:
        InvalidName: with the kubelet's message.
    """

    def wrong(detail: str) -> InvalidName:
        shown = json.dumps(name)
        return InvalidName(
            f"Failed to apply default image tag {shown}: couldn't parse image reference "
            f"{shown}: {detail}"
        )

    rest, _, digest = name.partition("@")
    head, slash, last = rest.rpartition("/")
    last, _, tag = last.partition(":")
    rest = head + slash + last
    registry, slash, path = rest.partition("/")
    if not slash or not ("." in registry or ":" in registry or registry == "localhost"):
        registry, path = "docker.io", rest
    if registry == "docker.io" and "/" not in path:
        path = f"library/{path}"
    if not _REPOSITORY.fullmatch(path):
        if path != path.lower() and _REPOSITORY.fullmatch(path.lower()):
            raise wrong(f"invalid reference format: repository name ({path}) must be lowercase")
        raise wrong("invalid reference format")
    return Reference(f"{registry}/{path}", tag or "latest", digest)


@dataclass(frozen=True)
class Image:
    """How an image runs.

    Attributes:
        match: names, with ``*``; a tag in one replaces the usual tags.
        kind: ``process``: the container's command runs on this machine; ``replay``: a given
            log, then the end; ``serve``: runs until it is stopped.
        entrypoint: what runs where the container gives no command.
        arguments: what follows where it gives neither command nor arguments.
        size: of the download in bytes, as the event says it.
        seconds: how long a replay takes, simulated.
        log: what is printed at the start.
        gpu: whether it needs a GPU.
        log_without_gpu: what it prints instead where it needs one and has none; then it ends.
        tags: the tags that exist.
        programs: of a ``serve`` image, what it brings along: a container's command that names one
            is served too; another command runs on this machine.
    """

    match: tuple[str, ...]
    kind: Kind
    entrypoint: tuple[str, ...] = ()
    arguments: tuple[str, ...] = ()
    size: int = 30_000_000
    seconds: float = 1.0
    log: str = ""
    gpu: bool = False
    log_without_gpu: str = ""
    tags: tuple[str, ...] = _TAGS
    programs: tuple[str, ...] = ("*",)

    def brings(self, command: str) -> bool:
        """Whether a command is one of the image's own programs."""
        name = command.rpartition("/")[2]
        return any(fnmatchcase(name, pattern) for pattern in self.programs)


class PullError(Exception):
    """An image that cannot be had; the message is what the kubelet gets from containerd."""


class Catalogue:
    """The images that can be pulled.

    Args:
        images: looked through in this order.
    """

    def __init__(self, images: tuple[Image, ...]) -> None:
        self.images = images
        self._found: dict[str, Image | PullError] = {}

    @classmethod
    def standard(cls) -> Catalogue:
        """The catalogue that comes with the library."""
        text = files(__package__).joinpath("images.yaml").read_text(encoding="utf-8")
        return cls(tuple(_image(entry) for entry in yaml.safe_load(text)))

    def resolve(self, name: str) -> Image:
        """The image of a name.

        Raises:
            InvalidName: it cannot be the name of an image.
            PullError: there is no such image, in containerd's words.
        """
        if name not in self._found:
            if len(self._found) > 10_000:
                self._found.clear()
            self._found[name] = self._resolve(parse(name))
        found = self._found[name]
        if isinstance(found, PullError):
            raise found
        return found

    def _resolve(self, reference: Reference) -> Image | PullError:
        known = False
        for image in self.images:
            for pattern in image.match:
                wanted, _, tag = pattern.partition(":")
                if not fnmatchcase(reference.repository, _full(wanted)):
                    continue
                known = True
                tags = (tag,) if tag else image.tags
                if reference.digest or any(fnmatchcase(reference.tag, each) for each in tags):
                    return image
        failed = (
            f'failed to pull and unpack image "{reference}": '
            f'failed to resolve reference "{reference}": '
        )
        if known:
            return PullError(f"rpc error: code = NotFound desc = {failed}{reference}: not found")
        path = reference.repository.partition("/")[2]
        host = reference.registry
        return PullError(
            f'{failed}failed to do request: Head "https://{host}/v2/{path}/manifests/'
            f'{reference.digest or reference.tag}": dial tcp: lookup {host}: no such host'
        )


def image_id(name: str) -> str:
    """``status.imageID``: the repository with a digest made from the name."""
    reference = parse(name)
    digest = reference.digest or f"sha256:{hashlib.sha256(str(reference).encode()).hexdigest()}"
    return f"{reference.repository}@{digest}"


def _full(pattern: str) -> str:
    registry, slash, _ = pattern.partition("/")
    if slash and ("." in registry or "*" in registry):
        return pattern
    return f"docker.io/{pattern}" if slash else f"docker.io/library/{pattern}"


def _image(entry: dict[str, object]) -> Image:
    lists = ("match", "entrypoint", "arguments", "tags", "programs")
    fields = {
        name: tuple(found) if name in lists and isinstance(found, list) else found
        for name, found in entry.items()
    }
    return Image(**fields)  # type: ignore[arg-type]
