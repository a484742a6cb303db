"""Custom resources: messages are those that a Kubernetes 1.36 server gives."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import Any

import pytest

from mlk8s.sim import crd, openapi
from mlk8s.sim.api import Api
from mlk8s.sim.clock import ManualClock
from mlk8s.sim.crd import CLEANUP
from mlk8s.sim.crd_definition import validate_definition
from mlk8s.sim.custom_resources import KEY, CustomResources
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import Object, StatusError

NAME = "things.example.com"


def definition(spec_schema: Object | None = None, **version: Any) -> Object:
    schema = spec_schema or {
        "type": "object",
        "required": ["n"],
        "properties": {
            "n": {"type": "integer", "maximum": 5},
            "m": {"type": "string", "default": "dflt"},
        },
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": NAME},
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": {"plural": "things", "kind": "Thing", "shortNames": ["th"]},
            "versions": [
                {
                    "name": "v1",
                    "served": True,
                    "storage": True,
                    "schema": {
                        "openAPIV3Schema": {"type": "object", "properties": {"spec": schema}}
                    },
                    **version,
                }
            ],
        },
    }


class Cluster:
    """An API with the component that serves custom resources, and nothing else."""

    def __init__(self) -> None:
        self.api = Api(ManualClock(), random.Random(1))
        self.component = CustomResources(self.api)
        self.api.store.subscribe(self._hear)

    def _hear(self, change: Any) -> None:
        for key in self.component.keys(change):
            self.component.enqueue(key)

    def settle(self) -> None:
        for _ in range(1000):
            if not self.component.busy:
                return
            self.component.step()
        raise AssertionError("the component does not come to rest")

    def define(self, obj: Object) -> Resource:
        # Written past the API, whose own rules are tested elsewhere.
        obj["metadata"] |= {"uid": "u", "generation": 1}
        self.api.store.write(KEY, obj)
        self.settle()
        found = self.api.registry.at("example.com", "v1", "things")
        assert found is not None
        return found


@pytest.fixture
def cluster() -> Cluster:
    return Cluster()


def thing(spec: Any) -> Object:
    return {
        "apiVersion": "example.com/v1",
        "kind": "Thing",
        "metadata": {"name": "a"},
        "spec": spec,
    }


def errors(cluster: Cluster, resource: Resource, spec: Any, old: Any = None) -> list[str]:
    new = crd.decode(resource, thing(spec), cluster.api, "Ignore", [])
    before = None if old is None else thing(old)
    return [str(error) for error in crd.validate(resource, new, cluster.api, before)]


def test_a_definition_is_established_and_served(cluster: Cluster) -> None:
    resource = cluster.define(definition(subresources={"status": {}}))
    assert resource.has_status
    assert (resource.short, resource.singular) == (("th",), "thing")
    status = cluster.api.get(KEY, "", NAME)["status"]
    assert [
        (condition["type"], condition["status"], condition["reason"], condition["message"])
        for condition in status["conditions"]
    ] == [
        ("NamesAccepted", "True", "NoConflicts", "no conflicts found"),
        ("Established", "True", "InitialNamesAccepted", "the initial names have been accepted"),
    ]
    assert status["storedVersions"] == ["v1"]
    assert status["acceptedNames"]["listKind"] == "ThingList"


def test_names_that_are_taken_are_not_served(cluster: Cluster) -> None:
    cluster.define(definition())
    second = definition()
    second["metadata"]["name"] = "others.example.com"
    second["spec"]["names"] = {"plural": "others", "kind": "Other", "shortNames": ["th"]}
    cluster.define(second)
    first, *_ = cluster.api.get(KEY, "", "others.example.com")["status"]["conditions"]
    assert (first["status"], first["reason"]) == ("False", "ShortNamesConflict")
    assert first["message"] == '"th" is already in use'
    assert cluster.api.registry.at("example.com", "v1", "others") is None


def test_a_body_is_pruned_and_gets_its_defaults(cluster: Cluster) -> None:
    resource = cluster.define(definition())
    decoded = crd.decode(resource, thing({"n": 1, "junk": 2, "m": None}), cluster.api, "Ignore", [])
    assert decoded["spec"] == {"n": 1, "m": "dflt"}


def test_unknown_fields_are_refused_or_named(cluster: Cluster) -> None:
    resource = cluster.define(definition())
    with pytest.raises(StatusError) as caught:
        crd.decode(resource, thing({"n": 1, "junk": 2}), cluster.api, "Strict", [])
    assert caught.value.message == (
        'Thing in version "v1" cannot be handled as a Thing: strict decoding error: '
        'unknown field "spec.junk"'
    )
    warnings: list[str] = []
    crd.decode(resource, thing({"n": 1, "junk": 2}), cluster.api, "Warn", warnings)
    assert warnings == ['unknown field "spec.junk"']


def test_what_preserves_unknown_fields_keeps_them(cluster: Cluster) -> None:
    free = {
        "type": "object",
        "x-kubernetes-preserve-unknown-fields": True,
        "properties": {"known": {"type": "object", "properties": {"a": {"type": "string"}}}},
    }
    resource = cluster.define(definition(free))
    body = thing({"any": {"x": [1]}, "known": {"a": "1", "b": 2}})
    decoded = crd.decode(resource, body, cluster.api, "Ignore", [])
    assert decoded["spec"] == {"any": {"x": [1]}, "known": {"a": "1"}}


def test_messages_of_the_recorded_server(cluster: Cluster) -> None:
    resource = cluster.define(definition())
    assert errors(cluster, resource, {}) == ["spec.n: Required value"]
    assert errors(cluster, resource, {"n": 9}) == [
        "spec.n: Invalid value: 9: spec.n in body should be less than or equal to 5"
    ]
    assert errors(cluster, resource, {"n": "x"}) == [
        'spec.n: Invalid value: "string": spec.n in body must be of type integer: "string"'
    ]
    assert errors(cluster, resource, {"n": 5}) == []


@pytest.mark.parametrize(
    ("schema", "value", "message"),
    [
        ({"type": "integer", "minimum": 2}, 1, "1: v in body should be greater than or equal to 2"),
        ({"type": "string", "minLength": 2}, "a", '"a": v in body should be at least 2 chars long'),
        ({"type": "string", "pattern": "^a+$"}, "b", "\"b\": v in body should match '^a+$'"),
        (
            {"type": "array", "minItems": 1, "items": {"type": "string"}},
            [],
            "0: v in body should have at least 1 items",
        ),
        (
            {"type": "string", "format": "date-time"},
            "x",
            '"x": v in body must be of type date-time: "x"',
        ),
        (
            {"x-kubernetes-int-or-string": True},
            True,
            '"boolean": v in body must be of type integer,string: "boolean"',
        ),
    ],
)
def test_further_checks(cluster: Cluster, schema: Object, value: Any, message: str) -> None:
    resource = cluster.define(definition({"type": "object", "properties": {"v": schema}}))
    expected = f"spec.v: Invalid value: {message.replace('v in body', 'spec.v in body')}"
    assert errors(cluster, resource, {"v": value}) == [expected]


def test_values_items_and_alternatives(cluster: Cluster) -> None:
    parts = {
        "mode": {"type": "string", "enum": ["b", "a"]},
        "long": {"type": "string", "maxLength": 2},
        "many": {"type": "array", "maxItems": 1, "items": {"type": "string"}},
        "set": {
            "type": "array",
            "x-kubernetes-list-type": "set",
            "items": {"type": "string"},
        },
        "one": {
            "type": "object",
            "oneOf": [{"required": ["a"]}, {"required": ["b"]}],
            "properties": {"a": {"type": "string"}, "b": {"type": "string"}},
        },
    }
    resource = cluster.define(definition({"type": "object", "properties": parts}))
    assert errors(cluster, resource, {"mode": "z"}) == [
        'spec.mode: Unsupported value: "z": supported values: "b", "a"'
    ]
    assert errors(cluster, resource, {"long": "abc"}) == [
        "spec.long: Too long: may not be more than 2 bytes"
    ]
    assert errors(cluster, resource, {"many": ["a", "b"]}) == [
        "spec.many: Too many: 2: must have at most 1 item"
    ]
    assert errors(cluster, resource, {"set": ["a", "a"]}) == ['spec.set[1]: Duplicate value: "a"']
    assert errors(cluster, resource, {"one": {"a": "1", "b": "1"}}) == [
        '<nil>: Invalid value: "": "spec.one" must validate one and only one schema (oneOf). '
        "Found 2 valid alternatives"
    ]


RULES: Object = {
    "type": "object",
    "x-kubernetes-validations": [
        {"rule": "self.lo <= self.hi", "message": "lo must not exceed hi"},
        {"rule": "self.lo == oldSelf.lo", "messageExpression": "'lo was ' + string(oldSelf.lo)"},
    ],
    "properties": {"lo": {"type": "integer"}, "hi": {"type": "integer"}},
}


def test_rules(cluster: Cluster) -> None:
    resource = cluster.define(definition(RULES))
    assert errors(cluster, resource, {"lo": 1, "hi": 2}) == []
    assert errors(cluster, resource, {"lo": 3, "hi": 2}) == [
        'spec: Invalid value: "object": lo must not exceed hi'
    ]
    assert errors(cluster, resource, {"lo": 2, "hi": 2}, {"lo": 1, "hi": 2}) == [
        'spec: Invalid value: "object": lo was 1'
    ]
    assert errors(cluster, resource, {"lo": 2}) == [
        'spec: Invalid value: "object": no such key: hi evaluating rule: lo must not exceed hi'
    ]


def test_rules_wait_until_the_rest_is_valid(cluster: Cluster) -> None:
    resource = cluster.define(definition(RULES))
    assert errors(cluster, resource, {"lo": "x", "hi": 1})[1:] == [
        "<nil>: Invalid value: null: some validation rules were not checked because the object "
        "was invalid; correct the existing errors to complete validation"
    ]


def test_a_rule_that_cannot_be_evaluated_is_logged_once(
    cluster: Cluster, caplog: pytest.LogCaptureFixture
) -> None:
    rule = "!format.dns1123Label().validate(self.u).hasValue()"
    schema = {
        "type": "object",
        "x-kubernetes-validations": [{"rule": rule}],
        "properties": {"u": {"type": "string"}},
    }
    resource = cluster.define(definition(schema))
    with caplog.at_level(logging.WARNING):
        assert errors(cluster, resource, {"u": "x"}) == []
        assert errors(cluster, resource, {"u": "y"}) == []
    assert [rule in record.getMessage() for record in caplog.records] == [True]


def ruled(rule: str, **more: Any) -> Object:
    """A definition whose spec keeps a rule."""
    return definition(
        {
            "type": "object",
            "x-kubernetes-validations": [{"rule": rule, **more}],
            "properties": {
                "n": {"type": "integer"},
                "part": {"type": "number"},
                "max-age": {"type": "string", "format": "duration"},
                "until": {"type": "string", "format": "date-time"},
                "namespace": {"type": "string"},
                "address": {"type": "string"},
                "memory": {"type": "string"},
                "names": {"type": "array", "items": {"type": "string"}},
                "port": {"x-kubernetes-int-or-string": True},
                "labels": {"type": "object", "additionalProperties": {"type": "string"}},
            },
        }
    )


@pytest.mark.parametrize(
    ("rule", "good", "bad"),
    [
        ("!has(self.n) || self.n > 0", {}, {"n": 0}),
        ("self.names.all(x, x.startsWith('a'))", {"names": ["a1", "a2"]}, {"names": ["a1", "b"]}),
        ("self.names.exists(x, x == 'b')", {"names": ["a", "b"]}, {"names": []}),
        ("self.names.exists_one(x, x == 'b')", {"names": ["b"]}, {"names": ["b", "b"]}),
        ("self.names.map(x, size(x)) == [1, 2]", {"names": ["a", "bb"]}, {"names": ["a"]}),
        ("self.names.filter(x, x in ['a']).size() == 1", {"names": ["a"]}, {"names": ["b"]}),
        ("self.address.matches('^h.*t$')", {"address": "host"}, {"address": "hosts"}),
        ("self.part * 2.0 < 3.0", {"part": 1}, {"part": 2}),
        ("self.max__dash__age <= duration('1h')", {"max-age": "60m"}, {"max-age": "61m"}),
        (
            "self.until < timestamp('2026-07-01T00:00:00Z') && self.until.getMonth() == 5",
            {"until": "2026-06-30T00:00:00Z"},
            {"until": "2026-05-30T00:00:00Z"},
        ),
        ("self.__namespace__ != 'x'", {"namespace": "y"}, {"namespace": "x"}),
        ("url(self.address).getHostname() == 'h'", {"address": "http://h:80/"}, {"address": "/h"}),
        (
            "isIP(self.address) && ip(self.address).family() == 6",
            {"address": "::1"},
            {"address": ""},
        ),
        (
            "cidr('10.0.0.0/8').containsIP(self.address)",
            {"address": "10.1.1.1"},
            {"address": "11.1.1.1"},
        ),
        (
            "quantity(self.memory).isLessThan(quantity('2Gi'))",
            {"memory": "2047Mi"},
            {"memory": "2Gi"},
        ),
        ("type(self.port) == int ? self.port < 10 : self.port == 'a'", {"port": "a"}, {"port": 11}),
        ("self.labels.all(k, self.labels[k] != '')", {"labels": {"a": "b"}}, {"labels": {"a": ""}}),
        ("self.?labels[?'a'].orValue('x') == 'x'", {}, {"labels": {"a": "y"}}),
    ],
)
def test_what_rules_may_say(cluster: Cluster, rule: str, good: Object, bad: Object) -> None:
    resource = cluster.define(ruled(rule))
    assert errors(cluster, resource, good) == []
    assert errors(cluster, resource, bad) == [f'spec: Invalid value: "object": failed rule: {rule}']


def test_a_rule_may_speak_of_an_old_object_that_is_not_there(cluster: Cluster) -> None:
    rule = "oldSelf.hasValue() ? self.n >= oldSelf.value().n : self.n == 0"
    said = "'%d is not next'.format([self.n])"
    resource = cluster.define(ruled(rule, optionalOldSelf=True, messageExpression=said))
    assert errors(cluster, resource, {"n": 0}) == []
    assert errors(cluster, resource, {"n": 1}) == ['spec: Invalid value: "object": 1 is not next']
    assert errors(cluster, resource, {"n": 2}, {"n": 1}) == []
    assert errors(cluster, resource, {"n": 1}, {"n": 2}) == [
        'spec: Invalid value: "object": 1 is not next'
    ]


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (
            "self.n >",
            "compilation failed: ERROR: <input>:1:9: Syntax error: mismatched input",
        ),
        (
            "self.m > 1",
            "compilation failed: ERROR: <input>:1:5: undefined field 'm'\n | self.m > 1\n",
        ),
        (
            "self.n > '1'",
            "compilation failed: ERROR: <input>:1:8: found no matching overload for '_>_' applied "
            "to '(int, string)'\n | self.n > '1'\n | .......^",
        ),
        ("self.n", "cel expression must evaluate to a bool"),
        ("x == 1", "compilation failed: ERROR: <input>:1:1: undeclared reference to 'x'"),
    ],
)
def test_a_rule_that_does_not_compile_is_refused(rule: str, message: str) -> None:
    found = validate_definition(ruled(rule))
    assert [str(error.field) for error in found] == [
        "spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"
    ]
    shown = rule.replace(">", "\\u003e")
    assert found[0].body.startswith(
        f'Invalid value: {{"Rule":"{shown}","Message":"","MessageExpression":"","Reason":null,'
        f'"FieldPath":"","OptionalOldSelf":null}}: {message}'
    )


def test_what_was_wrong_before_is_tolerated_while_it_does_not_change(cluster: Cluster) -> None:
    resource = cluster.define(definition())
    assert errors(cluster, resource, {"n": 9}, old={"n": 9}) == []
    assert len(errors(cluster, resource, {"n": 9}, old={"n": 8})) == 1


def test_a_deleted_kind_takes_its_objects_along(cluster: Cluster) -> None:
    obj = definition()
    obj["metadata"]["finalizers"] = [CLEANUP]
    resource = cluster.define(obj)
    for index in range(250):
        metadata = {"name": f"t{index}", "namespace": "default", "uid": f"u{index}"}
        cluster.api.store.write(resource.key, {**thing({"n": 1}), "metadata": metadata})
    marked = cluster.api.get(KEY, "", NAME)
    marked["metadata"] |= {
        "deletionTimestamp": cluster.api.timestamp(),
        "deletionGracePeriodSeconds": 0,
    }
    cluster.api.store.write(KEY, marked)
    cluster.settle()
    assert cluster.api.store.count(resource.key) == 0
    assert cluster.api.find(KEY, "", NAME) is None
    assert cluster.api.registry.at("example.com", "v1", "things") is None


def test_a_definition_is_checked() -> None:
    assert crd.validate_definition(definition()) == []
    wrong = definition()
    wrong["metadata"]["name"] = "thing.example.com"
    assert [str(error) for error in crd.validate_definition(wrong)] == [
        'metadata.name: Invalid value: "thing.example.com": must be '
        'spec.names.plural+"."+spec.group'
    ]
    two = definition()
    two["spec"]["versions"].append({**two["spec"]["versions"][0], "name": "v2"})
    (error,) = crd.validate_definition(two)
    assert error.field == "spec.versions"
    assert error.detail == "must have exactly one version marked as storage version"
    untyped = definition({"properties": {}})
    assert [str(error) for error in crd.validate_definition(untyped)] == [
        "spec.versions[0].schema.openAPIV3Schema.properties[spec].type: Required value: must not "
        "be empty for specified object fields"
    ]


def test_openapi_follows_the_definitions(cluster: Cluster) -> None:
    before = openapi.index(cluster.api)["paths"]
    assert "apis/example.com/v1" not in before
    cluster.define(definition())
    paths = openapi.index(cluster.api)["paths"]
    url = paths["apis/example.com/v1"]["serverRelativeURL"]
    assert url.startswith("/openapi/v3/apis/example.com/v1?hash=")
    assert paths["api/v1"] == before["api/v1"]
    made = openapi.document(cluster.api, "example.com/v1")
    assert made is not None
    patch = made["paths"]["/apis/example.com/v1/namespaces/{namespace}/things/{name}"]["patch"]
    assert patch["x-kubernetes-group-version-kind"]["kind"] == "Thing"
    assert "fieldValidation" in {parameter["name"] for parameter in patch["parameters"]}
    assert openapi.document(cluster.api, "nothing/v1") is None


def test_a_component_that_runs_hears_of_definitions() -> None:
    from mlk8s.sim.runtime import Runtime

    async def run() -> bool:
        api = Api(ManualClock(), random.Random(1))
        runtime = Runtime(api, [CustomResources(api)])
        await runtime.listen()
        runtime.start()
        obj = definition()
        obj["metadata"] |= {"uid": "u", "generation": 1}
        api.store.write(KEY, obj)
        for _ in range(100):
            await asyncio.sleep(0)
        await runtime.stop()
        return api.registry.at("example.com", "v1", "things") is not None

    assert asyncio.run(run())


def test_a_rule_that_was_broken_before_is_tolerated_while_nothing_changes(cluster: Cluster) -> None:
    resource = cluster.define(ruled("self.n > 0"))
    assert errors(cluster, resource, {"n": 0}, {"n": 0}) == []
    assert len(errors(cluster, resource, {"n": 0}, {"n": -1})) == 1


def test_items_of_a_list_of_type_map_are_compared_with_their_former_selves(
    cluster: Cluster,
) -> None:
    item = {
        "type": "object",
        "required": ["name"],
        "properties": {"name": {"type": "string"}, "n": {"type": "integer"}},
        "x-kubernetes-validations": [{"rule": "self.n >= oldSelf.n"}],
    }
    listed: Object = {
        "type": "array",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }
    schema = {"type": "object", "properties": {"items": listed}}
    resource = cluster.define(definition(schema))
    before = {"items": [{"name": "a", "n": 1}, {"name": "b", "n": 5}]}
    after = {"items": [{"name": "b", "n": 4}, {"name": "c", "n": 0}, {"name": "a", "n": 2}]}
    assert errors(cluster, resource, after, before) == [
        'spec.items[0]: Invalid value: "object": failed rule: self.n >= oldSelf.n'
    ]
