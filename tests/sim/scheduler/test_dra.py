"""The DynamicResources plugin and the claim controller, on an API without anything else."""

from typing import Any

import pytest

from mlk8s.sim.api import Api
from mlk8s.sim.clock import ManualClock
from mlk8s.sim.controllers.claims import ResourceClaims
from mlk8s.sim.events import Recorder
from mlk8s.sim.scheduler.allocator import AllocationError
from mlk8s.sim.scheduler.dra import CLAIMS, CLASSES, FINALIZER, SLICES, DynamicResources
from mlk8s.sim.scheduler.framework import Code, NodeInfo
from mlk8s.sim.scheduler.podinfo import PodInfo
from mlk8s.sim.store import Change

DRIVER = "gpu.nvidia.com"
TEMPLATES = "resourceclaimtemplates.resource.k8s.io"


class Cluster:
    """One node with GPUs served by DRA, and the plugin driven by hand."""

    def __init__(self, gpus: int = 1, extended: str | None = None) -> None:
        self.api = Api(ManualClock(1_700_000_000))
        self.plugin = DynamicResources(self.api)
        self.put("namespaces", {"metadata": {"name": "golden"}}, "v1", "Namespace")
        spec: Any = {"selectors": [{"cel": {"expression": "device.driver == 'gpu.nvidia.com'"}}]}
        if extended:
            spec["extendedResourceName"] = extended
        self.put(CLASSES, {"metadata": {"name": DRIVER}, "spec": spec})
        devices = [{"name": f"gpu-{n}", "attributes": {"index": {"int": n}}} for n in range(gpus)]
        spec = {
            "driver": DRIVER,
            "nodeName": "n0",
            "pool": {"name": "n0", "generation": 1, "resourceSliceCount": 1},
            "devices": devices,
        }
        self.put(SLICES, {"metadata": {"name": "n0-gpu"}, "spec": spec})

    def put(
        self, key: str, obj: Any, version: str = "resource.k8s.io/v1", kind: str = "Any"
    ) -> Any:
        obj = {"apiVersion": version, "kind": kind, **obj}
        obj["metadata"] |= {
            "uid": self.api.uid("resourceclaims"),
            "creationTimestamp": self.api.timestamp(),
        }
        return self.api.store.write(key, obj)

    def claim(self, name: str, **exactly: Any) -> Any:
        exactly = {"deviceClassName": DRIVER, "allocationMode": "ExactCount", "count": 1} | exactly
        spec = {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}
        metadata = {"name": name, "namespace": "golden"}
        return self.put(CLAIMS, {"metadata": metadata, "spec": spec}, kind="ResourceClaim")

    def pod(self, name: str, claims: Any = (), template: Any = None, requests: Any = None) -> Any:
        entries = [{"name": claim, "resourceClaimName": claim} for claim in claims]
        if template:
            entries.append({"name": "gpu", "resourceClaimTemplateName": template})
        container = {"name": "main", "image": "i", "resources": {"requests": requests or {}}}
        spec = {"containers": [container], "resourceClaims": entries}
        metadata = {"name": name, "namespace": "golden"}
        return self.put("pods", {"metadata": metadata, "spec": spec}, "v1", "Pod")

    def node(self, name: str = "n0", **allocatable: str) -> NodeInfo:
        allocatable = {"cpu": "8", "pods": "110"} | allocatable
        metadata = {"name": name, "labels": {}, "resourceVersion": "1"}
        return NodeInfo({"metadata": metadata, "spec": {}, "status": {"allocatable": allocatable}})

    def attempt(self, pod: Any, node: NodeInfo | None = None) -> Any:
        """The cycle's state, and why it failed (twice empty when it did not)."""
        node = node or self.node()
        state: Any = {"pod": PodInfo(pod), "skip": set()}
        verdict = self.plugin.pre_filter(state, pod, [node])
        if verdict is None:
            verdict = self.plugin.filter(state, pod, node)
        if verdict is not None and verdict.code is not Code.SKIP:
            assert verdict.code is Code.UNRESOLVABLE
            return state, verdict.message, self.plugin.post_filter(state, pod, {})
        assert self.plugin.reserve(state, pod, node) is None
        return state, "", ""

    def schedule(self, pod: Any, node: NodeInfo | None = None) -> Any:
        """Attempt and bind."""
        node = node or self.node()
        state, *failure = self.attempt(pod, node)
        if failure == ["", ""]:
            self.plugin.pre_bind(state, pod, node)
        return failure

    def get(self, name: str) -> Any:
        return self.api.find(CLAIMS, "golden", name)


