"""Field ownership: server-side apply, its conflicts, and what other writes record."""

from __future__ import annotations

import asyncio
import copy
import json
from typing import Any

import pytest

from mlk8s.sim import apply, patch
from mlk8s.sim.api import Api
from mlk8s.sim.clock import ManualClock
from mlk8s.sim.resources import Registry, Resource
from mlk8s.sim.status import StatusError

REGISTRY = Registry()
PODS = REGISTRY.of_key("pods")
CONFIG_MAPS = REGISTRY.of_key("configmaps")
SERVICES = REGISTRY.of_key("services")
DEPLOYMENTS = REGISTRY.of_key("deployments.apps")
THINGS = Resource("example.com", "v1", "Thing", "things", "thing", True, subresources=("status",))


@pytest.fixture
def clock():
    return ManualClock(1_764_000_000)


@pytest.fixture
def api(clock):
    return Api(clock)


def config_map(data: Any, **metadata: Any) -> Any:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "ssa", "namespace": "n", **metadata},
        "data": data,
    }


def pod(gpus: Any, **labels: str) -> Any:
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "kp", "namespace": "default", "labels": {"app": "demo", **labels}},
        "spec": {
            "restartPolicy": "Never",
            "containers": [
                {
                    "name": "main",
                    "image": "cuda",
                    "resources": {"limits": {"nvidia.com/gpu": gpus}},
                }
            ],
        },
    }


def stored(api: Api, resource: Resource, obj: Any, manager: str) -> Any:
    """An object as a create by ``manager`` leaves it."""
    obj = api.schemas.decode(resource, obj, "Ignore", [])
    obj["metadata"]["uid"] = "u"
    apply.track(None, obj, resource, api, manager, "")
    return obj


def owners(obj: Any) -> Any:
    return {
        (entry["manager"], entry["operation"]): entry["fieldsV1"]
        for entry in obj["metadata"].get("managedFields", [])
    }


def refusal(
    api: Api, old: Any, body: Any, resource: Resource, manager: str, subresource: str = ""
) -> StatusError:
    with pytest.raises(StatusError) as refused:
        apply.server_side(old, body, resource, api, manager, False, subresource)
    return refused.value


# -- the recorded calls ---------------------------------------------------------------------------


def test_the_recorded_config_map(api):
    def ssa(old: Any, who: str, data: Any, force: bool = False) -> Any:
        return apply.server_side(old, config_map(data), CONFIG_MAPS, api, who, force, "")

    first = ssa(None, "me", {"a": "1", "b": "1"})
    assert first["data"] == {"a": "1", "b": "1"}
    error = refusal(api, first, config_map({"a": "2"}), CONFIG_MAPS, "you")
    assert (error.code, error.reason) == (409, "Conflict")
    assert error.message == 'Apply failed with 1 conflict: conflict with "me": .data.a'
    assert error.details == {
        "causes": [
            {"reason": "FieldManagerConflict", "message": 'conflict with "me"', "field": ".data.a"}
        ]
    }
    forced = ssa(first, "you", {"a": "2"}, True)
    assert forced["data"] == {"a": "2", "b": "1"}
    assert owners(forced) == {
        ("me", "Apply"): {"f:data": {"f:b": {}}},
        ("you", "Apply"): {"f:data": {"f:a": {}}},
    }
    assert ssa(forced, "me", {})["data"] == {"a": "2"}


def kubectl_applied(body: Any) -> Any:
    """What ``kubectl apply`` sends: the body with itself in an annotation."""
    applied = copy.deepcopy(body)
    applied["metadata"]["annotations"] = {}
    body = copy.deepcopy(body)
    body["metadata"]["annotations"] = {apply.LAST_APPLIED: json.dumps(applied) + "\n"}
    return body


def test_the_recorded_kubectl_sequence(api):
    live = stored(api, PODS, kubectl_applied(pod(1)), "kubectl-client-side-apply")
    # apply -f kp2.yaml
    change = {"metadata": kubectl_applied(pod(1, tier="gold"))["metadata"]}
    newer = patch.strategic_merge(copy.deepcopy(live), change, api.schemas.of(PODS))
    apply.track(live, newer, PODS, api, "kubectl-client-side-apply", "")
    assert list(owners(newer)) == [("kubectl-client-side-apply", "Update")]
    # apply --server-side -f pod.yaml
    error = refusal(api, newer, pod(1), PODS, "kubectl")
    assert error.message == (
        'Apply failed with 1 conflict: conflict with "kubectl-client-side-apply" using v1: '
        '.spec.containers[name="main"].resources.limits.nvidia.com/gpu'
    )
    # ... --force-conflicts
    forced = apply.server_side(newer, pod(1), PODS, api, "kubectl", True, "")
    assert forced["spec"] == newer["spec"]
    assert forced["metadata"]["labels"] == {"app": "demo", "tier": "gold"}
    written = json.loads(forced["metadata"]["annotations"][apply.LAST_APPLIED])
    assert written["metadata"] == {
        "name": "kp",
        "namespace": "default",
        "labels": {"app": "demo"},
    }


