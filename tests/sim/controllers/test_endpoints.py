"""Endpoints and EndpointSlices."""

from __future__ import annotations

from typing import Any

from .cluster import CONTAINER, Cluster, play


def slices(cluster: Cluster) -> list[Any]:
    return list(cluster.api.store.items("endpointslices.discovery.k8s.io", "team"))


async def serve(cluster: Cluster) -> None:
    ports = [{"name": "web", "containerPort": 8080}]
    labels = {"labels": {"app": "web"}}
    for name in ("a", "b"):
        cluster.create(
            "pods",
            name,
            metadata=dict(labels),
            spec={"containers": [{**CONTAINER, "ports": ports}]},
        )
    port = {"name": "http", "port": 80, "targetPort": "web"}
    cluster.create("services", "web", spec={"selector": {"app": "web"}, "ports": [port]})
    await cluster.settle(1)


def test_pods_with_an_address_stand_behind_their_service() -> None:
    async def story(cluster: Cluster) -> None:
        await serve(cluster)
        assert "subsets" not in cluster.get("endpoints", "web")
        cluster.run_pod("a")
        await cluster.settle(1)
        (subset,) = cluster.get("endpoints", "web")["subsets"]
        (address,) = subset["addresses"]
        assert (address["ip"], address["nodeName"]) == ("10.1.0.7", "n1")
        assert address["targetRef"]["name"] == "a"
        assert subset["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]
        (found,) = slices(cluster)
        assert found["metadata"]["name"].startswith("web-")
        assert found["metadata"]["labels"]["kubernetes.io/service-name"] == "web"
        (endpoint,) = found["endpoints"]
        assert endpoint["addresses"] == ["10.1.0.7"]
        assert endpoint["conditions"] == {"ready": True, "serving": True, "terminating": False}
        assert found["ports"] == [{"name": "http", "port": 8080, "protocol": "TCP"}]

    play(story)


def test_a_pod_that_is_not_ready_or_goes_gets_no_traffic() -> None:
    async def story(cluster: Cluster) -> None:
        await serve(cluster)
        cluster.run_all()

        def sick(obj: Any) -> None:
            obj["status"]["conditions"][0]["status"] = "False"

        cluster.api.change("pods", "team", "a", sick, subresource="status")
        cluster.delete("pods", "b")
        await cluster.settle(1)
        (subset,) = cluster.get("endpoints", "web")["subsets"]
        assert "addresses" not in subset
        assert [a["targetRef"]["name"] for a in subset["notReadyAddresses"]] == ["a"]
        (found,) = slices(cluster)
        told = {e["targetRef"]["name"]: e["conditions"] for e in found["endpoints"]}
        assert told["a"] == {"ready": False, "serving": False, "terminating": False}
        assert told["b"] == {"ready": False, "serving": True, "terminating": True}

    play(story)


def test_they_go_with_the_service() -> None:
    async def story(cluster: Cluster) -> None:
        await serve(cluster)
        cluster.delete("services", "web")
        await cluster.settle(1)
        assert cluster.names("endpoints") == [] and slices(cluster) == []

    play(story)


def test_a_pod_that_is_labeled_otherwise_leaves_its_service() -> None:
    async def story(cluster: Cluster) -> None:
        await serve(cluster)
        cluster.run_all()
        await cluster.settle(1)
        cluster.change("pods", "a", lambda pod: pod["metadata"].update(labels={}))
        await cluster.settle(1)
        (subset,) = cluster.get("endpoints", "web")["subsets"]
        assert [address["targetRef"]["name"] for address in subset["addresses"]] == ["b"]

    play(story)
