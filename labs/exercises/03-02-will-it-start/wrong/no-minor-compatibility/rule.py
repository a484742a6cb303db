"""Whether a program starts on a driver."""


def fit(built, highest):
    """Compare the versions."""
    wanted, offered = (tuple(map(int, v.split("."))) for v in (built, highest))
    return "full" if offered >= wanted else "none"
