"""Owner references: what goes with its owner, before it, or stays."""

from __future__ import annotations

from typing import Any

from .cluster import CONTAINER, Cluster, play


def serve(cluster: Cluster) -> None:
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER]}}
    spec = {"replicas": 2, "selector": {"matchLabels": {"a": "b"}}, "template": template}
    cluster.create("deployments.apps", "serve", spec=spec)


def config(cluster: Cluster, name: str, *owners: Any) -> None:
    references = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"],
        }
        for owner in owners
    ]
    cluster.create("configmaps", name, metadata={"ownerReferences": references})


def test_background_takes_everything_below() -> None:
    async def story(cluster: Cluster) -> None:
        serve(cluster)
        await cluster.settle()
        cluster.delete("deployments.apps", "serve")
        assert cluster.names("deployments.apps") == []
        await cluster.settle()
        assert cluster.names("replicasets.apps") == cluster.names("pods") == []

    play(story)


def test_foreground_waits_for_everything_below() -> None:
    async def story(cluster: Cluster) -> None:
        serve(cluster)
        await cluster.settle()
        cluster.run_all()
        cluster.delete("deployments.apps", "serve", "Foreground")
        await cluster.settle()
        assert cluster.names("deployments.apps") == ["serve"]
        assert len(cluster.names("replicasets.apps")) == 1
        assert all("deletionTimestamp" in pod["metadata"] for pod in cluster.pods())
        assert len(cluster.pods()) == 2
        cluster.end_deleted()
        await cluster.settle()
        assert cluster.names("deployments.apps") == cluster.names("replicasets.apps") == []

    play(story)


def test_orphan_leaves_what_is_below() -> None:
    async def story(cluster: Cluster) -> None:
        serve(cluster)
        await cluster.settle()
        cluster.delete("deployments.apps", "serve", "Orphan")
        await cluster.settle()
        assert cluster.names("deployments.apps") == []
        (name,) = cluster.names("replicasets.apps")
        assert "ownerReferences" not in cluster.get("replicasets.apps", name)["metadata"]
        assert len(cluster.pods()) == 2

    play(story)


def test_an_object_with_another_owner_left_stays() -> None:
    async def story(cluster: Cluster) -> None:
        config(cluster, "a")
        config(cluster, "b")
        a, b = cluster.get("configmaps", "a"), cluster.get("configmaps", "b")
        config(cluster, "child", a, b)
        cluster.delete("configmaps", "a")
        await cluster.settle()
        (left,) = cluster.get("configmaps", "child")["metadata"]["ownerReferences"]
        assert left["name"] == "b"
        cluster.delete("configmaps", "b")
        await cluster.settle()
        assert "child" not in cluster.names("configmaps")

    play(story)


def test_an_object_whose_owner_never_was_goes() -> None:
    async def story(cluster: Cluster) -> None:
        config(cluster, "child", {"metadata": {"name": "ghost", "uid": "no-such-uid"}})
        await cluster.settle()
        assert "child" not in cluster.names("configmaps")

    play(story)
