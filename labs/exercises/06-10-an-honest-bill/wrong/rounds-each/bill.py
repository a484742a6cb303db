"""What owners of MIG instances pay."""

from mlk8s.gpu import mig


def bill(gpu, hour, used):
    """Cents of each session, added up."""
    geometry = mig.geometry(gpu)
    owed = {}
    for owner, name, hours in used:
        p = geometry.profile(name)
        share = max(p.size / geometry.memory_slices, p.sm / geometry.sm)
        owed[owner] = owed.get(owner, 0) + round(share * hour * hours, 2)
    return {owner: round(amount, 2) for owner, amount in owed.items()}
