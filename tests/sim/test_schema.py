"""Types and the reading of bodies, held against what Kubernetes 1.36 answers."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from mlk8s.sim.resources import Registry, Resource
from mlk8s.sim.schema import Schemas, named
from mlk8s.sim.status import Object, StatusError

POD: Object = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "p", "labels": {"app": "a"}},
    "spec": {
        "containers": [
            {
                "name": "c",
                "image": "x",
                "ports": [{"containerPort": 80}],
                "resources": {"limits": {"cpu": "500m"}},
            }
        ]
    },
}


def resource(group: str, plural: str) -> Resource:
    found = Registry().at(group, "v1", plural)
    assert found is not None
    return found


PODS = resource("", "pods")


def decode(obj: Any, what: Resource = PODS, validation: str = "Ignore") -> Object:
    return Schemas().decode(what, obj, validation, [])


def changed(path: str, value: Any) -> Object:
    obj: Any = copy.deepcopy(POD)
    *parents, leaf = path.split(".")
    place = obj
    for part in parents:
        place = place[int(part)] if part.isdigit() else place[part]
    place[leaf] = value
    return dict(obj)


def refusal(obj: Any, what: Resource = PODS, validation: str = "Strict") -> str:
    with pytest.raises(StatusError) as caught:
        decode(obj, what, validation)
    assert (caught.value.code, caught.value.reason) == (400, "BadRequest")
    return caught.value.message


HANDLED = 'Pod in version "v1" cannot be handled as a Pod: '


@pytest.mark.parametrize(
    ("path", "value", "reason"),
    [
        (
            "spec.containers",
            "x",
            "json: cannot unmarshal string into Go struct field PodSpec.spec.containers of type "
            "[]v1.Container",
        ),
        (
            "spec.containers.0.name",
            5,
            "json: cannot unmarshal number into Go struct field Container.spec.containers.name "
            "of type string",
        ),
        (
            "spec.containers.0.ports.0.containerPort",
            "80",
            "json: cannot unmarshal string into Go struct field "
            "ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            "spec.containers.0.ports.0.containerPort",
            2**31,
            "json: cannot unmarshal number 2147483648 into Go struct field "
            "ContainerPort.spec.containers.ports.containerPort of type int32",
        ),
        (
            "metadata.labels.app",
            1,
            "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.labels of "
            "type string",
        ),
        (
            "spec.hostNetwork",
            "true",
            "json: cannot unmarshal string into Go struct field PodSpec.spec.hostNetwork of type "
            "bool",
        ),
        (
            "spec.containers.0.resources.limits.cpu",
            "lots",
            "quantities must match the regular expression "
            "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "spec.containers.0.resources.limits.cpu",
            "1K",
            "unable to parse quantity's suffix",
        ),
        ("spec.conatiners", [], 'strict decoding error: unknown field "spec.conatiners"'),
        (
            "spec.containers.0.imge",
            "x",
            'strict decoding error: unknown field "spec.containers[0].imge"',
        ),
    ],
)
def test_a_value_that_does_not_fit_is_refused_in_go_s_words(
    path: str, value: Any, reason: str
) -> None:
    assert refusal(changed(path, value)) == HANDLED + reason


def test_several_unknown_fields_are_named_in_the_order_in_which_they_stand() -> None:
    obj = {"spec": {"a": 1, "containers": []}, "b": 2}
    reason = 'strict decoding error: unknown field "spec.a", unknown field "b"'
    assert refusal(obj) == HANDLED + reason


def test_unknown_fields_are_dropped_with_a_warning() -> None:
    warnings: list[str] = []
    decoded = Schemas().decode(PODS, changed("spec.conatiners", []), "Warn", warnings)
    assert warnings == ['unknown field "spec.conatiners"']
    assert "conatiners" not in decoded["spec"]


def test_another_kind_or_version_is_refused() -> None:
    scheme = 'in scheme "pkg/api/legacyscheme/scheme.go:30"'
    assert refusal({"apiVersion": "v1", "kind": "Foo"}) == (
        'Foo in version "v1" cannot be handled as a Pod: '
        f'no kind "Foo" is registered for version "v1" {scheme}'
    )
    assert refusal({"apiVersion": "v1", "kind": "Service"}) == (
        'Service in version "v1" cannot be handled as a Pod: '
        "converting (v1.Service) to (core.Pod): unknown conversion"
    )
    scaler = Registry().at("autoscaling", "v2", "horizontalpodautoscalers")
    assert scaler is not None
    body = {"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler"}
    assert refusal(body, scaler) == (
        "the API version in the data (autoscaling/v1) does not match the expected API version "
        "(autoscaling/v2)"
    )


def test_a_body_that_is_no_object_is_refused() -> None:
    assert refusal([1]).startswith(
        "the object provided is unrecognized (must be of type Pod): couldn't get version/kind; "
        "json parse error: json: cannot unmarshal array into Go value of type struct"
    )


def test_quantities_are_canonical_also_when_they_are_numbers() -> None:
    limits = {"cpu": 0.5, "memory": "1024Mi", "nvidia.com/gpu": 2}
    decoded = decode(changed("spec.containers.0.resources.limits", limits))
    assert decoded["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "500m",
        "memory": "1Gi",
        "nvidia.com/gpu": "2",
    }


def test_what_go_omits_is_omitted_and_the_rest_stays() -> None:
    obj = changed("spec.securityContext", {})
    obj["metadata"] |= {"annotations": {}, "creationTimestamp": None}
    obj["spec"] |= {"tolerations": [], "hostNetwork": False, "terminationGracePeriodSeconds": 0}
    decoded = decode(obj)
    assert decoded["metadata"] == {"name": "p", "labels": {"app": "a"}}
    assert decoded["spec"]["securityContext"] == {}
    # A pointer's zero is told from its absence.
    assert decoded["spec"]["terminationGracePeriodSeconds"] == 0
    assert "tolerations" not in decoded["spec"]
    assert "hostNetwork" not in decoded["spec"]


def test_the_body_stays_as_it_was() -> None:
    obj = changed("spec.containers.0.resources.limits.cpu", 0.5)
    before = copy.deepcopy(obj)
    decode(obj)
    assert obj == before


def test_kind_and_version_are_filled_in_and_int_or_string_is_kept() -> None:
    service = {"spec": {"ports": [{"port": 80, "targetPort": "web"}, {"port": 1, "targetPort": 2}]}}
    decoded = decode(service, resource("", "services"))
    assert (decoded["apiVersion"], decoded["kind"]) == ("v1", "Service")
    assert [port["targetPort"] for port in decoded["spec"]["ports"]] == ["web", 2]


def test_bytes_have_to_be_base64() -> None:
    secret = {"data": {"a": "***"}}
    assert refusal(secret, resource("", "secrets")).endswith("illegal base64 data at input byte 0")


def test_a_schema_says_how_lists_merge_and_which_values_are_possible() -> None:
    spec = named("io.k8s.api.core.v1.PodSpec")
    containers, tolerations = spec.properties["containers"], spec.properties["tolerations"]
    assert (containers.list_type, containers.map_keys) == ("map", ("name",))
    assert (containers.patch_merge_key, containers.patch_strategy) == ("name", frozenset({"merge"}))
    assert spec.properties["volumes"].patch_strategy == {"merge", "retainKeys"}
    assert tolerations.list_type == "atomic"
    assert tolerations.items is not None
    operator = tolerations.items.properties["operator"]
    assert operator.enum == ["Equal", "Exists", "Gt", "Lt"]
    assert operator.description.endswith(
        'Possible enum values:\n - `"Equal"`\n - `"Exists"`\n - `"Gt"`\n - `"Lt"`'
    )
    # The schema files fix the kind; Kubernetes' own document does not.
    assert named("io.k8s.api.core.v1.Pod").properties["kind"].enum == []
