"""Whether a program starts on a driver."""


def fit(built, highest):
    """How a program built with one CUDA gets on with a driver's highest CUDA."""
    wanted, offered = (tuple(map(int, v.split("."))) for v in (built, highest))
    if offered >= wanted:
        return "full"
    return "minor version" if offered[0] == wanted[0] else "none"
