"""Both caches lie on the claim."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any

from mlk8s.course.exercises import Work, Wrong

CLAIM = "compiled-h100"
CACHES = ("TORCHINDUCTOR_CACHE_DIR", "TRITON_CACHE_DIR")


def check(work: Work) -> str:
    """Follow each variable to its mount, and the mount to its volume."""
    deployment = work.documents("deployment.yaml")[0]
    try:
        spec: dict[str, Any] = deployment["spec"]["template"]["spec"]
        (container,) = spec["containers"]
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        mounts = {mount["mountPath"]: mount for mount in container["volumeMounts"]}
        environment = {each["name"]: each.get("value") for each in container["env"]}
    except (KeyError, TypeError, ValueError) as error:
        raise Wrong(
            f"deployment.yaml is no Deployment with one container, its env, volumeMounts and "
            f"volumes ({error})."
        ) from error
    if container["image"] != "registry.example.com/scorer:1.4" or "/models" not in mounts:
        raise Wrong("The image and the mount /models are to stay as they were.")
    places = {}
    for name in CACHES:
        if not environment.get(name):
            raise Wrong(f"{name} is not set: that cache stays in the container, and dies with it.")
        path = PurePosixPath(environment[name])
        holding = [m for m in mounts if path.is_relative_to(m)]
        if not holding:
            raise Wrong(f"{name} is {path}, and no volume is mounted there or above it.")
        mount = mounts[max(holding, key=len)]
        volume = volumes.get(mount["name"], {})
        if "emptyDir" in volume:
            raise Wrong(f"{name} lies on an emptyDir, which is deleted with its pod.")
        claim = (volume.get("persistentVolumeClaim") or {}).get("claimName")
        if claim != CLAIM or mount.get("readOnly"):
            raise Wrong(f"{name} lies on {claim or 'another volume'}; write it to {CLAIM}.")
        places[name] = path
    if len(set(places.values())) < len(CACHES):
        raise Wrong("Both caches have the same folder. Give each its own.")
    return f"Both caches lie on {CLAIM}, and the next pod finds them."
