"""Lets the machine's Python keep what it compiles from zip files, as it does for other files.

Ansible sends each module with its library in a zip, and every task compiles it again, which is
half of a task's time. Installed as ``sitecustomize`` on test machines only; a run behaves the same
without.
"""

import hashlib
import marshal
import os
import zipimport

_FOLDER = "/opt/standins/compiled"
_compile = zipimport._compile_source  # type: ignore[attr-defined]


def _kept(path, source):
    file = f"{_FOLDER}/{hashlib.sha256(source).hexdigest()}"
    try:
        with open(file, "rb") as kept:
            return marshal.load(kept)
    except OSError:
        code = _compile(path, source)
    # Machines share the folder, and count their processes alike.
    mine = f"{file}.{os.urandom(8).hex()}"
    with open(mine, "wb") as new:
        marshal.dump(code, new)
    os.replace(mine, file)
    return code


zipimport._compile_source = _kept  # type: ignore[attr-defined]
