"""Namespaces: their first objects, and their end."""

from __future__ import annotations

from .cluster import CONTAINER, Cluster, condition, play


def test_a_namespace_starts_with_a_root_ca_and_a_service_account() -> None:
    async def story(cluster: Cluster) -> None:
        assert cluster.names("configmaps") == ["kube-root-ca.crt"]
        assert cluster.names("serviceaccounts") == ["default"]
        cluster.delete("configmaps", "kube-root-ca.crt")
        await cluster.settle()
        assert cluster.names("configmaps") == ["kube-root-ca.crt"]

    play(story)


def test_deletion_empties_it_pods_first_with_their_grace() -> None:
    async def story(cluster: Cluster) -> None:
        cluster.create("pods", "p", spec={"containers": [CONTAINER]})
        cluster.create("secrets", "s")
        cluster.run_pod("p")
        cluster.delete("namespaces", "team")
        await cluster.settle(1)
        found = cluster.get("namespaces", "team")
        assert found["status"]["phase"] == "Terminating"
        assert condition(found, "NamespaceContentRemaining") == (
            "True",
            "SomeResourcesRemain",
            "Some resources are remaining: pods. has 1 resource instances",
        )
        assert condition(found, "NamespaceFinalizersRemaining") == (
            "False",
            "ContentHasNoFinalizers",
            "All content-preserving finalizers finished",
        )
        assert condition(found, "NamespaceDeletionContentFailure") == (
            "False",
            "ContentDeleted",
            "All content successfully deleted, may be waiting on finalization",
        )
        assert cluster.names("secrets") == ["s"]
        cluster.end_deleted()
        await cluster.settle(1)
        assert cluster.names("namespaces", None) == []
        for resource in cluster.api.registry:
            if resource.namespaced:
                assert cluster.names(resource.key) == []

    play(story)


def test_a_finalizer_holds_it_and_is_named() -> None:
    async def story(cluster: Cluster) -> None:
        cluster.create("configmaps", "held", metadata={"finalizers": ["example.com/hold"]})
        cluster.delete("namespaces", "team")
        await cluster.settle(1)
        assert condition(cluster.get("namespaces", "team"), "NamespaceFinalizersRemaining") == (
            "True",
            "SomeFinalizersRemain",
            "Some content in the namespace has finalizers remaining: example.com/hold in 1 "
            "resource instances",
        )
        cluster.change("configmaps", "held", lambda obj: obj["metadata"].pop("finalizers"))
        await cluster.settle(1)
        assert cluster.names("namespaces", None) == []

    play(story)


def test_a_large_namespace_is_emptied() -> None:
    async def story(cluster: Cluster) -> None:
        for number in range(300):
            cluster.create("pods", f"p{number}", spec={"containers": [CONTAINER]})
        cluster.delete("namespaces", "team")
        await cluster.settle(1)
        assert cluster.names("namespaces", None) == []
        assert cluster.api.store.count("pods") == 0

    play(story)