def test_a_claim_is_allocated_and_reserved():
    cluster = Cluster()
    cluster.claim("c1")
    pod = cluster.pod("a", ["c1"])
    assert cluster.schedule(pod) == ["", ""]
    claim = cluster.get("c1")
    assert claim["metadata"]["finalizers"] == [FINALIZER]
    assert claim["status"]["reservedFor"] == [
        {"resource": "pods", "name": "a", "uid": pod["metadata"]["uid"]}
    ]
    allocation = claim["status"]["allocation"]
    assert allocation["devices"]["results"] == [
        {"request": "gpu", "driver": DRIVER, "pool": "n0", "device": "gpu-0"}
    ]
    assert allocation["allocationTimestamp"] == "2023-11-14T22:13:20Z"


def test_one_too_many_as_recorded():
    cluster = Cluster()
    for name in ("c1", "c2"):
        cluster.claim(name)
    assert cluster.schedule(cluster.pod("a", ["c1"])) == ["", ""]
    assert cluster.schedule(cluster.pod("b", ["c2"])) == [
        "cannot allocate all claims",
        "still not schedulable",
    ]


def test_a_shared_claim_waits_for_its_allocation_as_recorded():
    cluster = Cluster()
    cluster.claim("c1")
    first, second = cluster.pod("a", ["c1"]), cluster.pod("b", ["c1"])
    state, *_ = cluster.attempt(first)
    assert cluster.schedule(second) == [
        "resource claim golden/c1 is in the process of being allocated",
        "no new claims to deallocate",
    ]
    cluster.plugin.pre_bind(state, first, cluster.node())
    assert cluster.schedule(second) == ["", ""]
    assert [user["name"] for user in cluster.get("c1")["status"]["reservedFor"]] == ["a", "b"]


def test_in_flight_devices_are_taken_until_unreserved():
    cluster = Cluster()
    for name in ("c1", "c2"):
        cluster.claim(name)
    first, second = cluster.pod("a", ["c1"]), cluster.pod("b", ["c2"])
    state, *_ = cluster.attempt(first)
    assert cluster.schedule(second)[0] == "cannot allocate all claims"
    cluster.plugin.unreserve(state, first, cluster.node())
    assert cluster.schedule(second) == ["", ""]


def test_an_unused_claim_for_another_node_is_deallocated():
    cluster = Cluster()
    claim = cluster.claim("c1")
    pod = cluster.pod("a", ["c1"])
    cluster.schedule(pod)
    other = cluster.pod("b", ["c1"])
    assert cluster.schedule(other, cluster.node("n1")) == [
        "resourceclaim not available on the node",
        "still not schedulable",
    ]
    claim = cluster.get("c1")
    del claim["status"]["reservedFor"]
    cluster.api.store.write(CLAIMS, claim)
    assert cluster.schedule(other, cluster.node("n1"))[1] == (
        "deallocation of ResourceClaim completed"
    )
    assert "allocation" not in cluster.get("c1")["status"]


def test_missing_class_and_missing_claims():
    cluster = Cluster()
    cluster.claim("c1", deviceClassName="mig.nvidia.com")
    assert cluster.schedule(cluster.pod("a", ["c1"])) == [
        "request gpu: device class mig.nvidia.com does not exist",
        "no new claims to deallocate",
    ]
    waiting = cluster.plugin.pre_enqueue(cluster.pod("b", template="single-gpu"))
    assert waiting is not None
    assert waiting.message == 'pod "golden/b": ResourceClaim not created yet'
    waiting = cluster.plugin.pre_enqueue(cluster.pod("c", ["none"]))
    assert waiting is not None and waiting.rejected


def test_a_selector_that_fails_ends_the_attempt():
    cluster = Cluster()
    expression = "device.attributes['gpu.nvidia.com'].profile == '1g.10gb'"
    cluster.claim("c1", selectors=[{"cel": {"expression": expression}}])
    with pytest.raises(AllocationError) as caught:
        cluster.schedule(cluster.pod("a", ["c1"]))
    assert str(caught.value) == (
        "claim golden/c1: selector #0: CEL runtime error: no such key: profile"
    )


