"""Where the next MIG instance goes."""

from mlk8s.gpu import mig

H100 = mig.geometry("h100-80gb")


def place(there, profile):
    """The lowest start, or None."""
    text = " ".join(f"{name}@{start}" for name, start in there)
    places = mig.Layout.parse(H100, text).places(H100.profile(profile))
    return min(places, default=None)
