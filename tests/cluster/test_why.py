"""``why`` about what the recorded scenarios do not hold: refusals, failures, broken devices."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from mlk8s.cluster import Answer, attach, gpu_claim_template, gpu_job, why
from mlk8s.cluster.connection import NAMESPACE
from mlk8s.cluster.wire import path
from mlk8s.errors import ClusterError
from mlk8s.sim import Cluster

from .conftest import Bench

NODES = "course"
TEMPLATES = "resource.k8s.io/v1/resourceclaimtemplates"


def check(answer: Answer, verdict: str, *words: str, then: str = "") -> None:
    assert str(answer.verdict) == verdict, answer
    for each in words:
        assert each in answer.because, answer.text
    assert then in answer.next_step, answer.text


@pytest.fixture(scope="module")
def eight() -> Iterator[Bench]:
    """A server of eight GPUs, which tests break."""
    with Cluster("h100x8", seed=0) as cluster, attach(cluster) as connection:
        yield Bench(connection)


@pytest.fixture(scope="module")
def claims() -> Iterator[Bench]:
    """A GPU that a DRA driver serves, held by the pod ``holder``."""
    with Cluster("h100-dra", seed=0) as cluster, attach(cluster) as connection:
        bench = Bench(connection)
        bench.make(gpu_claim_template("one"), TEMPLATES)
        bench.until(lambda: list(connection.claims("resourceslices")))
        bench.pod("holder", claim_template="one")
        bench.running("holder")
        yield bench


@pytest.fixture(scope="module")
def bare() -> Iterator[Bench]:
    """Nodes without kubelets, so that pods stay as the scheduler leaves them."""
    with Cluster("none", seed=0) as cluster, attach(cluster) as connection:
        yield Bench(connection, runtime_class=None)


# --- what a node offers -------------------------------------------------------------------------


def test_a_profile_that_exists_nowhere_is_not_one_that_is_taken(bench: Bench) -> None:
    bench.pod("seven", resource="nvidia.com/mig-7g.80gb")
    bench.pod("two", resource="nvidia.com/mig-2g.12gb")
    bench.running("two")
    bench.pod("too", resource="nvidia.com/mig-2g.12gb")
    never, busy = bench.why("seven"), bench.why("too")
    check(never, "never fits here", "node a30-mig-0 offers no nvidia.com/mig-7g.80gb", "2 more")
    assert "ask for nvidia.com/mig-1g.6gb or nvidia.com/mig-2g.12gb" in never.next_step
    assert "nvidia.com/mig.config" in never.next_step
    check(busy, "busy", "0 of 1 nvidia.com/mig-2g.12gb free; held by mlk8s-labs/two", then="wait")
    for name in ("seven", "two", "too"):
        bench.delete(name)


def test_more_cpu_than_any_node_has_while_gpus_are_free(bench: Bench) -> None:
    bench.pod("wide", cpu="500")
    check(
        bench.why("wide"),
        "never fits here",
        "node h100-0 has 19.8 cpu in all, and the pod asks for 500; 1 nvidia.com/gpu is free",
        then="ask for less cpu",
    )
    bench.delete("wide")


def test_a_failed_device_is_named(eight: Bench) -> None:
    with eight.cluster.fault("device-unhealthy"):  # type: ignore[union-attr]
        eight.pod("all", gpus=8)
        check(
            eight.why("all"),
            "never fits here",
            "node h100x8-0 has 8 nvidia.com/gpu, of which 1 is unhealthy, so it can give 7",
            then="Xid",
        )
        eight.delete("all")
        eight.pod("seven", gpus=7)
        eight.running("seven")
        eight.pod("next")
        check(eight.why("next"), "busy", "0 of 7 nvidia.com/gpu free (1 more is unhealthy)")
    for name in ("seven", "next"):
        eight.delete(name)


def test_sick_devices_come_before_healthy_ones_of_another_name(bench: Bench) -> None:
    with bench.cluster.fault("plugin-not-running", "h100-0"):  # type: ignore[union-attr]
        bench.pod("waits")
        found = bench.why("waits")
        bench.delete("waits")
    check(found, "never fits here", then="device plugin's pod runs on h100-0")
    assert found.because.startswith("node h100-0 has 1 nvidia.com/gpu and can give none")


def test_a_pod_that_the_kubelet_turned_down(eight: Bench) -> None:
    with eight.cluster.fault("unexpected-admission"):  # type: ignore[union-attr]
        eight.pod("turned-down")
        eight.until(lambda: eight.status("turned-down").get("reason"))
        check(
            why("turned-down", eight.connection),
            "fails",
            "node h100x8-0",
            "UnexpectedAdmissionError",
            then="create it again",
        )
    eight.delete("turned-down")


# --- refusals -----------------------------------------------------------------------------------


def test_a_job_without_pods_says_which_quota(bench: Bench) -> None:
    bench.make(
        {"metadata": {"name": "gpus"}, "spec": {"hard": {"requests.nvidia.com/gpu": "0"}}},
        "resourcequotas",
    )
    bench.make(gpu_job("over", "busybox"), "batch/v1/jobs")
    answer = bench.until(lambda: _answered(bench, "job/over"))
    check(answer, "held back", "'gpus'", "asks for requests.nvidia.com/gpu=1", then="quota raised")
    assert answer.subject == "mlk8s-labs/job/over"
    for name, resource in (("gpus", "resourcequotas"), ("over", "batch/v1/jobs")):
        bench.delete(name, resource)


def _answered(bench: Bench, name: str) -> Answer | None:
    try:
        return bench.why(name)
    except ClusterError:
        return None


def test_a_limit_range_and_a_missing_priority_class(bench: Bench) -> None:
    bench.make(
        {
            "metadata": {"name": "small"},
            "spec": {"limits": [{"type": "Container", "max": {"cpu": "1"}}]},
        },
        "limitranges",
    )
    bench.make(gpu_job("large", "busybox", cpu="4", gpus=0), "batch/v1/jobs")
    answer = bench.until(lambda: _answered(bench, "job/large"))
    check(answer, "held back", "LimitRange", "1 of cpu at most", "asks for 4", then="1 of cpu")
    bench.delete("small", "limitranges")
    bench.delete("large", "batch/v1/jobs")
    with pytest.raises(ClusterError, match=r"no PriorityClass.*Next: create it"):
        bench.pod("urgent", priority_class="urgent")


def test_a_deployment_is_explained_through_its_replica_set(bench: Bench) -> None:
    template = {
        "metadata": {"labels": {"app": "serve"}},
        "spec": {"priorityClassName": "none", "containers": [{"name": "m", "image": "nginx"}]},
    }
    spec = {"selector": {"matchLabels": {"app": "serve"}}, "template": template}
    bench.make({"metadata": {"name": "serve"}, "spec": spec}, "apps/v1/deployments")
    answer = bench.until(lambda: _answered(bench, "deploy/serve"))
    check(answer, "held back", "PriorityClass 'none' does not exist", then="priorityclasses")
    bench.delete("serve", "apps/v1/deployments")


def test_a_suspended_job(bench: Bench) -> None:
    job = dict(gpu_job("later", "busybox"))
    job["spec"] = {**job["spec"], "suspend": True}
    bench.make(job, "batch/v1/jobs")
    check(bench.why("job/later"), "held back", "suspended", then="kubectl patch job later")
    bench.delete("later", "batch/v1/jobs")


def test_gates_and_another_scheduler(bench: Bench) -> None:
    bench.pod("gated", gpus=0, spec={"schedulingGates": [{"name": "a/x"}, {"name": "a/y"}]})
    check(bench.why("gated"), "held back", "the scheduling gates a/x and a/y")
    bench.pod("volcano", gpus=0, spec={"schedulerName": "volcano"})
    answer = why("volcano", bench.connection)
    check(answer, "held back", "the scheduler 'volcano'", then="take schedulerName out")


# --- containers ---------------------------------------------------------------------------------


def test_an_image_that_cannot_be_pulled(bench: Bench) -> None:
    bench.pod("host", gpus=0, image="registry.example/none:1")
    bench.pod("tag", gpus=0, image="python:none")
    for name, step in (("host", "registry's name"), ("tag", "correct the tag")):
        while str(bench.why(name).verdict) != "fails":
            time.sleep(0.05)
        check(bench.why(name), "fails", "cannot be pulled on node", then=step)
        bench.delete(name)


def test_a_container_that_crashes(bench: Bench) -> None:
    bench.pod(
        "crash",
        gpus=0,
        image="busybox",
        command=["sh", "-c", "exit 3"],
        spec={"restartPolicy": "Always"},
    )
    answer = bench.until(
        lambda: a if "CrashLoopBackOff" in (a := bench.why("crash")).because else None
    )
    check(answer, "fails", "ended with exit code 3, and has been started again")
    assert answer.next_step == "read its log: kubectl logs crash -n mlk8s-labs --previous."
    bench.delete("crash")


def test_a_command_that_is_not_there(bench: Bench) -> None:
    bench.pod("typo", gpus=0, image="busybox", command=["nosuchprogram"])
    bench.until(lambda: bench.status("typo").get("phase") == "Failed")
    check(bench.why("typo"), "fails", "could not be started", then="correct the command")
    bench.delete("typo")


# --- dynamic resource allocation ----------------------------------------------------------------


def test_a_selector_that_nothing_meets_is_not_a_device_that_is_taken(claims: Bench) -> None:
    selector = 'device.attributes["gpu.nvidia.com"].productName.contains("B200")'
    claims.make(gpu_claim_template("b200", selectors=[selector]), TEMPLATES)
    claims.pod("picky", claim_template="b200")
    claims.pod("second", claim_template="one")
    claims.until(lambda: claims.why("picky").evidence and claims.why("second").evidence)
    check(claims.why("picky"), "never fits here", "does not meet the selector", "B200")
    check(claims.why("second"), "busy", "gpu-0 on h100-dra-0", "held by mlk8s-labs/holder")


def test_an_extended_resource_that_a_device_class_serves(claims: Bench) -> None:
    claims.pod("plain")
    check(claims.why("plain"), "busy", "request for nvidia.com/gpu", "mlk8s-labs/holder")


def test_a_template_and_a_class_that_do_not_exist(claims: Bench) -> None:
    claims.pod("no-template", claim_template="none")
    check(why("no-template", claims.connection), "held back", "'none' does not exist", then="one")
    claims.make(gpu_claim_template("tpu", device_class="tpu.google.com"), TEMPLATES)
    claims.pod("no-class", claim_template="tpu")
    claims.until(lambda: claims.why("no-class").evidence)
    answer = claims.until(
        lambda: a if "tpu" in (a := claims.why("no-class")).because and a.evidence else None
    )
    check(answer, "never fits here", "device class 'tpu.google.com'", then="gpu.nvidia.com")


# --- what only the scheduler's message says -----------------------------------------------------


def test_the_message_leads_where_it_names_what_is_not_computed(bare: Bench) -> None:
    bare.node("zone-a", {"zone": "a"}, nvidia_com__gpu="4")
    spread = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {"matchLabels": {"app": "s"}},
    }
    near = {"topologyKey": "zone", "labelSelector": {"matchLabels": {"no": "one"}}}
    rule = "requiredDuringSchedulingIgnoredDuringExecution"
    bare.node("zone-b", {"zone": "b"}, nvidia_com__gpu="1")
    bare.pod("b", node_selector={"zone": "b"}, labels={"app": "t"})
    for number in (1, 2):
        bare.pod(
            f"s{number}",
            node_selector=None,
            labels={"app": "s"},
            spec={"topologySpreadConstraints": [spread]},
        )
        bare.looked_at(f"s{number}")
    spreading = bare.why("s2")
    check(spreading, "busy", "uneven", "on 1 of 2 nodes", "nvidia.com/gpu is free (mlk8s-labs/b)")
    assert all(
        "stands in the way" in " ".join(n.because) for n in spreading.nodes if n.name == "zone-a"
    )
    bare.pod("near", gpus=0, spec={"affinity": {"podAffinity": {rule: [near]}}})
    check(bare.why("near"), "held back", "on both nodes", "wants to be near")
    volume = {"name": "d", "persistentVolumeClaim": {"claimName": "data"}}
    bare.pod("disk", gpus=0, spec={"volumes": [volume]})
    check(bare.why("disk"), "held back", "PersistentVolumeClaim 'data' does not exist")


def test_a_pod_whose_place_is_being_cleared(bare: Bench) -> None:
    bare.node("single", {"only": "one"}, nvidia_com__gpu="1")
    bare.make(
        {"metadata": {"name": "high"}, "value": 9}, "scheduling.k8s.io/v1/priorityclasses", ""
    )
    bare.pod("low", node_selector={"only": "one"})
    bare.until(
        lambda: bare.connection.request("GET", path("pods", "low", NAMESPACE))["spec"].get(
            "nodeName"
        )
    )
    bare.pod("high", node_selector={"only": "one"}, priority_class="high")
    bare.until(lambda: bare.status("high").get("nominatedNodeName"))
    check(
        bare.why("high"), "starting", "node single is being cleared", "mlk8s-labs/low", then="wait"
    )
    check(bare.why("low"), "ending", "preemption")
    bare.pod("third", node_selector={"only": "one"})
    check(bare.why("third"), "busy", "mlk8s-labs/low")


def test_a_node_that_is_not_ready(bare: Bench) -> None:
    bare.node("sick", {"only": "sick"})
    found = bare.connection.request("GET", path("nodes", "sick"))
    found["spec"]["taints"] = [{"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}]
    found = bare.connection.request("PUT", path("nodes", "sick"), found)
    bare.pod("patient", gpus=0, node_selector={"only": "sick"})
    answer = bare.why("patient")
    check(answer, "never fits here", "node sick is not ready", then="describe node sick")


def test_no_nodes_and_no_pod(bare: Bench) -> None:
    with pytest.raises(ClusterError, match=r"no pod 'ghost'.*kubectl get pods -n mlk8s-labs"):
        why("ghost", bare.connection)
    with pytest.raises(ClusterError, match="names no pod"):
        why("a/b/c/d", bare.connection)
    with Cluster("none") as empty, attach(empty) as connection:
        bench = Bench(connection, runtime_class=None)
        bench.pod("alone")
        check(bench.why("alone"), "never fits here", "the cluster has no nodes", then="add one")


def test_the_answer_shows_itself(bare: Bench) -> None:
    answer = bare.why("patient")
    assert repr(answer).startswith("mlk8s-labs/patient: never fits here, because node sick")
    assert repr(answer).endswith("[simulated]")
    assert "PodScheduled: 0/" in repr(answer)
    page = answer._repr_html_()
    assert "mlk8s-simulated" in page and "Node by node" in page
    assert answer.as_json()["next"] == answer.next_step
