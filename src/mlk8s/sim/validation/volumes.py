"""Validation of a pod's volumes.

Of the sources that Kubernetes knows, those that run without a storage vendor are looked into; of
the others it is only checked that a volume has one of them.
"""

from __future__ import annotations

from mlk8s.sim.status import (
    FieldError,
    Object,
    duplicate,
    forbidden,
    invalid,
    required,
    unsupported,
)
from mlk8s.sim.validation import rules

_SOURCES = (
    "emptyDir",
    "hostPath",
    "gitRepo",
    "gcePersistentDisk",
    "awsElasticBlockStore",
    "secret",
    "nfs",
    "iscsi",
    "glusterfs",
    "flocker",
    "persistentVolumeClaim",
    "rbd",
    "cinder",
    "cephfs",
    "quobyte",
    "downwardAPI",
    "fc",
    "flexVolume",
    "configMap",
    "azureFile",
    "vsphereVolume",
    "photonPersistentDisk",
    "portworxVolume",
    "azureDisk",
    "storageos",
    "projected",
    "scaleIO",
    "csi",
    "ephemeral",
    "image",
)
_HOST_PATH_TYPES = (
    "",
    "BlockDevice",
    "CharDevice",
    "Directory",
    "DirectoryOrCreate",
    "File",
    "FileOrCreate",
    "Socket",
)
_MODE = "must be a number between 0 and 0777 (octal), both inclusive"


def validate(path: str, volumes: list[Object]) -> list[FieldError]:
    """``spec.volumes``."""
    errors: list[FieldError] = []
    names: set[str] = set()
    for index, volume in enumerate(volumes):
        here, name = f"{path}[{index}]", volume.get("name", "")
        errors += _source(here, volume)
        if not name:
            errors.append(required(f"{here}.name"))
        else:
            errors += rules.each(f"{here}.name", name, rules.dns_label)
        if name in names:
            errors.append(duplicate(f"{here}.name", name))
        if name:
            names.add(name)
    return errors


def local_path(path: str, value: str) -> list[FieldError]:
    """A path below something: neither absolute nor leaving it."""
    errors: list[FieldError] = []
    if value.startswith("/"):
        errors.append(invalid(path, value, "must be a relative path"))
    return errors + no_backsteps(path, value)


def no_backsteps(path: str, value: str) -> list[FieldError]:
    """A path without ``..``."""
    if ".." in value.replace("\\", "/").split("/"):
        return [invalid(path, value, "must not contain '..'")]
    return []


def _source(path: str, volume: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    given = [name for name in _SOURCES if volume.get(name) is not None]
    if not given:
        return [required(path, "must specify a volume type")]
    for name in given[1:]:
        errors.append(forbidden(f"{path}.{name}", "may not specify more than 1 volume type"))
    name = given[0]
    here, source = f"{path}.{name}", volume[name]
    return _one(here, name, source) + errors


def _one(here: str, name: str, source: Object) -> list[FieldError]:
    if name == "emptyDir":
        if source.get("sizeLimit") is None:
            return []
        return rules.quantity_value(f"{here}.sizeLimit", source["sizeLimit"], False)
    if name == "hostPath":
        if not source.get("path"):
            return [required(f"{here}.path")]
        errors = no_backsteps(f"{here}.path", source["path"])
        kind = source.get("type") or ""
        if kind not in _HOST_PATH_TYPES:
            errors.append(unsupported(f"{here}.type", kind, _HOST_PATH_TYPES))
        return errors
    if name == "secret":
        return _keyed(here, source, "secretName")
    if name == "configMap":
        return _keyed(here, source, "name")
    if name == "nfs":
        errors = [required(f"{here}.{part}") for part in ("server", "path") if not source.get(part)]
        if source.get("path") and not source["path"].startswith("/"):
            errors.append(invalid(f"{here}.path", source["path"], "must be an absolute path"))
        return errors
    if name == "persistentVolumeClaim":
        return [] if source.get("claimName") else [required(f"{here}.claimName")]
    if name == "csi":
        return [] if source.get("driver") else [required(f"{here}.driver")]
    if name == "downwardAPI":
        return _mode(f"{here}.defaultMode", source.get("defaultMode")) + _files(here, source)
    if name == "projected":
        return _projected(here, source)
    if name == "ephemeral" and not source.get("volumeClaimTemplate"):
        return [required(f"{here}.volumeClaimTemplate")]
    return []


def _mode(path: str, mode: int | None) -> list[FieldError]:
    if mode is None or 0 <= mode <= 0o777:
        return []
    return [invalid(path, mode, _MODE)]


def _keyed(path: str, source: Object, name: str) -> list[FieldError]:
    errors = [] if source.get(name) else [required(f"{path}.{name}")]
    errors += _mode(f"{path}.defaultMode", source.get("defaultMode"))
    return errors + _items(path, source)


def _items(path: str, source: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for index, item in enumerate(source.get("items") or ()):
        here = f"{path}.items[{index}]"
        if not item.get("key"):
            errors.append(required(f"{here}.key"))
        errors += _file(here, item)
    return errors


def _file(path: str, item: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    if not item.get("path"):
        errors.append(required(f"{path}.path"))
    errors += local_path(f"{path}.path", item.get("path", ""))
    return errors + _mode(f"{path}.mode", item.get("mode"))


def _files(path: str, source: Object) -> list[FieldError]:
    errors: list[FieldError] = []
    for item in source.get("items") or ():
        # The server leaves the index out of these paths.
        here = path
        errors += _file(here, item)
        given = [part for part in ("fieldRef", "resourceFieldRef") if item.get(part) is not None]
        if len(given) > 1:
            text = "fieldRef and resourceFieldRef can not be specified simultaneously"
            errors.append(invalid(here, "resource", text))
        elif not given:
            text = "one of fieldRef and resourceFieldRef is required"
            errors.append(required(here, text))
    return errors


def _projected(path: str, source: Object) -> list[FieldError]:
    errors = _mode(f"{path}.defaultMode", source.get("defaultMode"))
    kinds = (
        "secret",
        "configMap",
        "downwardAPI",
        "serviceAccountToken",
        "clusterTrustBundle",
        "podCertificate",
    )
    for index, one in enumerate(source.get("sources") or ()):
        here = f"{path}.sources[{index}]"
        given = [kind for kind in kinds if one.get(kind) is not None]
        if not given:
            errors.append(required(here, "must specify a volume type"))
        elif len(given) > 1:
            text = "may not specify more than 1 volume type per source"
            errors.append(forbidden(f"{here}.{given[1]}", text))
        elif given[0] in ("secret", "configMap"):
            errors += _keyed(f"{here}.{given[0]}", one[given[0]], "name")
        elif given[0] == "downwardAPI":
            errors += _files(f"{here}.downwardAPI", one["downwardAPI"])
        elif given[0] == "serviceAccountToken" and not one["serviceAccountToken"].get("path"):
            errors.append(required(f"{here}.serviceAccountToken.path"))
    return errors
