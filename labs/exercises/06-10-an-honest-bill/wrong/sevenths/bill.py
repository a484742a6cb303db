"""What owners of MIG instances pay."""

from mlk8s.gpu import mig


def bill(gpu, hour, used):
    """By the number in the profile's name."""
    geometry = mig.geometry(gpu)
    owed = {}
    for owner, name, hours in used:
        share = geometry.profile(name).compute / geometry.compute_slices
        owed[owner] = owed.get(owner, 0) + share * hour * hours
    return {owner: round(amount, 2) for owner, amount in owed.items()}
