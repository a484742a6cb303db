"""A container's environment, and its paths: variables resolved, mounts found on this machine.

There is no file system of its own for a container. Instead every place in its command, arguments
and variables where a mounted path begins is rewritten to the directory that stands for it.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping
from fractions import Fraction
from math import ceil
from pathlib import Path

from mlk8s.sim.api import Api
from mlk8s.sim.quantity import value
from mlk8s.sim.status import Object

# A container that declares port 8080 is told by MLK8S_PORT_8080 where to listen instead.
PORT_PREFIX = "MLK8S_PORT_"
SEARCH_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class ConfigError(Exception):
    """A container cannot be made from what its pod refers to; the message is the kubelet's."""


def expand(text: str, variables: Mapping[str, str]) -> str:
    """Replace ``$(NAME)`` where the name is known; ``$$`` is a dollar sign.

    The rule is that of ``third_party/forked/golang/expansion``.
    """

    def put(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return variables.get(found[1], found[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", put, text)


class Mounts:
    """Where a container's mounted paths are on this machine.

    Args:
        paths: mount path → directory or file.
    """

    def __init__(self, paths: Mapping[str, Path]) -> None:
        self.paths = {path.rstrip("/"): place for path, place in paths.items() if path != "/"}
        longest = sorted(self.paths, key=len, reverse=True)
        alternatives = "|".join(re.escape(path) for path in longest)
        self._pattern = (
            re.compile(rf"(?<![\w./-])(?:{alternatives})(?![\w.-])") if longest else None
        )

    def rewrite(self, text: str) -> str:
        """The text with mounted paths replaced, where one begins."""
        if self._pattern is None:
            return text
        return self._pattern.sub(lambda found: str(self.paths[found[0]]), text)


def variables(
    api: Api,
    pod: Object,
    container: Object,
    node: Object | None,
    devices: list[str],
    ports: Mapping[int, int],
) -> dict[str, str]:
    """The variables that a container sees, in the order in which the kubelet sets them.

    Args:
        api: where config maps and secrets are.
        pod: with its IP addresses in ``status``.
        container: one of its containers.
        node: the node's object, for ``resourceFieldRef`` without a limit.
        devices: ids of the GPUs that the container got, or ``all``.
        ports: where it listens on this machine, by the port that it declares.

    Raises:
        ConfigError: something that is referred to does not exist.
    """
    namespace = pod["metadata"]["namespace"]
    result = {"PATH": SEARCH_PATH, "HOSTNAME": pod["spec"].get("hostname") or _hostname(pod)}
    if devices:
        result["NVIDIA_VISIBLE_DEVICES"] = ",".join(devices)
    result |= {f"{PORT_PREFIX}{declared}": str(port) for declared, port in ports.items()}
    for source in container.get("envFrom") or ():
        prefix = source.get("prefix", "")
        for kind, reference in (("configmap", "configMapRef"), ("secret", "secretRef")):
            if reference in source:
                data = _data(api, kind, namespace, source[reference])
                result |= {prefix + key: text for key, text in (data or {}).items()}
    for item in container.get("env") or ():
        if "valueFrom" in item:
            found = _from(api, pod, container, node, namespace, item["valueFrom"])
            if found is not None:
                result[item["name"]] = found
        else:
            result[item["name"]] = expand(item.get("value", ""), result)
    return result


def _hostname(pod: Object) -> str:
    name: str = pod["metadata"]["name"]
    return name[:63]


def _from(
    api: Api,
    pod: Object,
    container: Object,
    node: Object | None,
    namespace: str,
    source: Object,
) -> str | None:
    if "fieldRef" in source:
        return field_of(pod, source["fieldRef"]["fieldPath"])
    if "resourceFieldRef" in source:
        return resource_of(pod, container, node, source["resourceFieldRef"])
    for kind, reference, title in (
        ("configmap", "configMapKeyRef", "ConfigMap"),
        ("secret", "secretKeyRef", "Secret"),
    ):
        if reference in source:
            wanted = source[reference]
            data = _data(api, kind, namespace, wanted)
            if data is None:
                return None
            if wanted["key"] in data:
                return data[wanted["key"]]
            if wanted.get("optional"):
                return None
            raise ConfigError(
                f"couldn't find key {wanted['key']} in {title} {namespace}/{wanted['name']}"
            )
    return None


def _data(api: Api, kind: str, namespace: str, reference: Object) -> dict[str, str] | None:
    """What a config map or secret holds as text; ``None`` when it may be missing and is."""
    found = api.find(f"{kind}s", namespace, reference["name"])
    if found is None:
        if reference.get("optional"):
            return None
        raise ConfigError(f'{kind} "{reference["name"]}" not found')
    data: dict[str, str] = found.get("data") or {}
    if kind == "secret":
        return {key: base64.b64decode(text).decode(errors="replace") for key, text in data.items()}
    return data


def field_of(pod: Object, path: str) -> str:
    """A field of a pod as the downward API gives it."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    if found := re.fullmatch(r"metadata\.(labels|annotations)(?:\['(.+)'\])?", path):
        entries = metadata.get(found[1]) or {}
        if found[2]:
            return str(entries.get(found[2], ""))
        escaped = (
            (key, text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
            for key, text in sorted(entries.items())
        )
        return "\n".join(f'{key}="{text}"' for key, text in escaped)
    fields = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata["namespace"],
        "metadata.uid": metadata["uid"],
        "spec.nodeName": pod["spec"].get("nodeName", ""),
        "spec.serviceAccountName": pod["spec"].get("serviceAccountName", ""),
        "status.hostIP": status.get("hostIP", ""),
        "status.hostIPs": ",".join(each["ip"] for each in status.get("hostIPs") or ()),
        "status.podIP": status.get("podIP", ""),
        "status.podIPs": ",".join(each["ip"] for each in status.get("podIPs") or ()),
    }
    if path not in fields:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return str(fields[path])


def resource_of(pod: Object, container: Object, node: Object | None, wanted: Object) -> str:
    """A container's request or limit, rounded up to whole divisors.

    A limit that is not set is the node's allocatable.
    """
    if name := wanted.get("containerName"):
        every = [*pod["spec"]["containers"], *(pod["spec"].get("initContainers") or ())]
        container = next((each for each in every if each["name"] == name), container)
    kind, _, resource = wanted["resource"].partition(".")
    text = ((container.get("resources") or {}).get(kind) or {}).get(resource)
    if text is None and kind == "limits" and node is not None:
        text = (node.get("status", {}).get("allocatable") or {}).get(resource)
    divisor = value(str(wanted.get("divisor") or "1")) or Fraction(1)
    return str(ceil(value(str(text or "0")) / divisor))
