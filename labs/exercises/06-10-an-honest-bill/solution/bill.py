"""What owners of MIG instances pay."""

from mlk8s.gpu import mig


def bill(gpu, hour, used):
    """Owner to amount, for a list of [owner, profile, hours]."""
    geometry = mig.geometry(gpu)
    owed = {}
    for owner, name, hours in used:
        p = geometry.profile(name)
        share = max(p.size / geometry.memory_slices, p.sm / geometry.sm)
        owed[owner] = owed.get(owner, 0) + share * hour * hours
    return {owner: round(amount, 2) for owner, amount in owed.items()}
