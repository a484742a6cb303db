"""The pod runs, and its /dev/shm holds every batch that can exist at once."""

from __future__ import annotations

from mlk8s.cluster.requests import quantities
from mlk8s.course.exercises import Work, Wrong

GIB = 2**30
BATCH = 64 * 3 * 224 * 224 * 4
BATCHES = 8 * 4 + 8
OWN = 6 * GIB


def check(work: Work) -> str:
    """Apply the reader's pod, and measure its volume."""
    work.apply("pod.yaml", "Pod")
    spec = work.pod("trainer").get("spec")
    if spec is None:
        raise Wrong("pod.yaml holds no pod trainer.")
    (container,) = spec["containers"]
    places = {m["mountPath"].rstrip("/"): m for m in container.get("volumeMounts", ())}
    if "/dev/shm" not in places:
        raise Wrong("Nothing is mounted at /dev/shm, so it has the engine's 64 MB.")
    volume = next(v for v in spec["volumes"] if v["name"] == places["/dev/shm"]["name"])
    folder = volume.get("emptyDir")
    if folder is None or folder.get("medium") != "Memory":
        raise Wrong("What is mounted at /dev/shm is not memory. Which medium has an emptyDir?")
    if "sizeLimit" not in folder:
        raise Wrong("The volume at /dev/shm has no sizeLimit, so it may grow to half the node.")
    size = int(quantities({"size": folder["sizeLimit"]})["size"])
    limits = quantities(container["resources"].get("limits") or {})
    if size < BATCH * BATCHES:
        raise Wrong(
            f"/dev/shm has {size / GIB:.2f} GiB. How many batches are prefetched by all workers, "
            "how many are under way, and how large is one?"
        )
    if size > 2 * BATCH * BATCHES:
        raise Wrong(f"/dev/shm has {size / GIB:.2f} GiB, more than twice what the batches take.")
    if "memory" not in limits or int(limits["memory"]) < size + OWN:
        raise Wrong("When /dev/shm is full, the memory limit leaves the training less than 6 GiB.")
    if limits.get("nvidia.com/gpu") != 1:
        raise Wrong("The training needs one nvidia.com/gpu.")
    work.running("trainer")
    return f"trainer runs, with {size / GIB:.2f} GiB for {BATCHES} batches of {BATCH:,} bytes."
