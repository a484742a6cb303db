"""The pod asks for one GPU and ends with the sample's own verdict."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong

GPU, SAMPLE = "nvidia.com/gpu", "nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0"
# A program that computes for a second is no service: that it runs says nothing.
LASTING = ("done", "failed", "stuck", "waits", "missing")


def check(work: Work) -> str:
    """Run it, and read its log."""
    work.apply("pod.yaml", "Pod")
    work.until("vectoradd to end", lambda: work.settled("vectoradd").state in LASTING)
    found = work.settled("vectoradd")
    if found.state == "missing":
        raise Wrong("pod.yaml makes no pod vectoradd; keep its name.")
    container = found.pod["spec"]["containers"][0]
    if str((container["resources"].get("limits") or {}).get(GPU)) != "1":
        raise Wrong(f"Pod vectoradd asks for no {GPU} any more. It is to compute on one.")
    if container["image"] != SAMPLE:
        raise Wrong(f"The image is {container['image']}. The program is right; keep {SAMPLE}.")
    if found.state != "done":
        log = work.k.logs("vectoradd").text.splitlines()
        said = next((line for line in log if "CUDA" in line), "no word of CUDA")
        raise Wrong(
            f"Pod vectoradd is on {found.node} with a GPU, and does not end well ({found.says}). "
            f"It says: {said} What does a container need beside the device, and who puts it there?"
        )
    if "Test PASSED" not in work.k.logs("vectoradd").text:
        raise Wrong("Pod vectoradd ended, and its log has no 'Test PASSED'.")
    return f"Pod vectoradd had a GPU of {found.node} with the driver's libraries: Test PASSED."
