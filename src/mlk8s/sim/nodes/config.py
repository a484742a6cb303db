"""The device plugin's configuration: MIG strategy and sharing, as one key of its ConfigMap says.

The format is that of k8s-device-plugin 0.20 (``api/config/v1``). Fields that it does not know are
ignored, as the plugin does: ``renameByDefault`` under ``flags`` has no effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

STRATEGIES = ("none", "single", "mixed")
TIME_SLICING = "time-slicing"
MPS = "mps"
_FIELDS = {TIME_SLICING: "timeSlicing", MPS: "mps"}


class ConfigError(ValueError):
    """A configuration that the device plugin refuses; the message is for its log."""


@dataclass(frozen=True)
class Sharing:
    """How devices are given to several pods.

    Attributes:
        kind: ``time-slicing`` or ``mps``.
        replicas: resource name → how many pods share one device.
        rename: whether the resource is advertised as ``<name>.shared``.
        fail_above_one: whether a container that asks for more than one share is refused.
    """

    kind: str
    replicas: tuple[tuple[str, int], ...]
    rename: bool = False
    fail_above_one: bool = False

    def of(self, resource: str) -> int:
        """The replicas of a resource; 1 is not shared."""
        return dict(self.replicas).get(resource, 1)


@dataclass(frozen=True)
class PluginConfig:
    """What a device plugin runs with.

    Attributes:
        strategy: how MIG devices are advertised: ``none``, ``single`` or ``mixed``.
        packed: fill one GPU's shares before the next; else spread over the GPUs.
    """

    strategy: str = "single"
    sharing: Sharing | None = None
    packed: bool = False

    def text(self) -> str:
        """The configuration as YAML, as it stands in the ConfigMap."""
        content: dict[str, Any] = {"version": "v1"}
        if self.packed:
            content["flags"] = {"plugin": {"sharedDevicesAllocationPolicy": "packed"}}
        if self.sharing is not None:
            kind: dict[str, Any] = {}
            if self.sharing.rename:
                kind["renameByDefault"] = True
            if self.sharing.fail_above_one:
                kind["failRequestsGreaterThanOne"] = True
            kind["resources"] = [
                {"name": name, "replicas": count} for name, count in self.sharing.replicas
            ]
            content["sharing"] = {_FIELDS[self.sharing.kind]: kind}
        return yaml.safe_dump(content, sort_keys=False)


def parse(text: str, strategy: str) -> PluginConfig:
    """Read one key of the ConfigMap.

    Args:
        text: YAML.
        strategy: what the operator sets for the cluster in the plugin's environment, which comes
            before ``flags.migStrategy`` of the file.

    Raises:
        ConfigError: with the words for the plugin's log.
    """
    try:
        content = yaml.safe_load(text) or {}
    except yaml.YAMLError as error:
        raise ConfigError(f"unable to load config: unable to finalize config: {error}") from None
    if not isinstance(content, dict) or content.get("version", "v1") != "v1":
        version = content.get("version") if isinstance(content, dict) else content
        raise ConfigError(f"unable to load config: unknown version: {version}")
    flags = content.get("flags") or {}
    policy = (flags.get("plugin") or {}).get("sharedDevicesAllocationPolicy", "distributed")
    return PluginConfig(strategy, _sharing(content.get("sharing") or {}), policy == "packed")


def _sharing(content: dict[str, Any]) -> Sharing | None:
    for kind, field in _FIELDS.items():
        part = content.get(field)
        if not part:
            continue
        replicas = []
        for row in part.get("resources") or ():
            count, name = row.get("replicas"), str(row.get("name", ""))
            if not isinstance(count, int) or count < 2:
                raise ConfigError(f"number of replicas must be >= 2: {count}")
            replicas.append((name if "/" in name else f"nvidia.com/{name}", count))
        # MPS refuses requests above one unless told otherwise; time-slicing must be told to.
        refuses = bool(part.get("failRequestsGreaterThanOne", kind == MPS))
        if replicas:
            rename = bool(part.get("renameByDefault", False))
            return Sharing(kind, tuple(replicas), rename, refuses)
    return None
