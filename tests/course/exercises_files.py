"""Writes exercises for tests, whole or with something amiss."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

COUNT = """
from mlk8s.course.exercises import Wrong


def check(work):
    found = work.number("gpus", "devices")
    if found != 8:
        raise Wrong(f"{found:g} GPU(s) are not right; look at the server again")
    return "There are 8 GPUs."
"""
RUNS = """
def check(work):
    (body,) = work.apply("pod.yaml", "Pod")
    pod = work.running(body["metadata"]["name"], within_s=5)
    return f"{pod['metadata']['name']} runs"
"""
POD = """apiVersion: v1
kind: Pod
metadata:
  name: one
spec:
  restartPolicy: Never
  containers:
  - name: main
    image: busybox
    command:
    - sh
    - -c
    - sleep 100
"""
HINTS = "## First\nCount them.\n\n## Second\nAsk nvidia-smi.\n"
WRONG = {"seven": ("gpus: 7\n", "not right"), "one": ("gpus: 1\n", "not right")}


def write(
    course: Path,
    name: str,
    *,
    task: str | None = "How many GPUs does the server have?",
    header: str = "",
    check: str | None = COUNT,
    hints: str | None = HINTS,
    explanation: str | None = "Because there are.\n",
    starter: Mapping[str, str] | None = None,
    solution: Mapping[str, str] | None = None,
    wrong: Mapping[str, tuple[str, str]] = WRONG,
    **front: str,
) -> Path:
    """An exercise of a course; ``None`` leaves a file out, ``front`` goes into its front matter."""
    folder = course / "labs" / "exercises" / name
    folder.mkdir(parents=True)
    values = {"title": "Count", "chapter": "5", "minutes": "5", "needs": "none"}
    values |= {"trains": "counting", **front}
    lines = "".join(f"{key}: {value}\n" for key, value in values.items())
    texts = {
        "task.md": None if task is None else header or f"---\n{lines}---\n{task}\n",
        "hints.md": hints,
        "explanation.md": explanation,
        "check.py": check,
    }
    begin = {"answer.yaml": "gpus:\n"} if starter is None else starter
    end = {"answer.yaml": "gpus: 8\n"} if solution is None else solution
    texts |= {f"starter/{key}": text for key, text in begin.items()}
    texts |= {f"solution/{key}": text for key, text in end.items()}
    for slug, (answer, message) in wrong.items():
        texts |= {f"wrong/{slug}/answer.yaml": answer, f"wrong/{slug}/message.txt": message}
    (folder / "starter").mkdir()
    for key, text in texts.items():
        if text is not None:
            (folder / key).parent.mkdir(parents=True, exist_ok=True)
            (folder / key).write_text(text)
    return folder