def test_a_quantity_sent_as_it_is_stored_is_no_conflict(api):
    live = stored(api, PODS, kubectl_applied(pod(1)), "kubectl-client-side-apply")
    applied = apply.server_side(live, pod("1"), PODS, api, "other", False, "")
    assert applied["spec"] == live["spec"]


def test_kubectl_may_take_over_what_it_applied_client_side(api):
    live = stored(api, CONFIG_MAPS, kubectl_applied(config_map({"a": "1"})), "kubectl-create")
    # Another value than that of the annotation and of the object, by the same tool.
    taken = apply.server_side(live, config_map({"a": "2"}), CONFIG_MAPS, api, "kubectl", False, "")
    assert taken["data"] == {"a": "2"}
    assert refusal(api, live, config_map({"a": "2"}), CONFIG_MAPS, "helm").code == 409


# -- conflicts and ownership ----------------------------------------------------------------------


def test_several_conflicts(api):
    first = apply.server_side(
        None, config_map({"a": "1", "b": "1"}), CONFIG_MAPS, api, "me", False, ""
    )
    error = refusal(api, first, config_map({"b": "2", "a": "2"}), CONFIG_MAPS, "you")
    assert error.message == (
        'Apply failed with 2 conflicts: conflicts with "me":\n- .data.a\n- .data.b'
    )
    other = apply.server_side(first, config_map({"c": "1"}), CONFIG_MAPS, api, "it", False, "")
    error = refusal(api, other, config_map({"a": "2", "c": "2"}), CONFIG_MAPS, "you")
    assert error.message == (
        'Apply failed with 2 conflicts: conflicts with "it":\n- .data.c\n'
        'conflicts with "me":\n- .data.a'
    )


def test_equal_values_are_owned_together(api):
    first = apply.server_side(None, config_map({"a": "1"}), CONFIG_MAPS, api, "me", False, "")
    both = apply.server_side(first, config_map({"a": "1"}), CONFIG_MAPS, api, "you", False, "")
    left = apply.server_side(both, config_map({}), CONFIG_MAPS, api, "me", False, "")
    assert left["data"] == {"a": "1"}
    gone = apply.server_side(left, config_map({}), CONFIG_MAPS, api, "you", False, "")
    assert "data" not in gone


def test_an_updater_shows_its_version_and_takes_fields_over(api, clock):
    first = apply.server_side(
        None, config_map({"a": "1", "b": "1"}), CONFIG_MAPS, api, "me", False, ""
    )
    first["metadata"]["uid"] = "u"
    changed = copy.deepcopy(first)
    changed["data"]["a"] = "2"
    apply.track(first, changed, CONFIG_MAPS, api, "edit", "")
    assert owners(changed) == {
        ("me", "Apply"): {"f:data": {"f:b": {}}},
        ("edit", "Update"): {"f:data": {"f:a": {}}},
    }
    error = refusal(api, changed, config_map({"a": "1", "b": "1"}), CONFIG_MAPS, "me")
    assert error.message == ('Apply failed with 1 conflict: conflict with "edit" using v1: .data.a')


def test_what_was_never_owned_belongs_to_those_before_the_first_apply(api):
    live = config_map({"a": "1"}, uid="u")
    error = refusal(api, live, config_map({"a": "2"}), CONFIG_MAPS, "me")
    assert error.message == (
        'Apply failed with 1 conflict: conflict with "before-first-apply" using v1: .data.a'
    )


# -- lists ----------------------------------------------------------------------------------------


def service(*ports: Any) -> Any:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "s", "namespace": "n"},
        "spec": {"ports": list(ports)},
    }


