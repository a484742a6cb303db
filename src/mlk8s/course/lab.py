"""JupyterLab for the course: loopback only, behind a token, in the folder of the notebooks."""

from __future__ import annotations

import os
import secrets
import socket
import sys
from pathlib import Path

from mlk8s.course.site import LOOPBACK
from mlk8s.errors import UsageError


def lab(port: int = 8888, notebooks: Path = Path("notebooks")) -> None:
    """Replace this process by JupyterLab.

    Args:
        port: TCP port on the loopback address.
        notebooks: the folder that it opens.

    Raises:
        UsageError: the port is taken, or there is no such folder.
    """
    if not notebooks.is_dir():
        raise UsageError(
            f"There is no folder {notebooks}.", "run it from the top of the repository."
        )
    if not 1 <= port <= 65535:
        raise UsageError(f"Port {port} does not exist.", "use 1 to 65535.")
    with socket.socket() as probe:
        # As a server would bind: a port that only waits for old connections is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            raise UsageError(
                f"Port {port} on {LOOPBACK} cannot be used: {os.strerror(error.errno or 0)}.",
                f"choose another one: `make lab PORT={port + 1}`.",
            ) from error
    token = secrets.token_urlsafe(24)
    print(f"JupyterLab: http://{LOOPBACK}:{port}/lab?token={token}  (Ctrl-C twice stops it)")
    arguments = [
        f"--ServerApp.ip={LOOPBACK}",
        f"--ServerApp.port={port}",
        # Another port than the one printed would be a surprise.
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={notebooks.resolve()}",
        "--ServerApp.open_browser=False",
        # Nothing is asked of the network: no news, no look for updates.
        "--LabApp.news_url=None",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]
    if hasattr(os, "geteuid") and os.geteuid() == 0:
        arguments.append("--ServerApp.allow_root=True")
    # In the environment, so that `ps` does not show the token.
    os.environ["JUPYTER_TOKEN"] = token
    sys.stdout.flush()
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *arguments])
