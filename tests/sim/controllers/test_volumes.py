"""PersistentVolumeClaims and the volumes that are made for them."""

from __future__ import annotations

from typing import Any

from .cluster import CONTAINER, Cluster, play

SPEC = {
    "accessModes": ["ReadWriteOnce"],
    "resources": {"requests": {"storage": "1Gi"}},
}


def storage(cluster: Cluster, mode: str, provisioner: str = "microk8s.io/hostpath") -> None:
    cluster.create(
        "storageclasses.storage.k8s.io",
        "microk8s-hostpath",
        provisioner=provisioner,
        reclaimPolicy="Delete",
        volumeBindingMode=mode,
    )


def claim(cluster: Cluster, **spec: Any) -> None:
    told = {**SPEC, "storageClassName": "microk8s-hostpath", **spec}
    cluster.create("persistentvolumeclaims", "data", spec=told)


def phase(cluster: Cluster) -> Any:
    return cluster.get("persistentvolumeclaims", "data")["status"]["phase"]


def consumer(cluster: Cluster) -> None:
    volume = {"name": "v", "persistentVolumeClaim": {"claimName": "data"}}
    cluster.create("pods", "p", spec={"containers": [CONTAINER], "volumes": [volume]})


def test_an_immediate_claim_is_bound_to_a_volume_made_for_it() -> None:
    async def story(cluster: Cluster) -> None:
        storage(cluster, "Immediate")
        claim(cluster)
        await cluster.settle()
        found = cluster.get("persistentvolumeclaims", "data")
        name = f"pvc-{found['metadata']['uid']}"
        assert found["spec"]["volumeName"] == name
        assert found["status"] == {
            "phase": "Bound",
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "1Gi"},
        }
        volume = cluster.get("persistentvolumes", name)
        assert volume["status"]["phase"] == "Bound"
        assert volume["spec"]["claimRef"]["name"] == "data"
        assert cluster.events("PersistentVolumeClaim") == [
            ("Provisioning", 'External provisioner is provisioning volume for claim "team/data"'),
            ("ProvisioningSucceeded", f"Successfully provisioned volume {name}"),
        ]

    play(story)


def test_a_claim_may_wait_for_its_first_consumer() -> None:
    async def story(cluster: Cluster) -> None:
        storage(cluster, "WaitForFirstConsumer")
        claim(cluster)
        await cluster.settle()
        assert phase(cluster) == "Pending"
        assert cluster.events("PersistentVolumeClaim") == [
            ("WaitForFirstConsumer", "waiting for first consumer to be created before binding")
        ]
        consumer(cluster)
        await cluster.settle()
        assert phase(cluster) == "Pending"
        cluster.run_pod("p")
        await cluster.settle()
        assert phase(cluster) == "Bound"

    play(story)


def test_a_claim_without_class_takes_the_smallest_volume_that_fits() -> None:
    async def story(cluster: Cluster) -> None:
        claim(cluster, storageClassName="")
        await cluster.settle()
        why = "no persistent volumes available for this claim and no storage class is set"
        assert cluster.events("PersistentVolumeClaim") == [("FailedBinding", why)]
        for name, size in (("large", "10Gi"), ("fits", "2Gi"), ("small", "500Mi")):
            cluster.create(
                "persistentvolumes",
                name,
                spec={
                    "capacity": {"storage": size},
                    "accessModes": ["ReadWriteOnce"],
                    "hostPath": {"path": "/x"},
                },
            )
        await cluster.settle()
        assert phase(cluster) == "Bound"
        found = cluster.get("persistentvolumeclaims", "data")
        assert found["spec"]["volumeName"] == "fits"
        assert cluster.get("persistentvolumes", "large")["status"]["phase"] == "Available"
        cluster.delete("persistentvolumeclaims", "data")
        await cluster.settle()
        assert cluster.get("persistentvolumes", "fits")["status"]["phase"] == "Released"

    play(story)


def test_a_claim_in_use_stays_and_its_volume_goes_with_it() -> None:
    async def story(cluster: Cluster) -> None:
        storage(cluster, "Immediate")
        claim(cluster)
        consumer(cluster)
        await cluster.settle()
        cluster.delete("persistentvolumeclaims", "data")
        await cluster.settle()
        assert cluster.names("persistentvolumeclaims") == ["data"]
        cluster.delete("pods", "p")
        await cluster.settle()
        assert cluster.names("persistentvolumeclaims") == []
        assert cluster.names("persistentvolumes", None) == []

    play(story)
