"""The libraries of a process and where they lie."""

import os


def places(maps):
    """The folders of each library."""
    found = {}
    for line in maps.splitlines():
        parts = line.split(maxsplit=5)
        if len(parts) == 6 and ".so" in parts[5]:
            folder, name = os.path.split(parts[5])
            found[name] = [folder]
    return found
