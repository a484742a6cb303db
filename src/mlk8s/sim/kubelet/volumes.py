"""A pod's volumes as directories on this machine, below the cluster's own."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mlk8s.sim.api import Api
from mlk8s.sim.kubelet.environment import ConfigError, field_of, resource_of
from mlk8s.sim.status import Object


class MountError(Exception):
    """A volume cannot be set up; the message is that of the ``FailedMount`` event."""

    def __init__(self, volume: str, why: str) -> None:
        super().__init__(f'MountVolume.SetUp failed for volume "{volume}" : {why}')


def prepare(api: Api, pod: Object, node: Object | None, directory: Path) -> dict[str, Path]:
    """Make a pod's volumes.

    Args:
        api: where config maps, secrets and claims are.
        pod: the pod, with its IP addresses.
        node: its node, for the downward API.
        directory: the kubelet's; a pod's own volumes are below ``pods/<uid>``, those that outlive
            it (claims, host paths) beside it.

    Returns:
        The place of each volume by its name.

    Raises:
        MountError: something that a volume needs does not exist.
    """
    own = directory / "pods" / pod["metadata"]["uid"] / "volumes"
    places: dict[str, Path] = {}
    for volume in pod["spec"].get("volumes") or ():
        name = volume["name"]
        if "persistentVolumeClaim" in volume:
            place = _claim(api, pod, volume, directory)
        elif "hostPath" in volume:
            path = os.path.normpath("/" + volume["hostPath"]["path"]).lstrip("/")
            place = directory / "hosts" / pod["spec"]["nodeName"] / path
        else:
            place = own / name
        if volume.get("hostPath", {}).get("type") in ("File", "FileOrCreate"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.touch()
        else:
            place.mkdir(parents=True, exist_ok=True)
        try:
            for path, data, mode in _files(api, pod, node, volume):
                _write(place, path, data, mode)
        except ConfigError as error:
            raise MountError(name, str(error)) from None
        places[name] = place
    return places


def mounts_of(container: Object, places: dict[str, Path]) -> dict[str, Path]:
    """Mount path → place of one container."""
    found: dict[str, Path] = {}
    for mount in container.get("volumeMounts") or ():
        place = places.get(mount["name"])
        if place is None:
            continue
        sub = os.path.normpath("/" + mount.get("subPath", "")).lstrip("/")
        if sub:
            place = place / sub
            if not place.exists():
                place.mkdir(parents=True)
        found[mount["mountPath"]] = place
    return found


def _claim(api: Api, pod: Object, volume: Object, directory: Path) -> Path:
    namespace = pod["metadata"]["namespace"]
    name = volume["persistentVolumeClaim"]["claimName"]
    claim = api.find("persistentvolumeclaims", namespace, name)
    if claim is None:
        raise MountError(volume["name"], f'persistentvolumeclaim "{name}" not found')
    uid: str = claim["metadata"]["uid"]
    return directory / "claims" / uid


def _files(
    api: Api, pod: Object, node: Object | None, source: Object
) -> Iterator[tuple[str, bytes, int]]:
    """Relative path, content and mode of what a volume holds from the start."""
    if "configMap" in source:
        yield from _keyed(api, pod, "configmap", source["configMap"], source["configMap"]["name"])
    elif "secret" in source:
        name = source["secret"].get("secretName") or source["secret"].get("name", "")
        yield from _keyed(api, pod, "secret", source["secret"], name)
    elif "downwardAPI" in source:
        mode = source["downwardAPI"].get("defaultMode", 0o644)
        for item in source["downwardAPI"].get("items") or ():
            if "fieldRef" in item:
                text = field_of(pod, item["fieldRef"]["fieldPath"])
            else:
                text = resource_of(pod, {}, node, item["resourceFieldRef"])
            yield item["path"], text.encode(), item.get("mode") or mode
    elif "projected" in source:
        mode = source["projected"].get("defaultMode", 0o644)
        for part in source["projected"].get("sources") or ():
            if "serviceAccountToken" in part:
                token = b"simulated: this cluster gives pods no credentials\n"
                yield part["serviceAccountToken"]["path"], token, mode
            for path, data, own in _files(api, pod, node, part):
                yield path, data, own or mode


def _keyed(
    api: Api, pod: Object, kind: str, source: Object, name: str
) -> Iterator[tuple[str, bytes, int]]:
    namespace = pod["metadata"]["namespace"]
    found = api.find(f"{kind}s", namespace, name)
    if found is None:
        if source.get("optional"):
            return
        raise ConfigError(f'{kind} "{name}" not found')
    content: dict[str, bytes] = {}
    data: dict[str, Any] = found.get("data") or {}
    for key, text in data.items():
        content[key] = base64.b64decode(text) if kind == "secret" else text.encode()
    for key, text in (found.get("binaryData") or {}).items():
        content[key] = base64.b64decode(text)
    mode = source.get("defaultMode", 0o644)
    if not source.get("items"):
        for key, data_of in content.items():
            yield key, data_of, mode
        return
    for item in source["items"]:
        if item["key"] in content:
            yield item["path"], content[item["key"]], item.get("mode") or mode
        elif not source.get("optional"):
            raise ConfigError(f"{kind} references non-existent {_what(kind)} key: {item['key']}")


def _what(kind: str) -> str:
    return "config" if kind == "configmap" else "secret"


def _write(directory: Path, relative: str, data: bytes, mode: int) -> None:
    path = directory / os.path.normpath("/" + relative).lstrip("/")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    path.write_bytes(data)
    path.chmod(mode | 0o600)
