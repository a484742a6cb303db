"""Each thing has its pin, and the record holds what nothing pins."""

from __future__ import annotations

from mlk8s.course.exercises import Work, Wrong

PINS = {
    "torch": "lock",
    "nvidia_cudnn": "lock",
    "libc": "image",
    "python": "image",
    "kernel_module": "node",
    "libcuda": "node",
    "gpu_clock": "node",
    "algorithm_for_a_batch_size": "nobody",
}
LOOK = {
    "lock": "Is it a Python package?",
    "image": "Is it a file of the image that pip does not know?",
    "node": "Would the same image on another node bring the same one?",
    "nobody": "Is it decided before the job runs, or while it runs?",
}
# What the record has to tell, and words by which each kind of answer gives it away.
TOLD = {
    "the driver": ("driver", "nvidia-smi", "nvml", "/proc/driver"),
    "the device and its state": ("clock", "ecc", "mig", "power", "nvidia-smi -q"),
    "the image": ("digest", "imageid", "sha256"),
    "the packages": ("pip freeze", "pip list", "lock", "uv "),
    "what the job was given: shapes, seeds, flags": ("shape", "batch"),
}


def check(work: Work) -> str:
    """Judge the pins one by one, then the record as a whole."""
    for thing, pin in PINS.items():
        given = work.answer(thing)
        if given not in LOOK:
            raise Wrong(f"answer.yaml: {thing} is {given!r}; write one of {', '.join(LOOK)}.")
        if given != pin:
            raise Wrong(f"{thing} is not pinned by {given!r} first. {LOOK[pin]}")
    record = work.answer("record")
    if not isinstance(record, list) or len(record) < 4:
        raise Wrong("answer.yaml: record is no list of at least four lines.")
    text = " ".join(map(str, record)).lower()
    for what, words in TOLD.items():
        if not any(word in text for word in words):
            raise Wrong(f"From the record nobody learns {what}.")
    return "Everything has its pin, and the record tells what no pin holds."
