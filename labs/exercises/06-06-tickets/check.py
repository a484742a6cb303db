"""Three notebooks run, a greedy one is refused, and a training job finds no GPU."""

from __future__ import annotations

from mlk8s.cluster import gpu_pod
from mlk8s.course.exercises import Work, Wrong
from mlk8s.course.exercises.repairs import OPERANDS, PLUGIN, label, restart, rolled

IMAGE, NODE = "registry.k8s.io/pause:3.10", "l4-0"
MAP, KEY, LABEL = "device-plugin-config", "exercise", "nvidia.com/device-plugin.config"
GPU, SHARED = "nvidia.com/gpu", "nvidia.com/gpu.shared"
NOTEBOOKS = tuple(f"notebook-{number}" for number in range(3))
READ_S = 3.0


def clean(work: Work) -> None:
    """The node has its whole GPU again."""
    for name in (*NOTEBOOKS, "greedy", "training"):
        work.remove("pod", name)
    work.k.patch("nodes", NODE, {"metadata": {"labels": {LABEL: None}}})
    work.k.patch("configmaps", MAP, {"data": {KEY: None}}, namespace=OPERANDS)
    _restart(work)
    work.until("the whole GPU", lambda: _offers(work, GPU) == 1)


def check(work: Work) -> str:
    """Have the plugin read it, then send the pods."""
    text = work.file("config.yaml").read_text(encoding="utf-8")
    work.documents("config.yaml")
    for name in (*NOTEBOOKS, "greedy", "training"):
        work.remove("pod", name)
    work.k.patch("configmaps", MAP, {"data": {KEY: text}}, namespace=OPERANDS)
    label(work.k, NODE, LABEL, KEY)
    _restart(work)
    work.until("its shares", lambda: _offers(work, SHARED) == len(NOTEBOOKS), READ_S)
    shared, whole = _offers(work, SHARED), _offers(work, GPU)
    if not shared:
        raise Wrong(
            f"{NODE} offers {GPU}: {whole}, and no {SHARED}. A training job would take one of "
            "them for a GPU."
        )
    work.k.apply(gpu_pod("greedy", IMAGE, gpus=2, resource=SHARED))
    greedy = work.settled("greedy")
    if greedy.state != "failed":
        raise Wrong(
            f"The pod that asks for two shares {greedy.state}. The plugin refuses it if it is told "
            "to."
        )
    work.remove("pod", "greedy")
    for name in NOTEBOOKS:
        work.k.apply(gpu_pod(name, IMAGE, resource=SHARED))
    for name, found in work.all_settled(*NOTEBOOKS).items():
        if found.state != "runs":
            raise Wrong(f"{NODE} offers {SHARED}: {shared}, and {name} does not run: {found.says}")
    if shared > len(NOTEBOOKS):
        raise Wrong(f"{NODE} offers {SHARED}: {shared}. Three at a time were asked for.")
    return f"{NODE} offers {SHARED}: {shared} and {GPU}: {whole}; two at once are refused."


def _restart(work: Work) -> None:
    """The plugin reads its configuration when it starts."""
    restart(work.k, PLUGIN, NODE)
    work.until("the plugin", lambda: rolled(work.k, PLUGIN) and work.operands(PLUGIN, NODE))


def _offers(work: Work, resource: str) -> int:
    return int(work.node(NODE)["status"]["allocatable"].get(resource, "0"))
