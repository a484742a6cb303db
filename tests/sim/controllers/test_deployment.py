"""Deployments; the first events are those that Kubernetes 1.36.2 recorded."""

from __future__ import annotations

import re
from typing import Any

from .cluster import CONTAINER, Cluster, condition, play

HASH = re.compile(r"serve-[bcdfghjklmnpqrstvwxz2456789]{8,10}")


def serve(cluster: Cluster, replicas: int = 3, **spec: Any) -> None:
    cluster.create(
        "deployments.apps",
        "serve",
        spec={
            "replicas": replicas,
            "selector": {"matchLabels": {"app": "serve"}},
            "template": {
                "metadata": {"labels": {"app": "serve"}},
                "spec": {"containers": [CONTAINER]},
            },
            **spec,
        },
    )


def image(cluster: Cluster, tag: str) -> None:
    def mutate(obj: Any) -> None:
        obj["spec"]["template"]["spec"]["containers"][0]["image"] = tag

    cluster.change("deployments.apps", "serve", mutate)


def sizes(cluster: Cluster) -> dict[str, int]:
    return {
        s["spec"]["template"]["spec"]["containers"][0]["image"]: s["spec"]["replicas"]
        for s in cluster.api.store.items("replicasets.apps", "team")
    }


def test_a_deployment_makes_a_replica_set_and_its_pods() -> None:
    async def story(cluster: Cluster) -> None:
        serve(cluster)
        await cluster.settle()
        (name,) = cluster.names("replicasets.apps")
        assert HASH.fullmatch(name)
        assert cluster.events("Deployment") == [
            ("ScalingReplicaSet", f"Scaled up replica set {name} from 0 to 3")
        ]
        assert cluster.events("ReplicaSet") == [
            ("SuccessfulCreate", f"Created pod: {pod['metadata']['name']}")
            for pod in sorted(cluster.pods(), key=lambda p: int(p["metadata"]["resourceVersion"]))
        ]
        pod = cluster.pods()[0]
        assert re.fullmatch(name + "-[a-z0-9]{5}", pod["metadata"]["name"])
        assert pod["metadata"]["labels"] == {
            "app": "serve",
            "pod-template-hash": name.removeprefix("serve-"),
        }
        (owner,) = pod["metadata"]["ownerReferences"]
        assert (owner["kind"], owner["controller"]) == ("ReplicaSet", True)

    play(story)


def test_status_while_pods_start_and_when_they_run() -> None:
    async def story(cluster: Cluster) -> None:
        serve(cluster)
        await cluster.settle()
        found = cluster.get("deployments.apps", "serve")
        (name,) = cluster.names("replicasets.apps")
        status = found["status"]
        assert (status["replicas"], status["unavailableReplicas"]) == (3, 3)
        assert status["observedGeneration"] == 1
        assert "readyReplicas" not in status
        assert condition(found, "Available") == (
            "False",
            "MinimumReplicasUnavailable",
            "Deployment does not have minimum availability.",
        )
        assert condition(found, "Progressing") == (
            "True",
            "ReplicaSetUpdated",
            f'ReplicaSet "{name}" is progressing.',
        )
        assert found["metadata"]["annotations"]["deployment.kubernetes.io/revision"] == "1"
        cluster.run_all()
        await cluster.settle()
        found = cluster.get("deployments.apps", "serve")
        assert found["status"]["availableReplicas"] == 3
        assert "unavailableReplicas" not in found["status"]
        assert condition(found, "Available") == (
            "True",
            "MinimumReplicasAvailable",
            "Deployment has minimum availability.",
        )
        assert condition(found, "Progressing") == (
            "True",
            "NewReplicaSetAvailable",
            f'ReplicaSet "{name}" has successfully progressed.',
        )

    play(story)


def test_a_rolling_update_keeps_to_surge_and_unavailability() -> None:
    async def story(cluster: Cluster) -> None:
        serve(cluster, 4)
        await cluster.settle()
        cluster.run_all()
        await cluster.settle()
        image(cluster, "v2")
        await cluster.settle()
        # 25 % of 4: one more, one fewer.
        assert sizes(cluster) == {"busybox": 3, "v2": 2}
        for _ in range(6):
            cluster.end_deleted()
            await cluster.settle()
            cluster.run_all()
            await cluster.settle()
            assert sum(sizes(cluster).values()) <= 5
        assert sizes(cluster) == {"busybox": 0, "v2": 4}
        messages = [message for _, message in cluster.events("Deployment")]
        new, old = messages[1].split()[4], messages[0].split()[4]
        assert messages[1:4] == [
            f"Scaled up replica set {new} from 0 to 1",
            f"Scaled down replica set {old} from 4 to 3",
            f"Scaled up replica set {new} from 1 to 2",
        ]
        annotations = cluster.get("deployments.apps", "serve")["metadata"]["annotations"]
        assert annotations["deployment.kubernetes.io/revision"] == "2"

    play(story)


