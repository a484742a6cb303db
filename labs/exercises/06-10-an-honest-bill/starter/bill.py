"""What owners of MIG instances pay."""

from mlk8s.gpu import mig


def bill(gpu, hour, used):
    """Owner to amount, for a list of [owner, profile, hours]."""
    slices = mig.geometry(gpu).memory_slices
    return {owner: round(hour * hours / slices, 2) for owner, profile, hours in used}
