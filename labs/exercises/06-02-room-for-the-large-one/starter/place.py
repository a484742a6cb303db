"""Where the next MIG instance goes."""

from mlk8s.gpu import mig

H100 = mig.geometry("h100-80gb")


def place(there, profile):
    """The start of the next instance, or None if it has no place."""
    text = " ".join(f"{name}@{start}" for name, start in there)
    places = mig.Layout.parse(H100, text).places(H100.profile(profile))
    return places[0]
