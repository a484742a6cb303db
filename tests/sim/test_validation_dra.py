"""Validation of resource.k8s.io objects, with the messages of Kubernetes 1.36."""

from typing import Any

import pytest

from mlk8s.sim.api import Api
from mlk8s.sim.clock import ManualClock
from mlk8s.sim.validation.dra import on_create, on_update


@pytest.fixture
def api():
    return Api(ManualClock())


def errors(api: Api, kind: str, spec: Any) -> list[str]:
    plural = {"DeviceClass": "deviceclasses"}.get(kind, f"{kind.lower()}s")
    resource = api.registry.of_key(f"{plural}.resource.k8s.io")
    obj = {"metadata": {"name": "x", "namespace": "default"}, "spec": spec}
    return [str(error) for error in on_create(resource, obj, api)]


def claim(requests: list[Any], **devices: Any) -> dict[str, Any]:
    return {"devices": {"requests": requests, **devices}}


def request(**exactly: Any) -> dict[str, Any]:
    exactly = {
        "deviceClassName": "gpu.nvidia.com",
        "allocationMode": "ExactCount",
        "count": 1,
    } | exactly
    return {"name": "gpu", "exactly": exactly}


PATH = "spec.devices.requests[0]"


def test_valid_claim(api):
    selectors = [{"cel": {"expression": "device.attributes['gpu.nvidia.com'].index == 1"}}]
    constraints = [{"requests": ["gpu"], "matchAttribute": "gpu.nvidia.com/parentUUID"}]
    spec = claim([request(selectors=selectors)], constraints=constraints)
    assert errors(api, "ResourceClaim", spec) == []
    assert errors(api, "ResourceClaimTemplate", {"spec": spec}) == []


@pytest.mark.parametrize(
    ("requests", "message"),
    [
        (
            [{"name": "gpu"}],
            f"{PATH}: Required value: exactly one of `exactly` or `firstAvailable` is required",
        ),
        ([request(deviceClassName="")], f"{PATH}.exactly.deviceClassName: Required value"),
        ([request(count=0)], f"{PATH}.exactly.count: Invalid value: 0: must be greater than zero"),
        (
            [request(allocationMode="All")],
            f"{PATH}.exactly.count: Invalid value: 1: must not be specified when allocationMode "
            "is 'All'",
        ),
        (
            [request(allocationMode="Some")],
            f'{PATH}.exactly.allocationMode: Unsupported value: "Some": supported values: "All", '
            '"ExactCount"',
        ),
        ([request(), request()], 'spec.devices.requests[1]: Duplicate value: "gpu"'),
        (
            [request(selectors=[{"cel": {"expression": "device.memory == 1"}}])],
            f"{PATH}.exactly.selectors[0].cel.expression: Invalid value: "
            '"device.memory == 1": compilation failed: ERROR: <input>:1:7: undefined field '
            "'memory'\n | device.memory == 1\n | ......^",
        ),
        (
            [request(adminAccess=True)],
            f"{PATH}.exactly.adminAccess: Forbidden: admin access to devices requires the "
            "`resource.kubernetes.io/admin-access: true` label on the containing namespace",
        ),
    ],
)
def test_requests(api, requests, message):
    assert errors(api, "ResourceClaim", claim(requests)) == [message]


def test_too_many_requests(api):
    requests = [{**request(), "name": f"r{number}"} for number in range(33)]
    assert errors(api, "ResourceClaim", claim(requests)) == [
        "spec.devices.requests: Too many: 33: must have at most 32 items"
    ]


def test_constraints_name_requests_and_attributes(api):
    constraints = [{"requests": ["other"], "matchAttribute": "parentUUID"}]
    assert errors(api, "ResourceClaim", claim([request()], constraints=constraints)) == [
        'spec.devices.constraints[0].requests[0]: Invalid value: "other": must be the name of a '
        "request in the claim or the name of a request and a subrequest separated by '/'",
        'spec.devices.constraints[0].matchAttribute: Invalid value: "parentUUID": a fully '
        "qualified name must be a domain and a name separated by a slash",
    ]


def test_claims_are_immutable(api):
    resource = api.registry.of_key("resourceclaims.resource.k8s.io")
    old = {"metadata": {"name": "c"}, "spec": claim([request()])}
    new = {"metadata": {"name": "c"}, "spec": claim([request(count=2)])}
    (error,) = on_update(resource, new, old, api, "")
    assert str(error) == (
        'spec: Invalid value: {"Devices":{"Requests":[{"Name":"gpu","Exactly":{"DeviceClassName":'
        '"gpu.nvidia.com","Selectors":null,"AllocationMode":"ExactCount","Count":2,"AdminAccess":'
        'null,"Tolerations":null,"Capacity":null},"FirstAvailable":null}],"Constraints":null,'
        '"Config":null}}: field is immutable'
    )


