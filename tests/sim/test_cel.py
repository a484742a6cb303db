"""CEL device selectors against cases of Kubernetes' own cel/compile_test.go and NVIDIA's demos."""

from typing import Any

import pytest

from mlk8s.sim import cel
from mlk8s.sim.cel import CelError, selector

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
        selector(expression).matches(DRIVER, device)
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
        ("[1, 2].map(x, x * 2) == [2, 4]", True),
        ("isQuantity('40Gi') && !isQuantity('forty') && isSemver('1.2.3')", True),
        (
            "-7 / 2 == -3 && 7 / -2 == -3 && 7 / 2 == 3 && -7 % 3 == -1",
            True,
        ),
    ],
)
def test_matches(expression, expected):
    assert selector(expression).matches(DRIVER, A100) is expected


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (f"{GPU}.profile == '1g.10gb'", "no such key: profile"),
        ("device.attributes['no-such-domain'].name == 'x'", "no such key: name"),
        (
            f"{GPU}.index.isGreaterThan(quantity('1'))",
            "no such overload: isGreaterThan(int, kubernetes.Quantity)",
        ),
        ("dyn([1]).join('-') == '1'", "no such overload: join(list, string)"),
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
    assert selector(" && ".join(["true"] * 1000)).matches(DRIVER, A100)


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("timestamp('2026-03-01T12:30:00Z').getDayOfWeek()", 0),
        ("timestamp('2026-03-01T23:30:00Z').getHours('+01:00')", 0),
        ("timestamp('2026-03-01T00:00:00Z').getDayOfYear()", 59),
        (
            "string(timestamp('2026-03-01T00:00:00Z') - duration('1h30m'))",
            "2026-02-28T22:30:00Z",
        ),
        ("(duration('90m') - duration('-30s')).getMinutes()", 90),
        ("string(duration('1h1ms'))", "3600.001s"),
        ("url('https://u@h.example:8443/a%20b?k=1&k=2').getHost()", "h.example:8443"),
        ("url('https://[::1]:80/').getHostname()", "::1"),
        ("url('https://h/x?k=1&k=2').getQuery()", {"k": ["1", "2"]}),
        ("url('/path').getPort()", ""),
        ("isURL('https://h:port/')", False),
        ("isURL('relative')", False),
        ("isIP('::ffff:1.2.3.4')", False),
        ("isIP('127.0.0.01')", False),
        ("ip.isCanonical('2001:DB8::1')", False),
        ("ip('10.0.0.1').isGlobalUnicast()", True),
        ("ip('224.0.0.1').isLinkLocalMulticast()", True),
        ("cidr('10.1.2.3/8').masked() == cidr('10.0.0.0/8')", True),
        ("cidr('10.0.0.0/8').containsCIDR('10.1.0.0/16')", True),
        ("cidr('10.0.0.0/8').containsCIDR('0.0.0.0/0')", False),
        ("cidr('10.0.0.0/8').containsIP('::1')", False),
        ("isCIDR('10.0.0.0')", False),
        ("string(cidr('10.0.0.0/8').ip())", "10.0.0.0"),
        ("'%s=%d (%.1f%%)'.format([['a', 'b'], 3, 2.25])", "[a, b]=3 (2.2%)"),
        ("type(1) == int && type('') != int", True),
        ("['a', 'b'].all(ip, ip.size() == 1)", True),
    ],
)
def test_what_kubernetes_adds(expression, expected):
    assert cel.compile(expression, {}).evaluate({}) == expected


def test_a_function_that_is_not_there_is_told_from_other_mistakes():
    with pytest.raises(cel.Undeclared, match="undeclared reference to 'format.uuid'"):
        cel.compile("format.uuid().validate('x').hasValue()", {})
    with pytest.raises(CelError) as caught:
        cel.compile("format.uuid() == x", {})
    assert not isinstance(caught.value, cel.Undeclared)
