"""The libraries of a process and where they lie."""


def places(maps):
    """The folders from which each shared library was loaded."""
    return {}
