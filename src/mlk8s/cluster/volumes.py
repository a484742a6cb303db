"""Files out of a claim's volume, through nothing but a pod and its log."""

from __future__ import annotations

import base64
import binascii
import io
import shlex
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

from mlk8s.cluster.workloads import run
from mlk8s.errors import ClusterError

if TYPE_CHECKING:
    from mlk8s.cluster.connection import Connection

#: The kubelet rotates a log at 10 MiB (containerLogMaxSize), and base64 makes four bytes of three.
LIMIT_BYTES = 7 * 1024**2
_IMAGE = "busybox:1.37"
_MOUNT = "/volume"


def fetch(connection: Connection, claim: str, path: str, to: Path | str) -> Path:
    """Copy a folder out of a volume.

    A pod that mounts the volume, read-only, writes the folder into its log as a packed archive.
    That needs no tool on this machine and no network into the cluster; ``kubectl cp`` sends the
    same archive over ``exec``.

    Args:
        connection: the cluster.
        claim: name of the PersistentVolumeClaim, in the labs' namespace.
        path: of the folder, below the volume's root.
        to: where its files go; made if it is missing.

    Returns:
        The folder on this machine.

    Raises:
        ClusterError: there is no such folder, it is larger than :data:`LIMIT_BYTES` when packed,
            or the pod did not run.
    """
    place = shlex.quote(f"{_MOUNT}/{path}")
    script = (
        f"set -e; cd {place}; tar cz . > /tmp/packed; size=$(wc -c < /tmp/packed); "
        f'[ "$size" -le {LIMIT_BYTES} ] || {{ echo "$size bytes packed" >&2; exit 3; }}; '
        "base64 < /tmp/packed"
    )
    container = {
        "name": "fetch",
        "image": _IMAGE,
        "command": ["sh", "-c", script],
        "volumeMounts": [
            {"name": "volume", "mountPath": _MOUNT, "readOnly": True},
            {"name": "packed", "mountPath": "/tmp"},
        ],
    }
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"generateName": "fetch-"},
        "spec": {
            "restartPolicy": "Never",
            "containers": [container],
            "volumes": [
                {"name": "volume", "persistentVolumeClaim": {"claimName": claim}},
                {"name": "packed", "emptyDir": {}},
            ],
        },
    }
    result = run(pod, connection, show=None)
    if not result.succeeded:
        said = result.log.strip() or result.reason
        raise ClusterError(
            f"The folder {path} of claim {claim} cannot be fetched: {said}.",
            f"see what is there with a pod that mounts {claim}; folders over "
            f"{LIMIT_BYTES // 1024**2} MiB stay in the cluster.",
        )
    folder = Path(to)
    folder.mkdir(parents=True, exist_ok=True)
    try:
        packed = base64.b64decode(result.log)
        with tarfile.open(fileobj=io.BytesIO(packed), mode="r:gz") as archive:
            archive.extractall(folder, filter="data")
    except (binascii.Error, tarfile.TarError, EOFError) as error:
        raise ClusterError(
            f"The folder {path} of claim {claim} arrived damaged: {error}.",
            "fetch it again; a log that is cut short is a sign of a full disk on the node.",
        ) from error
    return folder
