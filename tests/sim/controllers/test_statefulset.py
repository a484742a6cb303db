"""StatefulSets; messages are those of pkg/controller/statefulset/stateful_pod_control.go."""

from __future__ import annotations

from typing import Any

import pytest

from .cluster import CONTAINER, Cluster, play


def web(cluster: Cluster, replicas: int = 3, **spec: Any) -> None:
    template = {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [CONTAINER]}}
    cluster.create(
        "statefulsets.apps",
        "web",
        spec={
            "replicas": replicas,
            "serviceName": "web",
            "selector": {"matchLabels": {"app": "web"}},
            "template": template,
            **spec,
        },
    )


def image(cluster: Cluster, tag: str) -> None:
    def mutate(obj: Any) -> None:
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = tag

    cluster.change("statefulsets.apps", "web", mutate)


async def rest(cluster: Cluster, rounds: int = 4) -> None:
    for _ in range(rounds):
        await cluster.settle()
        cluster.run_all()
        await cluster.settle()
        cluster.end_deleted()
    await cluster.settle()


def images(cluster: Cluster) -> list[str]:
    return [pod["spec"]["containers"][0]["image"] for pod in cluster.pods()]


def test_pods_come_one_after_another() -> None:
    async def story(cluster: Cluster) -> None:
        web(cluster)
        await cluster.settle()
        assert cluster.names("pods") == ["web-0"]
        cluster.run_all()
        await cluster.settle()
        assert cluster.names("pods") == ["web-0", "web-1"]
        await rest(cluster)
        assert cluster.names("pods") == ["web-0", "web-1", "web-2"]
        assert cluster.events("StatefulSet")[0] == (
            "SuccessfulCreate",
            "create Pod web-0 in StatefulSet web successful",
        )
        pod = cluster.get("pods", "web-2")
        assert (pod["spec"]["hostname"], pod["spec"]["subdomain"]) == ("web-2", "web")
        assert pod["metadata"]["labels"]["statefulset.kubernetes.io/pod-name"] == "web-2"
        assert pod["metadata"]["labels"]["apps.kubernetes.io/pod-index"] == "2"
        (revision,) = cluster.names("controllerrevisions.apps")
        assert pod["metadata"]["labels"]["controller-revision-hash"] == revision
        assert cluster.get("statefulsets.apps", "web")["status"] == {
            "replicas": 3,
            "readyReplicas": 3,
            "currentReplicas": 3,
            "updatedReplicas": 3,
            "availableReplicas": 3,
            "currentRevision": revision,
            "updateRevision": revision,
            "observedGeneration": 1,
            "collisionCount": 0,
        }

    play(story)


def test_in_parallel_all_come_at_once() -> None:
    async def story(cluster: Cluster) -> None:
        web(cluster, podManagementPolicy="Parallel")
        await cluster.settle()
        assert cluster.names("pods") == ["web-0", "web-1", "web-2"]

    play(story)


def test_the_last_goes_first() -> None:
    async def story(cluster: Cluster) -> None:
        web(cluster)
        await rest(cluster)
        cluster.change("statefulsets.apps", "web", lambda s: s["spec"].update(replicas=1))
        await cluster.settle()
        going = [
            p["metadata"]["name"] for p in cluster.pods() if "deletionTimestamp" in p["metadata"]
        ]
        assert going == ["web-2"]
        await rest(cluster)
        assert cluster.names("pods") == ["web-0"]

    play(story)


def test_claims_are_made_and_stay() -> None:
    async def story(cluster: Cluster) -> None:
        claim = {
            "metadata": {"name": "data"},
            "spec": {
                "accessModes": ["ReadWriteOnce"],
                "resources": {"requests": {"storage": "1Gi"}},
            },
        }
        web(cluster, 1, volumeClaimTemplates=[claim])
        await cluster.settle()
        assert cluster.names("persistentvolumeclaims") == ["data-web-0"]
        (volume,) = [
            v for v in cluster.get("pods", "web-0")["spec"]["volumes"] if v["name"] == "data"
        ]
        assert volume["persistentVolumeClaim"]["claimName"] == "data-web-0"
        created = (
            "SuccessfulCreate",
            "create Claim data-web-0 Pod web-0 in StatefulSet web success",
        )
        assert created in cluster.events("StatefulSet")
        cluster.delete("statefulsets.apps", "web")
        await cluster.settle()
        assert cluster.names("pods") == []
        assert cluster.names("persistentvolumeclaims") == ["data-web-0"]

    play(story)


def test_an_update_goes_from_the_last_to_the_partition() -> None:
    async def story(cluster: Cluster) -> None:
        strategy = {"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}
        web(cluster, updateStrategy=strategy)
        await rest(cluster)
        image(cluster, "v2")
        await cluster.settle()
        going = [
            p["metadata"]["name"] for p in cluster.pods() if "deletionTimestamp" in p["metadata"]
        ]
        assert going == ["web-2"]
        await rest(cluster, 6)
        assert images(cluster) == ["busybox", "v2", "v2"]
        status = cluster.get("statefulsets.apps", "web")["status"]
        assert (status["currentReplicas"], status["updatedReplicas"]) == (1, 2)
        assert status["currentRevision"] != status["updateRevision"]

        def whole(obj: Any) -> None:
            obj["spec"]["updateStrategy"]["rollingUpdate"]["partition"] = 0

        cluster.change("statefulsets.apps", "web", whole)
        await rest(cluster, 6)
        assert images(cluster) == ["v2", "v2", "v2"]
        status = cluster.get("statefulsets.apps", "web")["status"]
        assert status["currentRevision"] == status["updateRevision"]
        assert status["currentReplicas"] == 3

    play(story)


def test_on_delete_waits_for_somebody_to_delete() -> None:
    async def story(cluster: Cluster) -> None:
        web(cluster, 2, updateStrategy={"type": "OnDelete"})
        await rest(cluster)
        image(cluster, "v2")
        await rest(cluster)
        assert images(cluster) == ["busybox", "busybox"]
        cluster.delete("pods", "web-1")
        await rest(cluster)
        assert images(cluster) == ["busybox", "v2"]

    play(story)


@pytest.mark.parametrize(
    ("phase", "reason", "word"),
    [
        ("Failed", "RecreatingFailedPod", "failed"),
        ("Succeeded", "RecreatingTerminatedPod", "terminated"),
    ],
)
def test_a_pod_that_ended_is_made_again(phase: str, reason: str, word: str) -> None:
    async def story(cluster: Cluster) -> None:
        web(cluster, 1)
        await cluster.settle()
        uid = cluster.get("pods", "web-0")["metadata"]["uid"]
        cluster.run_pod("web-0", phase)
        await cluster.settle()
        assert cluster.get("pods", "web-0")["metadata"]["uid"] != uid
        message = f"StatefulSet team/web is recreating {word} Pod web-0"
        assert (reason, message) in cluster.events("StatefulSet")

    play(story)
