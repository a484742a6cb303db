"""RayServices: applications are given to a cluster, changed in place, and moved to another one.

The head is a stand-in that answers over HTTP what Ray's dashboard and proxy would.
"""

from __future__ import annotations

from typing import Any

from .lab import CLUSTERS, CORE, SERVICES, RayLab, answering, cluster

CONFIG = "applications: [{name: app, import_path: 'a:b', route_prefix: /}]"
PATH = f"{SERVICES}/s"


def spec(**head: Any) -> Any:
    return cluster(head={"template": answering(**head)})


def serve(lab: RayLab, **more: Any) -> None:
    """A service that runs."""
    lab.make("RayService", "s", {"serveConfigV2": CONFIG, "rayClusterConfig": spec(), **more})
    lab.until(lambda: runs(lab), within_s=60)


def runs(lab: RayLab) -> bool:
    return bool(lab.status(PATH).get("serviceStatus") == "Running")


def active(lab: RayLab) -> str:
    return str(lab.status(PATH)["activeServiceStatus"].get("rayClusterName", ""))


def log(lab: RayLab, name: str) -> str:
    """What the head of a cluster was given."""
    pod = lab.nodes("head", name)[0]["metadata"]["name"]
    return str(lab.client("GET", f"{CORE}/pods/{pod}/log").body.decode())


def leads_to(lab: RayLab, service: str) -> str:
    return str(lab.get(f"{CORE}/services/{service}")["spec"]["selector"]["ray.io/cluster"])


def test_a_service_that_runs(lab: RayLab) -> None:
    serve(lab)
    status = lab.status(PATH)
    assert lab.conditions(PATH) == {
        "Ready": ("True", "NonZeroServeEndpoints"),
        "UpgradeInProgress": ("False", "NoPendingCluster"),
    }
    assert status["numServeEndpoints"] == 1
    name = active(lab)
    assert status["activeServiceStatus"]["applicationStatuses"] == {
        "app": {"status": "RUNNING", "serveDeploymentStatuses": {"main": {"status": "RUNNING"}}}
    }
    assert leads_to(lab, "s-head-svc") == leads_to(lab, "s-serve-svc") == name
    service = lab.get(f"{CORE}/services/s-serve-svc")["spec"]
    assert service["selector"]["ray.io/serve"] == "true"
    assert [(each["name"], each["port"]) for each in service["ports"]] == [("serve", 8000)]
    [head] = lab.nodes("head", name)
    assert head["metadata"]["labels"]["ray.io/serve"] == "true"
    assert '"import_path": "a:b"' in log(lab, name)
    assert '"http_options": {"host": "127.0.0.1", "port": ' in log(lab, name)
    reasons = [reason for _, reason, _ in lab.events("s")]
    assert {"CreatedRayCluster", "UpdatedServeApplications", "CreatedService"} <= {*reasons}
    _, [row] = lab.table(SERVICES)
    assert row == ["s", "Running", "1"]


def test_a_changed_configuration_is_put_into_effect_in_place(lab: RayLab) -> None:
    serve(lab)
    name = active(lab)
    config = CONFIG.replace("a:b", "a:c")
    assert lab.patch(PATH, {"spec": {"serveConfigV2": config}}).status == 200
    lab.until(lambda: '"import_path": "a:c"' in log(lab, name))
    lab.wait(20)
    assert active(lab) == name
    assert len(lab.get(CLUSTERS)["items"]) == 1
    # It is not given again and again.
    assert log(lab, name).count("given") == 2


def test_a_changed_cluster_is_replaced_by_another(lab: RayLab) -> None:
    serve(lab, rayClusterDeletionDelaySeconds=30)
    old = active(lab)
    # The new one is not ready yet.
    slow = {"exec": {"command": ["true"]}, "initialDelaySeconds": 15}
    config = spec(readinessProbe=slow)
    assert lab.patch(PATH, {"spec": {"rayClusterConfig": config}}).status == 200
    lab.wait(5)
    assert lab.conditions(PATH)["UpgradeInProgress"] == ("True", "BothActivePendingClustersExist")
    new = lab.status(PATH)["pendingServiceStatus"]["rayClusterName"]
    assert new != old == leads_to(lab, "s-serve-svc")
    assert runs(lab)
    lab.until(lambda: active(lab) == new, within_s=60)
    assert leads_to(lab, "s-serve-svc") == leads_to(lab, "s-head-svc") == new
    # Requests under way at the old one have their time.
    assert len(lab.get(CLUSTERS)["items"]) == 2
    lab.until(lambda: len(lab.get(CLUSTERS)["items"]) == 1, within_s=60)
    lab.until(lambda: lab.conditions(PATH)["UpgradeInProgress"] == ("False", "NoPendingCluster"))
    assert runs(lab)


def test_a_changed_cluster_that_is_not_to_be_replaced(lab: RayLab) -> None:
    serve(lab, upgradeStrategy={"type": "None"})
    old = active(lab)
    assert lab.patch(PATH, {"spec": {"rayClusterConfig": spec(job="other")}}).status == 200
    lab.wait(20)
    assert active(lab) == old
    assert len(lab.get(CLUSTERS)["items"]) == 1


def test_a_head_that_was_lost_is_given_its_applications_again(lab: RayLab) -> None:
    serve(lab)
    name = active(lab)
    [head] = (each["metadata"]["name"] for each in lab.nodes("head", name))
    assert lab.client("DELETE", f"{CORE}/pods/{head}").status == 200
    lab.until(lambda: not runs(lab), within_s=60)
    assert lab.conditions(PATH)["Ready"] == ("False", "ZeroServeEndpoints")
    lab.until(lambda: runs(lab), within_s=60)
    assert active(lab) == name
    assert '"import_path": "a:b"' in log(lab, name)


def test_a_configuration_that_is_no_map(lab: RayLab) -> None:
    lab.make("RayService", "s", {"serveConfigV2": "[1]", "rayClusterConfig": spec()})
    lab.until(
        lambda: "FailedToUpdateServeApplications" in [each[1] for each in lab.events("s")],
        within_s=60,
    )
    assert not runs(lab)
