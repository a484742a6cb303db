"""CEL device selectors against cases of Kubernetes' own cel/compile_test.go and NVIDIA's demos."""

from typing import Any

import pytest

from mlk8s.sim.scheduler.cel import CelError, compile

DRIVER = "gpu.nvidia.com"
A100: dict[str, Any] = {
    "name": "gpu-0",
    "attributes": {
        "type": {"string": "gpu"},
        "productName": {"string": "NVIDIA A100-SXM4-40GB"},
        "index": {"int": 1},
        "driverVersion": {"version": "580.95.5"},
        "cudaComputeCapability": {"version": "8.0.0"},
        "healthy": {"bool": True},
        "resource.kubernetes.io/pcieRoot": {"string": "pci0000:01"},
    },
    "capacity": {"memory": {"value": "40Gi"}},
}
GPU = "device.attributes['gpu.nvidia.com']"
MEMORY = "device.capacity['gpu.nvidia.com'].memory"


def error_of(expression: str, device: dict[str, Any] = A100) -> str:
    with pytest.raises(CelError) as caught:
        compile(expression).matches(DRIVER, device)
    return str(caught.value)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("device.driver == 'gpu.nvidia.com'", True),
        (f"{GPU}.type == 'gpu'", True),
        (f"{GPU}.profile == '1g.10gb' || {GPU}.type == 'gpu'", True),
        (f"{GPU}.productName.lowerAscii().matches('^.*a100.*$')", True),
        (f"{GPU}.productName.lowerAscii().matches('^.*h100.*$')", False),
        (f"{MEMORY}.compareTo(quantity('40Gi')) >= 0", True),
        (f"{MEMORY}.isGreaterThan(quantity('40Gi'))", False),
        (f"{MEMORY}.sub(quantity('1Gi')).asInteger() == 39 * 1024 * 1024 * 1024", True),
        (f"{GPU}.healthy", True),
        (f"{GPU}.index-1 == 0", True),
        (f"{GPU}['index'] in [1, 3]", True),
        (f"{GPU}.driverVersion.isGreaterThan(semver('550.0.0'))", True),
        (f"{GPU}.driverVersion.compareTo(semver('v580.95', true)) == 1", True),
        (f"{GPU}.cudaComputeCapability.major() >= 8", True),
        ("device.attributes['resource.kubernetes.io'].pcieRoot == 'pci0000:01'", True),
        (f"cel.bind(gpu, {GPU}, gpu.type == 'gpu' && gpu.index == 1)", True),
        (f"{GPU}.?profile.orValue('none') == 'none'", True),
        ("'no-such-domain' in device.attributes", False),
        ("has(device.attributes['no-such-domain'].name)", False),
        (f"'index' in {GPU} && {GPU}.index == 1", True),
        (f"{GPU}.productName.split(' ').size() == 2", True),
        ("device.attributes.exists_one(x, x == 'gpu.nvidia.com')", True),
        ("device.allowMultipleAllocations == false", True),
        ("isQuantity('40Gi') && !isQuantity('forty') && isSemver('1.2.3')", True),
        ("7 / 2 == 3 && -7 % 3 == -1 && [1, 2].map(x, x * 2) == [2, 4]", True),
    ],
)
def test_matches(expression, expected):
    assert compile(expression).matches(DRIVER, A100) is expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (f"{GPU}.profile == '1g.10gb'", "no such key: profile"),
        ("device.attributes['no-such-domain'].name == 'x'", "no such key: name"),
        (
            f"{GPU}.index.isGreaterThan(quantity('1'))",
            "no such overload: isGreaterThan(int, kubernetes.Quantity)",
        ),
        ("[1].exists(x, int('one') > x)", 'strconv.ParseInt: parsing "one": invalid syntax'),
        (f"{GPU}.index > 0 && 1 / 0 == 1", "division by zero"),
    ],
)
def test_runtime_errors(expression, message):
    assert error_of(expression) == message


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ("1", "must evaluate to bool or the unknown type, not int"),
        (
            "foo == 1",
            "compilation failed: ERROR: <input>:1:1: undeclared reference to 'foo' "
            "(in container '')\n | foo == 1\n | ^",
        ),
        (
            "device.memory == 1",
            "compilation failed: ERROR: <input>:1:7: undefined field 'memory'\n"
            " | device.memory == 1\n | ......^",
        ),
        (
            "device.driver == 1",
            "compilation failed: ERROR: <input>:1:15: found no matching overload for '_==_' "
            "applied to '(string, int)'\n | device.driver == 1\n | ..............^",
        ),
    ],
)
def test_compile_errors(expression, message):
    assert error_of(expression) == message


def test_list_functions_of_1_37_are_unknown():
    assert "undeclared reference to 'includes'" in error_of("device.driver.includes('x')")


def test_list_attribute_is_unsupported_in_1_36():
    device = {"name": "d", "attributes": {"names": {"strings": ["fish", "bird"]}}}
    assert error_of("true", device) == "attribute names: unsupported attribute value"


def test_endless_work_ends():
    ten = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"
    nested = "true"
    for name in "abcdefg":
        nested = f"{ten}.all({name}, {nested})"
    assert "actual cost limit exceeded" in error_of(nested)
    assert "recursion limit" in error_of("(" * 4000 + "true" + ")" * 4000)
    assert compile(" && ".join(["true"] * 1000)).matches(DRIVER, A100)
