"""Where the next MIG instance goes."""

SIZES = {"1g.10gb": 1, "1g.20gb": 2, "2g.20gb": 2, "3g.40gb": 4, "4g.40gb": 4, "7g.80gb": 8}


def place(there, profile):
    """The highest free slices, wherever the profile may start."""
    taken = {slot for name, start in there for slot in range(start, start + SIZES[name])}
    for start in range(8 - SIZES[profile], -1, -1):
        if not taken & set(range(start, start + SIZES[profile])):
            return start
    return None