def test_list_items_come_and_go_with_their_manager(api):
    first = apply.server_side(
        None, service({"port": 80}, {"port": 443}), SERVICES, api, "me", False, ""
    )
    both = apply.server_side(
        first, service({"port": 9, "protocol": "UDP"}), SERVICES, api, "you", False, ""
    )
    assert [port["port"] for port in both["spec"]["ports"]] == [80, 443, 9]
    keys = owners(both)["me", "Apply"]["f:spec"]["f:ports"]
    # The protocol is part of the key though nobody sent it.
    assert 'k:{"port":80,"protocol":"TCP"}' in keys
    fewer = apply.server_side(both, service({"port": 443}), SERVICES, api, "me", False, "")
    assert [port["port"] for port in fewer["spec"]["ports"]] == [443, 9]


def test_a_set_and_an_atomic_list(api):
    mine = config_map({"a": "1"}, finalizers=["x.io/a"])
    first = apply.server_side(None, mine, CONFIG_MAPS, api, "me", False, "")
    assert owners(first)["me", "Apply"]["f:metadata"] == {"f:finalizers": {'v:"x.io/a"': {}}}
    both = apply.server_side(
        first, config_map({"b": "1"}, finalizers=["x.io/b"]), CONFIG_MAPS, api, "you", False, ""
    )
    assert both["metadata"]["finalizers"] == ["x.io/a", "x.io/b"]
    body = pod("1")
    body["spec"]["containers"][0]["args"] = ["a"]
    live = apply.server_side(None, body, PODS, api, "me", False, "")
    other = copy.deepcopy(body)
    other["spec"]["containers"][0]["args"] = ["a", "b"]
    error = refusal(api, live, other, PODS, "you")
    assert error.message.endswith('conflict with "me": .spec.containers[name="main"].args')


# -- creates, updates, status ---------------------------------------------------------------------


def test_a_creator_owns_what_it_sent(api):
    deployment = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": "n", "labels": {"app": "web"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app": "web"}},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {"containers": [{"name": "nginx", "image": "nginx"}]},
            },
        },
    }
    live = stored(api, DEPLOYMENTS, deployment, "kubectl-create")
    (entry,) = live["metadata"]["managedFields"]
    assert {key: entry[key] for key in entry if key != "fieldsV1"} == {
        "manager": "kubectl-create",
        "operation": "Update",
        "apiVersion": "apps/v1",
        "time": "2025-11-24T16:00:00Z",
        "fieldsType": "FieldsV1",
    }
    found = entry["fieldsV1"]
    assert found["f:metadata"] == {"f:labels": {".": {}, "f:app": {}}}
    # Structs that an empty Deployment has are not owned, a selector only as a whole.
    assert set(found["f:spec"]) == {"f:replicas", "f:selector", "f:template"}
    assert found["f:spec"]["f:selector"] == {}
    template = found["f:spec"]["f:template"]
    assert template["f:metadata"] == {"f:labels": {".": {}, "f:app": {}}}
    (key,) = template["f:spec"]["f:containers"]
    assert key == 'k:{"name":"nginx"}'


def test_only_a_change_makes_an_entry_newer(api, clock):
    live = stored(api, CONFIG_MAPS, config_map({"a": "1"}), "x")
    asyncio.run(clock.advance(60, lambda: True))
    same = copy.deepcopy(live)
    apply.track(live, same, CONFIG_MAPS, api, "x", "")
    assert same == live
    changed = copy.deepcopy(live)
    changed["data"]["b"] = "1"
    apply.track(live, changed, CONFIG_MAPS, api, "x", "")
    (entry,) = changed["metadata"]["managedFields"]
    assert entry["time"] == "2025-11-24T16:01:00Z"
    assert set(entry["fieldsV1"]["f:data"]) == {".", "f:a", "f:b"}


def test_removed_fields_lose_their_owners(api):
    live = stored(api, CONFIG_MAPS, config_map({"a": "1"}), "x")
    emptied = copy.deepcopy(live)
    del emptied["data"]
    apply.track(live, emptied, CONFIG_MAPS, api, "y", "")
    assert "managedFields" not in emptied["metadata"]


def test_status_is_owned_apart(api):
    live = stored(api, PODS, pod("1"), "x")
    running = copy.deepcopy(live)
    running["status"] = {"phase": "Running"}
    running["spec"]["nodeName"] = "a"
    apply.track(live, running, PODS, api, "kubelet", "status")
    (entry,) = [e for e in running["metadata"]["managedFields"] if e["manager"] == "kubelet"]
    assert entry["subresource"] == "status"
    assert entry["fieldsV1"] == {"f:status": {"f:phase": {}}}
    body = {**pod("1"), "status": {"phase": "Failed"}}
    error = refusal(api, running, body, PODS, "me", subresource="status")
    assert error.message == (
        'Apply failed with 1 conflict: conflict with "kubelet" with subresource "status" using '
        "v1: .status.phase"
    )