def test_status_rules(api):
    resource = api.registry.of_key("resourceclaims.resource.k8s.io")
    users = [{"resource": "pods", "name": f"p{n}", "uid": f"u{n}"} for n in range(257)]
    old = {"metadata": {"name": "c"}, "spec": claim([request()])}

    def of(status: Any) -> list[str]:
        found = on_update(resource, {**old, "status": status}, old, api, "status")
        return [str(error) for error in found]

    result = {"request": "gpu", "driver": "gpu.nvidia.com", "pool": "n0", "device": "gpu-0"}
    allocation = {"devices": {"results": [result]}}
    assert of({"allocation": allocation, "reservedFor": users[:256]}) == []
    assert of({"allocation": allocation, "reservedFor": users}) == [
        "status.reservedFor: Too many: 257: must have at most 256 items"
    ]
    assert of({"reservedFor": users[:1]}) == [
        "status.reservedFor: Forbidden: may not be specified when `allocated` is not set"
    ]


def test_class(api):
    assert errors(api, "DeviceClass", {"extendedResourceName": "nvidia.com/gpu"}) == []
    assert errors(api, "DeviceClass", {"extendedResourceName": "cpu"}) == [
        'spec.extendedResourceName: Invalid value: "cpu": must be a valid extended resource name'
    ]
    assert errors(api, "DeviceClass", {"selectors": [{"cel": {"expression": "1"}}]}) == [
        'spec.selectors[0].cel.expression: Invalid value: "1": must evaluate to bool or the '
        "unknown type, not int"
    ]


SLICE: dict[str, Any] = {
    "driver": "gpu.nvidia.com",
    "nodeName": "n0",
    "pool": {"name": "n0", "generation": 1, "resourceSliceCount": 1},
}


@pytest.mark.parametrize(
    ("change", "messages"),
    [
        ({}, []),
        ({"driver": ""}, ["spec.driver: Required value"]),
        (
            {"nodeName": None},
            [
                "spec: Required value: exactly one of `nodeName`, `nodeSelector`, `allNodes`, "
                "`perDeviceNodeSelection` is required"
            ],
        ),
        (
            {"allNodes": True},
            [
                'spec: Invalid value: "{`nodeName`, `allNodes`}": exactly one of `nodeName`, '
                "`nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required, but multiple "
                "fields are set"
            ],
        ),
        (
            {"pool": {"name": "n0", "generation": 1, "resourceSliceCount": 0}},
            ["spec.pool.resourceSliceCount: Invalid value: 0: must be greater than zero"],
        ),
        (
            {"devices": [{"name": "gpu-0"}, {"name": "gpu-0"}]},
            ['spec.devices[1]: Duplicate value: "gpu-0"'],
        ),
        (
            {"devices": [{"name": "gpu-0", "attributes": {"index": {}}}]},
            [
                'spec.devices[0].attributes[index]: Invalid value: "": exactly one value must be '
                "specified"
            ],
        ),
        (
            {"devices": [{"name": "gpu-0", "attributes": {"v": {"version": "1.2"}}}]},
            [
                'spec.devices[0].attributes[v].version: Invalid value: "1.2": must be a string '
                "compatible with semver.org spec 2.0.0"
            ],
        ),
        (
            {
                "devices": [
                    {"name": "gpu-0", "taints": [{"key": "sick", "effect": "PreferNoSchedule"}]}
                ]
            },
            [
                'spec.devices[0].taints[0].effect: Unsupported value: "PreferNoSchedule": '
                'supported values: "NoExecute", "NoSchedule", "None"'
            ],
        ),
        (
            {
                "devices": [
                    {
                        "name": "nic-0",
                        "allowMultipleAllocations": True,
                        "capacity": {
                            "bandwidth": {
                                "value": "10",
                                "requestPolicy": {
                                    "default": "4",
                                    "validRange": {"min": "1", "max": "8", "step": "3"},
                                },
                            }
                        },
                    }
                ]
            },
            [
                "spec.devices[0].capacity[bandwidth].requestPolicy.validRange.step: Invalid "
                'value: "8": value is not a multiple of a given step (3) from (1)'
            ],
        ),
        (
            {"devices": [{"name": f"gpu-{n}"} for n in range(129)]},
            ["spec.devices: Too many: 129: must have at most 128 items"],
        ),
    ],
)
def test_slices(api, change, messages):
    spec = {key: value for key, value in {**SLICE, **change}.items() if value is not None}
    assert errors(api, "ResourceSlice", spec) == messages
