"""Whether a program starts on a driver."""


def fit(built, highest):
    """How a program built with one CUDA gets on with a driver's highest CUDA."""
    return "full" if built == highest else "none"