def test_extended_resource_is_served_by_a_class():
    cluster = Cluster(gpus=2, extended="nvidia.com/gpu")
    pod = cluster.pod("a", requests={"cpu": "1", "nvidia.com/gpu": "2"})
    assert cluster.plugin.delegates("nvidia.com/gpu", cluster.node())
    plugged = cluster.node(**{"nvidia.com/gpu": "2"})
    assert not cluster.plugin.delegates("nvidia.com/gpu", plugged)
    assert cluster.schedule(pod, plugged) == ["", ""]
    assert cluster.api.store.count(CLAIMS) == 0
    assert cluster.schedule(pod) == ["", ""]
    status = cluster.api.get("pods", "golden", "a")["status"]["extendedResourceClaimStatus"]
    assert status["requestMappings"] == [
        {
            "containerName": "main",
            "resourceName": "nvidia.com/gpu",
            "requestName": "container-0-request-1",
        }
    ]
    claim = cluster.get(status["resourceClaimName"])
    assert claim["metadata"]["name"].startswith("a-extended-resources-")
    assert claim["metadata"]["annotations"] == {
        "resource.kubernetes.io/extended-resource-claim": "true"
    }
    results = claim["status"]["allocation"]["devices"]["results"]
    assert [result["device"] for result in results] == ["gpu-0", "gpu-1"]
    late = cluster.pod("b", requests={"nvidia.com/gpu": "1"})
    assert cluster.schedule(late)[0] == "cannot allocate all claims"


class TestController:
    def start(self, cluster: Cluster) -> ResourceClaims:
        controller = ResourceClaims(cluster.api, Recorder(cluster.api))
        controller.start()

        def hear(change: Change) -> None:
            for key in controller.keys(change):
                controller.enqueue(key)

        cluster.api.store.subscribe(hear)
        return controller

    def settle(self, controller: ResourceClaims) -> None:
        while controller.busy:
            controller.step()

    def test_claim_from_template_lives_as_long_as_the_pod_runs(self):
        cluster = Cluster()
        controller = self.start(cluster)
        request = {
            "name": "gpu",
            "exactly": {"deviceClassName": DRIVER, "allocationMode": "ExactCount", "count": 1},
        }
        spec = {
            "metadata": {"labels": {"team": "ml"}},
            "spec": {"devices": {"requests": [request]}},
        }
        metadata = {"name": "single-gpu", "namespace": "golden"}
        cluster.put(TEMPLATES, {"metadata": metadata, "spec": spec})
        cluster.pod("a", template="single-gpu")
        self.settle(controller)
        pod = cluster.api.get("pods", "golden", "a")
        (entry,) = pod["status"]["resourceClaimStatuses"]
        assert entry["name"] == "gpu"
        name = entry["resourceClaimName"]
        assert name.startswith("a-gpu-")
        claim = cluster.get(name)
        assert claim["metadata"]["annotations"] == {"resource.kubernetes.io/pod-claim-name": "gpu"}
        assert claim["metadata"]["labels"] == {"team": "ml"}
        assert claim["metadata"]["ownerReferences"][0]["uid"] == pod["metadata"]["uid"]
        assert cluster.schedule(pod) == ["", ""]
        self.settle(controller)
        cluster.api.change(
            "pods", "golden", "a", lambda found: found["status"].update(phase="Succeeded"), "status"
        )
        self.settle(controller)
        assert cluster.get(name) is None
        cluster.claim("c1")
        assert cluster.schedule(cluster.pod("b", ["c1"])) == ["", ""]

    def test_claim_of_a_user_is_deallocated_and_stays(self):
        cluster = Cluster()
        controller = self.start(cluster)
        cluster.claim("c1")
        cluster.schedule(cluster.pod("a", ["c1"]))
        self.settle(controller)
        cluster.api.store.remove("pods", "golden", "a")
        self.settle(controller)
        claim = cluster.get("c1")
        assert "finalizers" not in claim["metadata"]
        assert claim["status"] == {}

    def test_missing_template_is_told(self):
        cluster = Cluster()
        controller = self.start(cluster)
        cluster.pod("a", template="none")
        self.settle(controller)
        (event,) = cluster.api.store.items("events", "golden")
        assert event["reason"] == "FailedResourceClaimCreation"
        assert event["message"] == (
            'PodResourceClaim gpu: resource claim template "none": '
            'resourceclaimtemplate.resource.k8s.io "none" not found'
        )
