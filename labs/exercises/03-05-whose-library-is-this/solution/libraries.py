"""The libraries of a process and where they lie."""

from pathlib import PurePosixPath


def places(maps):
    """The folders from which each shared library was loaded."""
    found = {}
    for line in maps.splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and ".so" in parts[5]:
            path = PurePosixPath(parts[5].strip())
            found.setdefault(path.name, set()).add(str(path.parent))
    return {name: sorted(folders) for name, folders in found.items()}