def test_managed_fields_may_be_reset(api):
    live = stored(api, CONFIG_MAPS, config_map({"a": "1"}), "x")
    reset = copy.deepcopy(live)
    reset["metadata"]["managedFields"] = [{}]
    apply.track(live, reset, CONFIG_MAPS, api, "y", "")
    assert "managedFields" not in reset["metadata"]


def test_no_more_than_ten_updaters_are_kept(api, clock):
    live = stored(api, CONFIG_MAPS, config_map({"k0": "1"}), "m0")
    for number in range(1, 13):
        asyncio.run(clock.advance(1, lambda: True))
        changed = copy.deepcopy(live)
        changed["data"][f"k{number}"] = "1"
        apply.track(live, changed, CONFIG_MAPS, api, f"m{number}", "")
        live = changed
    entries = live["metadata"]["managedFields"]
    assert len(entries) == 10
    ancient = owners(live)["ancient-changes", "Update"]["f:data"]
    assert {"f:k0", "f:k1", "f:k2", "f:k3"} <= set(ancient)


# -- requests that are refused --------------------------------------------------------------------


def test_an_apply_needs_a_manager(api):
    error = refusal(api, None, config_map({}), CONFIG_MAPS, "")
    assert (error.code, error.message) == (
        422,
        'PatchOptions.meta.k8s.io "" is invalid: fieldManager: Required value: is required for '
        "apply patch",
    )


def test_the_body_must_be_of_the_kind_and_without_managed_fields(api):
    body = {**config_map({}), "apiVersion": "apps/v1"}
    error = refusal(api, None, body, CONFIG_MAPS, "me")
    assert (error.code, error.message) == (
        400,
        "invalid object type: apps/v1, Kind=ConfigMap",
    )
    error = refusal(api, None, config_map({}, managedFields=[]), CONFIG_MAPS, "me")
    assert (error.code, error.message) == (400, "metadata.managedFields must be nil")


@pytest.mark.parametrize(
    ("spec", "fault"),
    [
        ({"conatiners": []}, ".spec.conatiners: field not declared in schema"),
        (
            {"terminationGracePeriodSeconds": "x"},
            ".spec.terminationGracePeriodSeconds: expected numeric (int or float), got string",
        ),
        (
            {"containers": [{"name": "a"}, {"name": "a"}]},
            '.spec.containers: duplicate entries for key [name="a"]',
        ),
    ],
)
def test_a_body_that_does_not_fit_the_schema(api, spec, fault):
    error = refusal(api, None, {**pod("1"), "spec": spec}, PODS, "me")
    assert (error.code, error.message) == (
        500,
        f"failed to create typed patch object (default/kp; /v1, Kind=Pod): {fault}",
    )


# -- custom resources -----------------------------------------------------------------------------


def test_custom_resources(api):
    api.schemas.add(
        THINGS,
        {
            "type": "object",
            "properties": {
                "spec": {
                    "type": "object",
                    "properties": {
                        "n": {"type": "integer"},
                        "parts": {
                            "type": "array",
                            "x-kubernetes-list-type": "map",
                            "x-kubernetes-list-map-keys": ["id"],
                            "items": {
                                "type": "object",
                                "properties": {
                                    "id": {"type": "string"},
                                    "size": {"type": "integer"},
                                },
                            },
                        },
                    },
                },
            },
        },
    )

    def thing(**spec: Any) -> Any:
        return {
            "apiVersion": "example.com/v1",
            "kind": "Thing",
            "metadata": {"name": "t", "namespace": "n"},
            "spec": spec,
        }

    first = apply.server_side(
        None, thing(n=1, parts=[{"id": "a", "size": 1}]), THINGS, api, "me", False, ""
    )
    error = refusal(api, first, thing(parts=[{"id": "a", "size": 2}]), THINGS, "you")
    assert error.message == (
        'Apply failed with 1 conflict: conflict with "me": .spec.parts[id="a"].size'
    )
    both = apply.server_side(first, thing(parts=[{"id": "b"}]), THINGS, api, "you", False, "")
    assert both["spec"] == {"n": 1, "parts": [{"id": "a", "size": 1}, {"id": "b"}]}
