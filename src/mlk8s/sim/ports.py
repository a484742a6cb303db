"""Ports of this machine for pods: there is no pod network, so they share the machine's own.

Two servers of one cluster, or of two clusters of this machine, must not be given the same one. A
port is looked for from a start that differs among them, and is free when it is given out.
"""

from __future__ import annotations

import errno
import os
import socket
import zlib
from collections.abc import Collection

# Below the ports that systems hand out (32768 on), and below those of NodePorts (30000 on).
#: For the ports that containers declare, and for the meeting points of training jobs.
CONTAINERS, TRAINING = range(10_000, 20_000), range(20_000, 30_000)


def free_port(among: range, purpose: str, taken: Collection[int]) -> int:
    """A port on which nobody listens.

    Args:
        among: the ports that may be given.
        purpose: what it is for; the search begins elsewhere for another purpose.
        taken: ports that have been given out, on which nobody may listen yet.

    Raises:
        OSError: all of them are in use.
    """
    # Another cluster of this machine, which makes the same uids, begins elsewhere.
    start = zlib.crc32(f"{os.getpid()}/{purpose}".encode())
    for step in range(len(among)):
        port = among[(start + step) % len(among)]
        if port not in taken and _is_free(port):
            return port
    why = f"no port of this machine from {among[0]} to {among[-1]} is free"
    raise OSError(errno.EADDRINUSE, why)


def _is_free(port: int) -> bool:
    with socket.socket() as probe:
        try:
            probe.bind(("", port))
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            return False
    return True
