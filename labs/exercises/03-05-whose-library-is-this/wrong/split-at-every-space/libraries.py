"""The libraries of a process and where they lie."""

import os


def places(maps):
    """The folders of each library."""
    found = {}
    for line in maps.splitlines():
        path = line.split()[-1]
        if ".so" in path:
            folder, name = os.path.split(path)
            found.setdefault(name, set()).add(folder)
    return {name: sorted(folders) for name, folders in found.items()}
