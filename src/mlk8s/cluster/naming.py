"""What a word or a manifest names in the API: a resource with its path, objects, their places."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from mlk8s.cluster.connection import Connection, Source
from mlk8s.cluster.wire import status
from mlk8s.errors import ClusterError, UsageError

Object = dict[str, Any]


def documents(source: Source) -> Iterator[Object]:
    """The objects of a file, a folder, a text; a List stands for its items."""
    if isinstance(source, Mapping):
        texts = [("the object", [dict(source)])]
    else:
        texts = [(title, _parsed(title, text)) for title, text in _texts(source)]
    empty = True
    for title, found in texts:
        for body in found:
            if not isinstance(body, dict) or not {"apiVersion", "kind"} <= body.keys():
                raise UsageError(
                    f"{title} holds something that is no Kubernetes object: {str(body)[:60]!r}.",
                    "every document needs apiVersion, kind and metadata.name.",
                )
            empty = False
            yield from body["items"] if body["kind"] == "List" else [body]
    if empty:
        raise UsageError("There is no object in it.", "give a manifest with at least one.")


def _texts(source: Path | str) -> list[tuple[str, str]]:
    # A text of several lines is a manifest, one line is a path.
    if isinstance(source, str) and "\n" in source:
        return [("the manifest", source)]
    start = Path(source)
    files = sorted(start.glob("*.y*ml")) if start.is_dir() else [start]
    try:
        return [(str(file), file.read_text("utf-8")) for file in files]
    except OSError as error:
        raise UsageError(
            f"{error.filename} cannot be read ({error.strerror}).",
            "check the path; it counts from the notebook's folder.",
        ) from error


def _parsed(title: str, text: str) -> list[Any]:
    try:
        return [document for document in yaml.safe_load_all(text) if document]
    except yaml.YAMLError as error:
        raise UsageError(
            f"{title} is not YAML: {error}.", "correct the place that the message names."
        ) from error


def place(connection: Connection, body: Object, namespace: str | None) -> tuple[str, str, str]:
    """Where an object lives: resource, namespace, name."""
    metadata = body.get("metadata") or {}
    name = metadata.get("name")
    if not name:
        raise UsageError(
            f"An object of kind {body['kind']} has no metadata.name.", "name it, to apply it."
        )
    group, _, version = body["apiVersion"].rpartition("/")
    for each in served(connection, group, version):
        if each["kind"] == body["kind"]:
            prefix = f"{group}/{version}/" if group else ""
            default = connection.namespace if namespace is None else namespace
            space = (metadata.get("namespace") or default) if each["namespaced"] else ""
            return prefix + each["name"], space, name
    raise UsageError(
        f"The server has no kind {body['kind']} in {body['apiVersion']}.",
        "check both; a custom resource needs its definition first (kubectl get crd).",
    )


def space(connection: Connection, namespaced: bool, namespace: str | None) -> str:
    """The namespace of a request: the labs' unless another is given, none where there are none."""
    if not namespaced:
        return ""
    return connection.namespace if namespace is None else namespace


def resource(connection: Connection, word: str) -> tuple[str, bool]:
    """The path of what a word names, as ``batch/v1/jobs``, and whether it has namespaces."""
    wanted, _, in_group = word.lower().partition(".")
    for group, version in groups(connection):
        if in_group and group != in_group:
            continue
        for each in served(connection, group, version):
            names = {each["name"], each.get("singularName", ""), each["kind"].lower()}
            if wanted in names | set(each.get("shortNames") or ()):
                prefix = f"{group}/{version}/" if group else ""
                return prefix + each["name"], each["namespaced"]
    raise UsageError(
        f"The server has no resource {word!r}.", "see what it has: kubectl api-resources."
    )


def groups(connection: Connection) -> Iterator[tuple[str, str]]:
    """Each API group that the server has, with the version that it prefers; the core's is empty."""
    yield "", "v1"
    for group in connection.request("GET", "/apis")["groups"]:
        yield group["name"], group["preferredVersion"]["version"]


def served(connection: Connection, group: str, version: str) -> list[Object]:
    """The resources of a group and version, without subresources; none when it is not served."""
    where = f"/apis/{group}/{version}" if group else f"/api/{version}"
    try:
        found: list[Object] = connection.request("GET", where)["resources"]
    except ClusterError as error:
        if status(error) != 404:
            raise
        return []
    return [each for each in found if "/" not in each["name"]]
