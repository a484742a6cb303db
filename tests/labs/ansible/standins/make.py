"""``make`` in the course's checkout: ``setup`` writes an environment that answers ``/api``."""

from __future__ import annotations

from pathlib import Path

from .calls import Failed

_STAMP = Path(".venv/.installed")
_JUPYTER = '''\
#!/usr/bin/python3
"""A stand-in for JupyterLab: it answers /api, as the real one does without a token."""
import http.server
import sys

options = dict(word.lstrip("-").partition("=")[::2] for word in sys.argv[1:])
address = options.get("ServerApp.ip") or options.get("ip") or "localhost"
port = int(options.get("ServerApp.port") or options.get("port") or 8888)


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        found = self.path.split("?")[0] == "/api"
        body = b'{"version": "2.17.0"}' if found else b"Forbidden"
        self.send_response(200 if found else 403)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


http.server.ThreadingHTTPServer.allow_reuse_address = True
http.server.ThreadingHTTPServer((address, port), Handler).serve_forever()
'''


def main(argv: list[str]) -> int:
    """``make -q TARGET`` and ``make setup``."""
    words = [word for word in argv if not word.startswith("-") and "=" not in word]
    sources = [Path(name) for name in ("pyproject.toml", "requirements.lock")]
    if missing := [file for file in [Path("Makefile"), *sources] if not file.exists()]:
        raise Failed(f"make: *** No rule to make target '{missing[0]}'.  Stop.", 2)
    fresh = _STAMP.exists() and all(
        _STAMP.stat().st_mtime >= file.stat().st_mtime for file in sources
    )
    if "-q" in argv:
        return 0 if fresh else 1
    if words not in (["setup"], [str(_STAMP)]):
        raise Failed(f"make: *** No rule to make target '{' '.join(words)}'.  Stop.", 2)
    if fresh:
        print("make: Nothing to be done for 'setup'.")
        return 0
    programs = Path(".venv/bin")
    programs.mkdir(parents=True, exist_ok=True)
    for name in ("jupyter", "jupyter-lab"):
        (programs / name).write_text(_JUPYTER)
        (programs / name).chmod(0o755)
    for name in ("python", "python3"):
        (programs / name).unlink(missing_ok=True)
        (programs / name).symlink_to("/usr/bin/python3")
    _STAMP.touch()
    print("Installing the environment into .venv")
    return 0
