"""``ray`` as pods run it: on this machine's loopback alone, with its files in the container's home.

Several Ray nodes share this machine. By itself ``ray start`` listens on every interface, where
anybody who reaches the machine could run code in an unauthenticated cluster; and it keeps sockets
below ``/tmp/ray``, which is one place for all pods. This program is run as a file of its own and
imports nothing of the simulator.

One port is left on all interfaces: a replica of Ray Serve listens there for other replicas, at an
address that Ray fixes (``ray/serve/_private/replica.py``).

Sources at Ray 2.60: ``ray/_private/services.py`` (``get_node_ip_address``),
``ray/scripts/scripts.py`` (``start``), ``ray/_private/node.py``.
"""

from __future__ import annotations

import json
import os
import sys

LOOPBACK = "127.0.0.1"
#: Where Ray takes 127.0.0.1 for an address of its own; it then refuses to start worker nodes.
ONE_MACHINE = "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"
TEMPORARY = "RAY_TMPDIR"
#: The file of the embedded cluster in which the autoscaler finds the token for its API server.
CLUSTER_STATE = "MLK8S_RAY_CLUSTER_STATE"


def _short_home() -> str:
    """A path of the container's home that is short enough for Unix sockets below it.

    They may have 107 bytes, of which Ray takes some 70. The path holds as long as this process,
    which stays until its node ends, and leaves nothing behind.
    """
    home = os.environ.get("HOME") or os.getcwd()
    # Through /proc, as Linux has it.
    descriptor = os.open(home, os.O_RDONLY | os.O_DIRECTORY)
    short = f"/proc/{os.getpid()}/fd/{descriptor}"
    return short if os.path.isdir(short) else home


def _token_file(state: str) -> str:
    """A file with the token alone, for this user, in the place of a mounted account's."""
    with open(state, encoding="utf-8") as file:
        token = json.load(file)["token"]
    path = os.path.join(os.environ.get("HOME") or os.getcwd(), ".account-token")
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(token)
    return path


def main() -> None:
    """Run the command line of Ray."""
    os.environ[ONE_MACHINE] = "1"
    try:
        from ray._private import services
        from ray.scripts import scripts
    except ModuleNotFoundError as error:
        sys.exit(
            f"ray cannot be run: {error}. Next: install the course's packages with `make setup` in "
            "its folder."
        )
    services.get_node_ip_address = lambda address=None: LOOPBACK
    # For the processes that this one starts.
    os.environ[ONE_MACHINE] = "0"
    if sys.argv[1:2] == ["start"]:
        os.environ[TEMPORARY] = _short_home()
    if sys.argv[1:2] == ["kuberay-autoscaler"]:
        from ray.autoscaler._private.kuberay import node_provider

        node_provider.IN_CLUSTER_TOKEN_PATH = _token_file(os.environ[CLUSTER_STATE])
    sys.argv[0] = "ray"
    scripts.main()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
