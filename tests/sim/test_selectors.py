"""Label and field selectors, with the messages of Kubernetes 1.36."""

from __future__ import annotations

import pytest

from mlk8s.sim import selectors
from mlk8s.sim.resources import Registry, Resource
from mlk8s.sim.status import StatusError

REGISTRY = Registry()
PODS = REGISTRY.of_key("pods")
THINGS = Resource("example.com", "v1", "Thing", "things", "thing", namespaced=True)


@pytest.mark.parametrize(
    ("text", "labels", "selected"),
    [
        ("", {}, True),
        ("app", {"app": ""}, True),
        ("!app", {"app": ""}, False),
        ("app=a", {"app": "a"}, True),
        ("app==a", {"app": "b"}, False),
        ("app!=a", {}, True),
        ("app!=a", {"app": "a"}, False),
        ("app in (a, b)", {"app": "b"}, True),
        ("app in (a,b)", {}, False),
        ("app notin (b),!missing,app", {"app": "a"}, True),
        ("app notin (b)", {}, True),
        ("in in (notin)", {"in": "notin"}, True),
        ("gpus>4", {"gpus": "8"}, True),
        ("gpus>4", {"gpus": "many"}, False),
        ("gpus<4", {"gpus": "4"}, False),
        ("app=", {"app": ""}, True),
        ("app in ()", {"app": ""}, True),
        ("nvidia.com/gpu.present=true", {"nvidia.com/gpu.present": "true"}, True),
    ],
)
def test_which_labels_are_selected(text, labels, selected):
    assert selectors.labels(text).matches(labels) is selected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a in (", "unable to parse requirement: found '', expected: ',', ')' or identifier"),
        ("a in b", "unable to parse requirement: found 'b' expected: '('"),
        ("a in (b", "unable to parse requirement: found '', expected: ',' or ')'"),
        ("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"),
        ("a,", "found '', expected: identifier after ','"),
        ("a=b c", "found 'c', expected: ',' or 'end of string'"),
        ("=a", "found '=', expected: !, identifier, or 'end of string'"),
        (
            "a>x",
            "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' "
            "operators, the value must be an integer",
        ),
    ],
)
def test_a_label_selector_that_cannot_be_read(text, message):
    with pytest.raises(StatusError) as refused:
        selectors.labels(text)
    assert (refused.value.code, refused.value.message) == (400, message)


def test_bad_keys_and_values_name_their_rule():
    with pytest.raises(StatusError, match='<nil>: Invalid value: "-a": name part must consist'):
        selectors.labels("-a")
    with pytest.raises(StatusError, match=r'values\[0\]\[a\]: Invalid value: "b\$": a valid label'):
        selectors.labels("a=b$")


def test_a_selector_object():
    selector = selectors.from_object(
        {
            "matchLabels": {"app": "a"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["x", "y"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }
    )
    assert selector.matches({"app": "a", "tier": "y"})
    assert not selector.matches({"app": "a", "tier": "y", "old": ""})
    assert str(selector) == "app=a,!old,tier in (x,y)"
    assert not selectors.from_object(None).matches({"app": "a"})
    assert not selectors.from_object(None).empty
    assert selectors.from_object({}).matches({})
    assert selectors.from_object({}).empty


POD = {
    "metadata": {"name": "p", "namespace": "n"},
    "spec": {"nodeName": "a", "restartPolicy": "Never"},
    "status": {"phase": "Running", "podIPs": [{"ip": "10.0.0.1"}]},
}


@pytest.mark.parametrize(
    ("text", "selected"),
    [
        ("status.phase=Running", True),
        ("status.phase!=Running", False),
        ("metadata.name=p,spec.nodeName=a", True),
        ("metadata.name==q", False),
        ("spec.hostNetwork=false", True),
        ("status.podIP=10.0.0.1", True),
        ("status.nominatedNodeName=", True),
        ("spec.host=a", True),
    ],
)
def test_which_pods_are_selected_by_field(text, selected):
    assert selectors.field(text, PODS).matches(POD) is selected


def test_exact_fields_are_known():
    selector = selectors.field("metadata.name=p,status.phase!=Failed", PODS)
    assert selector.exact == {"metadata.name": "p"}


def test_events_by_what_they_are_about():
    selector = selectors.field(
        "involvedObject.name=p,type!=Normal,source=kubelet", REGISTRY.of_key("events")
    )
    event = {"involvedObject": {"name": "p"}, "type": "Warning", "reportingComponent": "kubelet"}
    assert selector.matches(event)
    assert not selector.matches({**event, "type": "Normal"})


@pytest.mark.parametrize(
    ("key", "text", "message"),
    [
        ("pods", "spec.containers=1", "field label not supported: spec.containers"),
        (
            "configmaps",
            "data=1",
            '"data" is not a known field selector: only "metadata.name", "metadata.namespace"',
        ),
        ("jobs.batch", "spec.x=1", 'field label "spec.x" not supported for batchv1.Job'),
        ("pods", "abc", "invalid selector: 'abc'; can't understand 'abc'"),
        ("nodes", "metadata.namespace=x", "field label not supported: metadata.namespace"),
    ],
)
def test_a_field_selector_that_cannot_be_used(key, text, message):
    with pytest.raises(StatusError) as refused:
        selectors.field(text, REGISTRY.of_key(key))
    assert (refused.value.code, refused.value.message) == (400, message)


def test_custom_resources_select_what_their_definition_allows():
    red = selectors.field("spec.color=red", THINGS, [".spec.color"])
    assert red.matches({"spec": {"color": "red"}})
    with pytest.raises(StatusError, match=r"field label not supported: spec\.size"):
        selectors.field("spec.size=1", THINGS, [".spec.color"])
