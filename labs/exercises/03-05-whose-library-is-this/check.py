"""The function finds every library of a process, with all the folders that it came from."""

from __future__ import annotations

from pathlib import PurePosixPath

from mlk8s.course.exercises import Work, Wrong

WHEELS = "/opt/app/lib/python3.12/site-packages/nvidia"
PATHS = [
    f"{WHEELS}/cuda_runtime/lib/libcudart.so.12",
    f"{WHEELS}/cublas/lib/libcublas.so.12",
    "/usr/local/cuda-12.4/targets/x86_64-linux/lib/libcudart.so.12",
    "/usr/lib/x86_64-linux-gnu/libcuda.so.550.54.14",
    "/opt/my models/lib/libcustom_ops.so",
]
OTHERS = ["[heap]", "", "/dev/nvidia0", "/usr/bin/python3.12", "anon_inode:[perf_event]"]


def maps() -> str:
    """A process with every library mapped in four pieces, and other lines between them."""
    lines = []
    for number, path in enumerate([*PATHS, *OTHERS]):
        for piece, rights in enumerate(("r--p", "r-xp", "r--p", "rw-p")):
            start = 0x7F0000000000 + (number << 24) + (piece << 20)
            lines.append(
                f"{start:x}-{start + 4096:x} {rights} {piece << 12:08x} fe:00 {1000 + number}"
                + " " * 20
                + path
            )
    return "\n".join(lines) + "\n"


def check(work: Work) -> str:
    """Compare with what the text was made from."""
    right: dict[str, list[str]] = {}
    for path in map(PurePosixPath, sorted(PATHS)):
        right.setdefault(path.name, []).append(str(path.parent))
    found = work.call("libraries.py", "places", maps())
    if not isinstance(found, dict):
        raise Wrong(f"places() returns {found!r:.60}, not a mapping of names to folders.")
    for name, folders in right.items():
        if name not in found:
            raise Wrong(f"{name} is in the text, and not in the result ({len(found)} names).")
        if found[name] != folders:
            raise Wrong(
                f"{name} was loaded from {len(folders)} folder(s), and places() gives "
                f"{found[name]}. Look at how its lines are split, and at what happens to the "
                "second folder of one name."
            )
    if extra := sorted(set(found) - set(right)):
        raise Wrong(f"These are no shared libraries: {', '.join(extra)}.")
    twice = [name for name, folders in found.items() if len(folders) > 1]
    return f"All {len(right)} libraries are found, and {', '.join(twice)} in two places."
