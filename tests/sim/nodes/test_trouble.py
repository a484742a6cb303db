"""The texts of what can go wrong, against what the embedded cluster and a real server say."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from mlk8s.course.troubleshooting import TROUBLES, practice
from mlk8s.sim.faults import FAULTS, Fault
from mlk8s.sim.status import StatusError
from mlk8s.sim.trouble import Trouble, rows

from .cluster import Cluster, log, play

RECORDED = Path(__file__).parents[1] / "truth" / "scheduling.json"
RESOURCES = ("nodes", "pods", "events", "workloads.kueue.x-k8s.io")


def texts(trouble: Trouble, seen: str) -> list[str]:
    return [message.text for message in trouble.errors if message.seen == seen]


async def everything(cluster: Cluster) -> str:
    """All that one can read in a cluster: its objects, its logs, and ``nvidia-smi``."""
    store = cluster.api.store
    parts = [str(item) for key in RESOURCES for item in store.items(key)]
    for pod in store.items("pods"):
        meta = pod["metadata"]
        for container in (pod["spec"].get("initContainers") or []) + pod["spec"]["containers"]:
            try:
                parts.append(await log(cluster, meta["name"], meta["namespace"], container["name"]))
            except StatusError as error:  # it has not started, and kubectl logs says why
                parts.append(str(error))
        node = pod["spec"].get("nodeName")
        if node:
            parts.append(cluster.smi(node, pod=pod))
    return "\n".join(parts)


@pytest.mark.parametrize(
    "fault",
    [fault for fault in FAULTS.values() if texts(fault, "embedded")],
    ids=lambda fault: fault.name,
)
def test_a_fault_shows_its_texts(tmp_path: Path, fault: Fault) -> None:
    async def story(cluster: Cluster) -> None:
        cluster.pod("early")
        await cluster.wait(20)
        cluster.faults.on(fault.name)
        cluster.pod("late", runtimeClassName="nvidia")
        cluster.pod("plain")
        await cluster.wait(120)
        shown = await everything(cluster)
        assert [text for text in texts(fault, "embedded") if text not in shown] == []

    play(fault.nodes or "t4x4", story, tmp_path)


def test_a_selector_without_its_attribute_shows_its_text(tmp_path: Path) -> None:
    (trouble,) = [each for each in TROUBLES if each.name == "cel-no-such-key"]
    selector = {"cel": {"expression": "device.attributes['gpu.nvidia.com'].index == 0"}}
    exactly = {"deviceClassName": "gpu.nvidia.com", "selectors": [selector]}
    claim = {
        "apiVersion": "resource.k8s.io/v1",
        "kind": "ResourceClaim",
        "metadata": {"name": "first"},
        "spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}},
    }

    async def story(cluster: Cluster) -> None:
        cluster.api.create("resourceclaims.resource.k8s.io", claim, "default")
        cluster.pod("a", count=0, resourceClaims=[{"name": "gpu", "resourceClaimName": "first"}])
        await cluster.wait(10)
        assert texts(trouble, "embedded")[0] in await everything(cluster)

    play("h100-dra", story, tmp_path)


@pytest.mark.parametrize("nodes", sorted({fault.nodes for fault in FAULTS.values()}))
def test_a_fault_can_be_practised_where_the_page_says(tmp_path: Path, nodes: str) -> None:
    async def story(cluster: Cluster) -> None:
        for fault in FAULTS.values():
            if fault.nodes == nodes:
                up, on = practice(fault)
                assert up.endswith(f"--nodes {nodes}" if nodes else "mlk8s cluster up")
                cluster.faults.on(on.rpartition(" ")[2])
                assert cluster.faults.active() == [fault.name]
                cluster.faults.off(fault.name)

    play(nodes or "course", story, tmp_path)


def strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, list | dict):
        for each in value.values() if isinstance(value, dict) else value:
            yield from strings(each)


def test_a_real_server_said_what_is_said_of_it() -> None:
    answers = list(strings(orjson.loads(RECORDED.read_bytes())))
    quoted = [text for trouble in TROUBLES for text in texts(trouble, "kubernetes")]
    assert quoted
    assert [text for text in quoted if not any(text in answer for answer in answers)] == []


@pytest.mark.parametrize(
    ("where", "seen", "said"),
    [("attic", "reported", "'attic'"), ("node", "hearsay", "'hearsay'")],
)
def test_a_word_that_the_form_does_not_know_is_named(where: str, seen: str, said: str) -> None:
    text = f"name: {{where: {where}, errors: [{{{seen}: text}}], sources: []}}"
    with pytest.raises(ValueError, match=said):
        list(rows(text))


def test_a_source_is_a_link() -> None:
    trouble = next(each for each in TROUBLES if each.name == "device-unhealthy")
    links = {link.label: link.url for link in trouble.links()}
    assert links["NVIDIA/k8s-device-plugin #1014"] == (
        "https://github.com/NVIDIA/k8s-device-plugin/issues/1014"
    )
    assert links["NVIDIA, XID errors"] == "https://docs.nvidia.com/deploy/xid-errors/"
