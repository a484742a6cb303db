"""JSON, merge and strategic merge patches, as an API server carries them out."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mlk8s.sim import patch
from mlk8s.sim.resources import Registry
from mlk8s.sim.schema import Schemas
from mlk8s.sim.status import StatusError

REGISTRY = Registry()
POD_SCHEMA = Schemas().of(REGISTRY.of_key("pods"))
DEPLOYMENT_SCHEMA = Schemas().of(REGISTRY.of_key("deployments.apps"))
SERVICE_SCHEMA = Schemas().of(REGISTRY.of_key("services"))
POD = {
    "metadata": {
        "name": "p",
        "labels": {"app": "a", "j": "1"},
        "finalizers": ["x.io/a", "x.io/b"],
    },
    "spec": {
        "containers": [
            {"name": "c", "image": "x", "resources": {"limits": {"cpu": "1"}}},
            {"name": "d", "image": "y"},
        ],
        "tolerations": [{"key": "k", "operator": "Exists"}],
    },
}


def strategic(change: Any, schema: Any = POD_SCHEMA, obj: Any = POD) -> Any:
    return patch.strategic_merge(copy.deepcopy(obj), change, schema)


def names(obj: Any) -> list[str]:
    return [container["name"] for container in obj["spec"]["containers"]]


def test_json_patch():
    ops = [
        {"op": "add", "path": "/metadata/labels/x~1y", "value": "2"},
        {"op": "remove", "path": "/metadata/labels/j"},
        {"op": "test", "path": "/spec/containers/0/name", "value": "c"},
    ]
    assert patch.json_patch(copy.deepcopy(POD), ops)["metadata"]["labels"] == {
        "app": "a",
        "x/y": "2",
    }


@pytest.mark.parametrize(
    "op",
    [
        {"op": "test", "path": "/metadata/labels/j", "value": "9"},
        {"op": "remove", "path": "/metadata/labels/none"},
        {"op": "replace", "path": "/nowhere/at/all", "value": 1},
        {"op": "dance", "path": "/metadata"},
    ],
)
def test_json_patch_that_cannot_be_carried_out(op):
    with pytest.raises(StatusError) as refused:
        patch.json_patch(copy.deepcopy(POD), [op])
    assert refused.value.code == 422
    assert refused.value.reason == "Invalid"
    assert refused.value.message == "the server rejected our request due to an error in our request"


def test_bodies_of_the_wrong_type():
    with pytest.raises(StatusError) as refused:
        patch.json_patch({}, {"a": 1})
    assert (refused.value.code, refused.value.message) == (
        400,
        "error decoding patch: json: cannot unmarshal object into Go value of type "
        "[]handlers.jsonPatchOp",
    )
    for apply in (
        patch.merge_patch,
        lambda obj, body: patch.strategic_merge(obj, body, POD_SCHEMA),
    ):
        with pytest.raises(StatusError) as refused:
            apply({}, [1])
        assert refused.value.message == (
            "error decoding patch: json: cannot unmarshal array into Go value of type "
            "map[string]interface {}"
        )


def test_too_many_operations():
    op = {"op": "test", "path": "/metadata/name", "value": "p"}
    with pytest.raises(StatusError) as refused:
        patch.json_patch(copy.deepcopy(POD), [op] * 10_001)
    assert refused.value.code == 413


def test_merge_patch():
    # The example of RFC 7386, section 3.
    target = {
        "title": "Goodbye!",
        "author": {"givenName": "John", "familyName": "Doe"},
        "tags": ["example", "sample"],
        "content": "This will be unchanged",
    }
    change = {
        "title": "Hello!",
        "phoneNumber": "+01-123-456-7890",
        "author": {"familyName": None},
        "tags": ["example"],
    }
    assert patch.merge_patch(target, change) == {
        "title": "Hello!",
        "author": {"givenName": "John"},
        "tags": ["example"],
        "content": "This will be unchanged",
        "phoneNumber": "+01-123-456-7890",
    }


def test_items_merge_by_their_key():
    new = strategic({"spec": {"containers": [{"name": "c", "image": "z"}]}})
    assert new["spec"]["containers"] == [
        {"name": "c", "image": "z", "resources": {"limits": {"cpu": "1"}}},
        {"name": "d", "image": "y"},
    ]


def test_maps_merge_and_null_deletes():
    new = strategic({"metadata": {"labels": {"b": "2", "j": None, "never": None}}})
    assert new["metadata"]["labels"] == {"app": "a", "b": "2"}


def test_a_new_item_comes_before_those_that_the_patch_does_not_name():
    assert names(strategic({"spec": {"containers": [{"name": "n"}]}})) == ["n", "c", "d"]
    assert names(strategic({"spec": {"containers": [{"name": "d"}, {"name": "n"}]}})) == [
        "c",
        "d",
        "n",
    ]


def test_element_order():
    # As kubectl sends it.
    new = strategic(
        {
            "spec": {
                "$setElementOrder/containers": [{"name": "d"}, {"name": "n"}, {"name": "c"}],
                "containers": [{"name": "n", "image": "i"}],
            }
        }
    )
    assert names(new) == ["d", "n", "c"]
    assert "$setElementOrder/containers" not in new["spec"]
    assert names(
        strategic({"spec": {"$setElementOrder/containers": [{"name": "d"}, {"name": "c"}]}})
    ) == ["d", "c"]


def test_an_order_that_the_patch_itself_does_not_keep():
    with pytest.raises(StatusError, match="The order in patch list") as refused:
        strategic(
            {
                "spec": {
                    "$setElementOrder/containers": [{"name": "c"}, {"name": "d"}],
                    "containers": [{"name": "d"}, {"name": "c"}],
                }
            }
        )
    assert refused.value.code == 500


def test_directives():
    gone = strategic({"spec": {"containers": [{"name": "c", "$patch": "delete"}]}})
    assert names(gone) == ["d"]
    replaced = strategic({"spec": {"containers": [{"$patch": "replace"}, {"name": "n"}]}})
    assert names(replaced) == ["n"]
    assert strategic({"metadata": {"labels": {"$patch": "replace", "z": "1"}}})["metadata"][
        "labels"
    ] == {"z": "1"}
    assert strategic({"metadata": {"labels": {"$patch": "delete"}}})["metadata"]["labels"] == {}
    with pytest.raises(StatusError, match="unknown patch type: dance in map"):
        strategic({"metadata": {"$patch": "dance"}})


def test_lists_of_values():
    added = strategic({"metadata": {"finalizers": ["x.io/c", "x.io/a"]}})
    assert sorted(added["metadata"]["finalizers"]) == ["x.io/a", "x.io/b", "x.io/c"]
    removed = strategic({"metadata": {"$deleteFromPrimitiveList/finalizers": ["x.io/a"]}})
    assert removed["metadata"]["finalizers"] == ["x.io/b"]


def test_a_json_patch_replaces_what_an_object_lacks():
    obj = patch.json_patch({"spec": {}}, [{"op": "replace", "path": "/spec/new", "value": [1]}])
    assert obj == {"spec": {"new": [1]}}
    with pytest.raises(StatusError):
        patch.json_patch({"a": [1]}, [{"op": "replace", "path": "/a/1", "value": 2}])
    with pytest.raises(StatusError):
        patch.json_patch({"a": 1}, [{"op": "replace", "path": "/a"}])


def test_lists_without_a_strategy_are_replaced():
    new = strategic({"spec": {"tolerations": [{"key": "z", "operator": "Exists"}]}})
    assert new["spec"]["tolerations"] == [{"key": "z", "operator": "Exists"}]


def test_retain_keys():
    deployment = {"spec": {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}}
    new = strategic(
        {"spec": {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}},
        DEPLOYMENT_SCHEMA,
        deployment,
    )
    assert new["spec"]["strategy"] == {"type": "Recreate"}
    with pytest.raises(StatusError, match="invalid patch format of retainKeys") as refused:
        strategic(
            {"spec": {"strategy": {"$retainKeys": ["type"], "rollingUpdate": {}}}},
            DEPLOYMENT_SCHEMA,
            deployment,
        )
    assert refused.value.code == 400


def test_a_numeric_merge_key():
    service = {"spec": {"ports": [{"port": 80, "name": "a"}, {"port": 443, "name": "b"}]}}
    new = strategic({"spec": {"ports": [{"port": 443, "name": "z"}]}}, SERVICE_SCHEMA, service)
    assert new["spec"]["ports"] == [{"port": 80, "name": "a"}, {"port": 443, "name": "z"}]


def test_an_item_without_its_key():
    with pytest.raises(StatusError) as refused:
        strategic({"spec": {"containers": [{"image": "y"}]}})
    assert (refused.value.code, refused.value.message) == (
        500,
        "map: map[image:y] does not contain declared merge key: name",
    )


def test_a_result_that_cannot_be_decoded():
    change = {"spec": {"foo": "bar"}}
    error = patch.unfit("strategic", change, {}, 'strict decoding error: unknown field "spec.foo"')
    assert error.code == 422
    assert error.message == (
        ' "" is invalid: patch: Invalid value: "map[spec:map[foo:bar]]": strict decoding error: '
        'unknown field "spec.foo"'
    )
