"""Whether a program starts on a driver."""


def fit(built, highest):
    """Compare the versions."""
    if highest >= built:
        return "full"
    return "minor version" if highest[:2] == built[:2] else "none"
