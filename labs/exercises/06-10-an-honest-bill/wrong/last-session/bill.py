"""What owners of MIG instances pay."""

from mlk8s.gpu import mig


def bill(gpu, hour, used):
    """Each owner's last session."""
    geometry = mig.geometry(gpu)
    owed = {}
    for owner, name, hours in used:
        p = geometry.profile(name)
        share = max(p.size / geometry.memory_slices, p.sm / geometry.sm)
        owed[owner] = round(share * hour * hours, 2)
    return owed