def test_going_back_reuses_the_old_replica_set_as_a_new_revision() -> None:
    async def story(cluster: Cluster) -> None:
        serve(cluster, 1)
        await cluster.settle()
        first = cluster.names("replicasets.apps")
        image(cluster, "v2")
        await cluster.settle()
        image(cluster, "busybox")
        await cluster.settle()
        assert len(cluster.names("replicasets.apps")) == 2
        annotations = cluster.get("replicasets.apps", first[0])["metadata"]["annotations"]
        assert annotations["deployment.kubernetes.io/revision"] == "3"
        assert annotations["deployment.kubernetes.io/revision-history"] == "1"

    play(story)


def test_recreate_waits_until_the_old_pods_are_gone() -> None:
    async def story(cluster: Cluster) -> None:
        serve(cluster, 2, strategy={"type": "Recreate"})
        await cluster.settle()
        cluster.run_all()
        image(cluster, "v2")
        await cluster.settle()
        assert sizes(cluster) == {"busybox": 0}
        cluster.end_deleted()
        await cluster.settle()
        assert sizes(cluster) == {"busybox": 0, "v2": 2}

    play(story)


def test_a_rollout_without_progress_fails_after_its_deadline() -> None:
    async def story(cluster: Cluster) -> None:
        serve(cluster, 1, progressDeadlineSeconds=60)
        await cluster.settle()
        (name,) = cluster.names("replicasets.apps")
        await cluster.settle(59)
        found = condition(cluster.get("deployments.apps", "serve"), "Progressing")
        assert found is not None and found[0] == "True"
        await cluster.settle(3)
        assert condition(cluster.get("deployments.apps", "serve"), "Progressing") == (
            "False",
            "ProgressDeadlineExceeded",
            f'ReplicaSet "{name}" has timed out progressing.',
        )

    play(story)


def test_a_paused_deployment_scales_and_does_not_roll() -> None:
    async def story(cluster: Cluster) -> None:
        serve(cluster, 1)
        await cluster.settle()
        cluster.change("deployments.apps", "serve", lambda d: d["spec"].update(paused=True))
        image(cluster, "v2")
        cluster.change("deployments.apps", "serve", lambda d: d["spec"].update(replicas=3))
        await cluster.settle()
        assert sizes(cluster) == {"busybox": 3}
        assert condition(cluster.get("deployments.apps", "serve"), "Progressing") == (
            "Unknown",
            "DeploymentPaused",
            "Deployment is paused",
        )
        cluster.change("deployments.apps", "serve", lambda d: d["spec"].pop("paused"))
        await cluster.settle()
        assert "v2" in sizes(cluster)

    play(story)


def test_history_beyond_the_limit_is_deleted() -> None:
    async def story(cluster: Cluster) -> None:
        serve(cluster, 1, revisionHistoryLimit=1)
        for tag in ("v2", "v3", "v4"):
            for _ in range(3):
                await cluster.settle()
                cluster.run_all()
                await cluster.settle()
                cluster.end_deleted()
            image(cluster, tag)
        for _ in range(4):
            await cluster.settle()
            cluster.run_all()
            await cluster.settle()
            cluster.end_deleted()
        await cluster.settle()
        assert sizes(cluster) == {"v3": 0, "v4": 1}

    play(story)


def test_scaling_amid_a_rollout_is_shared_in_proportion() -> None:
    async def story(cluster: Cluster) -> None:
        # The example of the documentation (concepts/workloads/controllers/deployment,
        # "Proportional scaling"): 10 replicas, surge 3, unavailable 2, then 15.
        serve(
            cluster,
            10,
            strategy={"rollingUpdate": {"maxSurge": 3, "maxUnavailable": 2}},
        )
        await cluster.settle()
        cluster.run_all()
        await cluster.settle()
        image(cluster, "v2")
        await cluster.settle()
        assert sizes(cluster) == {"busybox": 8, "v2": 5}
        cluster.change("deployments.apps", "serve", lambda d: d["spec"].update(replicas=15))
        await cluster.settle()
        assert sizes(cluster) == {"busybox": 11, "v2": 7}

    play(story)
