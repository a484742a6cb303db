"""Add-ons are off until they are enabled, and leave nothing behind when they are disabled."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from mlk8s.sim import Cluster, ClusterError

from .lab import GPU, GROUP, JOBS, KUEUE, Lab

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
KINDS = {
    "clusterqueues",
    "localqueues",
    "resourceflavors",
    "workloadpriorityclasses",
    "workloads",
}


@pytest.fixture
def off(running: Cluster) -> Iterator[Lab]:
    """The cluster before anybody enables anything."""
    assert running.status()["addons"] == []
    found = Lab(running)
    yield found
    running.disable("kueue")
    found.clear()


def served(lab: Lab) -> set[str]:
    answer = lab.client("GET", KUEUE)
    if answer.status == 404:
        return set()
    return {each["name"] for each in answer.json["resources"] if "/" not in each["name"]}


def test_it_is_off_until_it_is_enabled(off: Lab) -> None:
    assert served(off) == set()
    off.job("a")
    off.wait()
    assert not off.suspended("a")
    listed, *_ = off.cluster.addons()
    assert (listed["name"], listed["active"]) == ("kueue", False)
    assert listed["version"] == "0.19.2"
    assert listed["group"] == GROUP


def test_it_is_served_when_enable_returns(off: Lab) -> None:
    off.cluster.enable("kueue")
    assert served(off) == KINDS
    off.queue()
    assert off.cluster.status()["addons"] == ["kueue"]
    assert [each["name"] for each in off.cluster.addons() if each["active"]] == ["kueue"]


def test_its_definitions_say_that_they_are_a_model(off: Lab) -> None:
    off.cluster.enable("kueue")
    for kind in KINDS:
        definition = off.get(f"{CRDS}/{kind}.{GROUP}")
        assert definition["metadata"]["annotations"]["mlk8s.dev/model"] == (
            "kueue 0.19.2 (2026-08-20), modeled by mlk8s from github.com/kubernetes-sigs/kueue; "
            "not the project's own software"
        )
        conditions = definition["status"]["conditions"]
        assert {each["type"]: each["status"] for each in conditions}["Established"] == "True"


def test_enabling_twice_changes_nothing(off: Lab) -> None:
    off.cluster.enable("kueue")
    off.queue()
    off.job("a")
    off.wait()
    before = off.workload("a")["metadata"]["uid"]
    off.cluster.enable("kueue")
    off.wait()
    assert off.workload("a")["metadata"]["uid"] == before


def test_a_job_that_waits_in_no_queue_is_found_when_it_is_enabled(off: Lab) -> None:
    off.job("a", suspend=True)
    off.wait()
    off.cluster.enable("kueue")
    off.queue()
    off.wait()
    assert off.admitted("a") == [True]


def test_disabling_removes_its_objects_and_leaves_jobs_as_they_are(off: Lab) -> None:
    off.cluster.enable("kueue")
    off.queue(quota=1)
    off.job("runs")
    off.job("waits")
    off.wait()
    off.cluster.disable("kueue")
    assert served(off) == set()
    off.wait(60)
    left = {each["metadata"]["name"] for each in off.get(CRDS)["items"]}
    assert not {f"{kind}.{GROUP}" for kind in KINDS} & left
    assert (off.suspended("runs"), off.suspended("waits")) == (False, True)
    assert len(off.pods("runs")) == 1
    # Nobody suspends what comes later, and nobody is asked about changes.
    off.job("later")
    assert not off.suspended("later")
    answer = off.patch(f"{JOBS}/runs", {"metadata": {"labels": {f"{GROUP}/queue-name": None}}})
    assert answer.status == 200


def test_disabling_is_harmless_when_it_is_off(off: Lab) -> None:
    off.cluster.disable("kueue")
    assert off.cluster.status()["addons"] == []


def test_what_was_there_before_is_gone_when_it_is_enabled_again(off: Lab) -> None:
    off.cluster.enable("kueue")
    off.queue()
    off.cluster.disable("kueue")
    off.cluster.enable("kueue")
    assert off.get(f"{KUEUE}/clusterqueues")["items"] == []
    off.job("a")
    off.wait()
    assert off.condition("a", "QuotaReserved") == (
        "False",
        "Inadmissible",
        "LocalQueue team doesn't exist",
    )


def test_a_definition_that_somebody_deletes_can_be_had_again(off: Lab) -> None:
    off.cluster.enable("kueue")
    off.client("DELETE", f"{CRDS}/localqueues.{GROUP}")
    off.wait()
    off.cluster.disable("kueue")
    off.cluster.enable("kueue")
    assert served(off) == KINDS


def test_an_unknown_addon(off: Lab) -> None:
    message = "there is no add-on 'volcano'; there are: kueue"
    with pytest.raises(ClusterError, match=message):
        off.cluster.enable("volcano")
    with pytest.raises(ClusterError, match=message):
        off.cluster.disable("volcano")


def test_a_definition_of_somebody_else_is_not_touched(off: Lab) -> None:
    name = f"workloads.{GROUP}"
    version = {
        "name": "v1beta2",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": {"type": "object"}},
    }
    names = {"kind": "Workload", "plural": "workloads", "singular": "workload"}
    spec = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]}
    body = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": spec,
    }
    answer = off.post(CRDS, body)
    assert answer.status == 201, answer.message
    uid = answer.json["metadata"]["uid"]
    message = f"the definition {name} is there already, and add-on kueue did not make it"
    with pytest.raises(ClusterError, match=message):
        off.cluster.enable("kueue")
    assert off.get(f"{CRDS}/{name}")["metadata"]["uid"] == uid
    assert off.cluster.status()["addons"] == []
    # All or nothing: none of the others was made.
    assert off.client("GET", f"{CRDS}/clusterqueues.{GROUP}").status == 404
    off.client("DELETE", f"{CRDS}/{name}")
    off.wait()
    off.cluster.enable("kueue")
    assert served(off) == KINDS


def test_a_reset_switches_it_off() -> None:
    with Cluster("none", manual_clock=True, seed=1, addons=["kueue"]) as cluster:
        assert cluster.status()["addons"] == ["kueue"]
        cluster.reset()
        assert cluster.status()["addons"] == []
        lab = Lab(cluster)
        assert served(lab) == set()
        cluster.enable("kueue")
        assert served(lab) == KINDS


def test_a_cluster_does_not_start_with_an_unknown_addon() -> None:
    with pytest.raises(ClusterError, match="there is no add-on 'volcano'; there are: kueue"):
        Cluster("none", addons=["kueue", "volcano"])


def test_the_fault_is_one_that_kueue_reports_and_that_quota_repairs(off: Lab) -> None:
    off.cluster.fault_on("kueue-not-admitted")
    assert off.cluster.status()["addons"] == ["kueue"]
    off.wait()
    assert off.condition("kueue-demo", "QuotaReserved") == (
        "False",
        "Pending",
        "couldn't assign flavors to pod set main: insufficient quota for nvidia.com/gpu in flavor "
        "gpu, previously considered podsets requests (0) + current podset request (1) > maximum "
        "capacity (0)",
    )
    quota = {"name": GPU, "nominalQuota": 1}
    group = {"coveredResources": [GPU], "flavors": [{"name": "gpu", "resources": [quota]}]}
    off.patch(f"{KUEUE}/clusterqueues/gpu", {"spec": {"resourceGroups": [group]}})
    off.wait(30)
    assert off.condition("kueue-demo", "Finished") == (
        "True",
        "Succeeded",
        "Reached expected number of succeeded pods",
    )
    off.cluster.fault_off("kueue-not-admitted")
    assert off.client("GET", f"{JOBS}/kueue-demo").status == 404
    assert off.cluster.status()["addons"] == []


def test_the_fault_leaves_an_addon_on_that_was_on(off: Lab) -> None:
    off.cluster.enable("kueue")
    off.queue(local="mine")
    off.cluster.fault_on("kueue-not-admitted")
    off.wait()
    off.cluster.fault_off("kueue-not-admitted")
    off.wait(30)
    assert off.client("GET", f"{JOBS}/kueue-demo").status == 404
    queues = [each["metadata"]["name"] for each in off.get(f"{KUEUE}/localqueues")["items"]]
    assert queues == ["mine"]


def test_a_job_that_runs_when_it_is_enabled_has_to_queue(off: Lab) -> None:
    off.job("a")
    off.job("done", image="nvcr.io/nvidia/k8s/cuda-sample:vectoradd-cuda12.5.0")
    off.wait(30)
    off.cluster.enable("kueue")
    off.queue(quota=0)
    off.wait(60)
    assert off.suspended("a")
    assert off.pods("a") == []
    text = "Missing Workload; unable to restore pod templates"
    assert ("Normal", "Stopped", text) in off.events("a")
    assert off.admitted("a") == [False]
    # A Job that had ended needs no quota.
    assert len(off.get(f"{KUEUE}/workloads")["items"]) == 1
