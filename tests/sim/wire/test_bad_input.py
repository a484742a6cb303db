"""Whatever is sent, the answer is a Status that says what is wrong, and nothing is stored."""

from __future__ import annotations

import json

import pytest

from .client import CONFIGMAPS, MERGE, PODS, Client, configmap

APPLY = "application/apply-patch+yaml"
YAML = "application/yaml"
PROTOBUF = "application/vnd.kubernetes.protobuf"
STRATEGIC = "application/strategic-merge-patch+json"
JSON_PATCH = "application/json-patch+json"
BOMB = 'a: &a ["x","x","x","x","x","x","x","x","x"]\n' + "".join(
    f"{chr(98 + i)}: &{chr(98 + i)} [{','.join(['*' + chr(97 + i)] * 9)}]\n" for i in range(8)
)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("{bad", "invalid character 'b' looking for beginning of object key string ({bad)"),
        ("", "unexpected end of JSON input (<empty>)"),
        ('{"a":', 'unexpected end of JSON input ({"a":)'),
        ("{} x", "invalid character 'x' after top-level value ({} x)"),
    ],
)
def test_json_that_cannot_be_read(client: Client, body: str, message: str) -> None:
    answer = client("POST", CONFIGMAPS, body)
    assert answer.status == 400
    assert answer.message == (
        "the object provided is unrecognized (must be of type ConfigMap): couldn't get "
        f"version/kind; json parse error: {message}"
    )


@pytest.mark.parametrize(
    ("body", "kind", "status"),
    [
        ("[]", "application/json", 400),
        ("null", "application/json", 400),
        ('"text"', "application/json", 400),
        (b"\xff\xfe{}", "application/json", 400),
        ("[" * 100_000 + "]" * 100_000, "application/json", 400),
        ('{"data":' * 5_000 + "1" + "}" * 5_000, "application/json", 400),
        ('{"metadata":{"name":1e400}}', "application/json", 400),
        ('{"metadata":{"generation":123456789012345678901234567890}}', "application/json", 400),
        ({"metadata": 5}, "application/json", 400),
        ({"metadata": []}, "application/json", 400),
        ({"kind": 5}, "application/json", 400),
        ({"apiVersion": {}}, "application/json", 400),
        ({"kind": "Pod", "apiVersion": "v1"}, "application/json", 400),
        ({"kind": "Nothing", "apiVersion": "v9"}, "application/json", 400),
        ({"metadata": {"name": "x", "labels": 5}}, "application/json", 400),
        ({"metadata": {"name": "x"}, "data": {"a": 5}}, "application/json", 400),
        ({"metadata": {"name": "x"}, "data": [1]}, "application/json", 400),
        ({"metadata": {"name": 5}}, "application/json", 400),
        ({"metadata": {"name": "x", "creationTimestamp": "yesterday"}}, "application/json", 400),
        ("{}", "text/plain", 415),
        ("a: [", YAML, 400),
        (BOMB, YAML, 400),
        ("a: &a [*a]", YAML, 400),
        ("[" * 20_000, YAML, 400),
        ("? [1]\n: 2", YAML, 400),
        ("metadata: {name: x, generation: 99999999999999999999999}", YAML, 400),
        ("!!python/object/apply:os.system [ls]", YAML, 400),
        (b"junk", PROTOBUF, 400),
        (b"k8s\0junk", PROTOBUF, 400),
        (b"k8s\0" + b"\xff" * 1000, PROTOBUF, 400),
    ],
)
def test_a_body_of_the_wrong_shape(client: Client, body: object, kind: str, status: int) -> None:
    before = client("GET", CONFIGMAPS).json["metadata"]["resourceVersion"]
    answer = client("POST", CONFIGMAPS, body, kind)
    assert answer.status == status, answer.body
    assert answer.json["kind"] == "Status"
    assert answer.json["code"] == status
    assert answer.message
    assert client("GET", CONFIGMAPS).json["metadata"]["resourceVersion"] == before


@pytest.mark.parametrize("size", [3_200_000, 5_000_000, 20_000_000])
def test_a_body_that_is_too_large(client: Client, size: int) -> None:
    answer = client("POST", CONFIGMAPS, configmap("large", x="x" * size))
    assert answer.status == 413
    assert answer.message == "Request entity too large: limit is 3145728"
    assert client("GET", f"{CONFIGMAPS}/large").status == 404


def test_a_configmap_that_is_too_large(client: Client) -> None:
    answer = client("POST", CONFIGMAPS, configmap("large", x="x" * 1_100_000))
    assert answer.status == 422
    assert "Too long: may not be more than 1048576 bytes" in answer.message


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        (JSON_PATCH, "{}", 400),
        (JSON_PATCH, "[1]", 400),
        (JSON_PATCH, '[{"op":"x","path":"/a"}]', 422),
        (JSON_PATCH, '[{"op":"test","path":"/data/a","value":"z"}]', 422),
        (JSON_PATCH, '[{"op":"remove","path":"/nothing"}]', 422),
        (JSON_PATCH, '[{"op":"replace","path":"","value":5}]', 422),
        (MERGE, "[]", 400),
        (MERGE, "5", 400),
        (MERGE, "null", 400),
        (MERGE, "{bad", 400),
        (MERGE, "", 400),
        (MERGE, '{"metadata":5}', 422),
        (STRATEGIC, "[]", 400),
        (STRATEGIC, '{"metadata":5}', 422),
        (STRATEGIC, '{"$patch":"x"}', 500),
        (APPLY, "[]", 400),
        (APPLY, "{}", 400),
        (APPLY, "x: [", 400),
        (APPLY, BOMB, 400),
        ("application/json", "{}", 415),
    ],
)
def test_a_patch_of_the_wrong_shape(client: Client, kind: str, body: str, status: int) -> None:
    client("POST", CONFIGMAPS, configmap("patched", a="b"))
    before = client("GET", f"{CONFIGMAPS}/patched").json
    answer = client("PATCH", f"{CONFIGMAPS}/patched?fieldManager=test", body, kind)
    assert answer.status == status, answer.body
    assert answer.json["code"] == status
    assert client("GET", f"{CONFIGMAPS}/patched").json == before


def test_every_field_of_a_pod_of_a_wrong_type(client: Client) -> None:
    """No value anywhere in an object makes the server fail."""
    whole = {
        "metadata": {
            "name": "n",
            "labels": {"a": "b"},
            "ownerReferences": [
                {"apiVersion": "v1", "kind": "Pod", "name": "x", "uid": "u", "controller": True}
            ],
            "finalizers": ["example.com/x"],
        },
        "spec": {
            "nodeSelector": {"a": "b"},
            "tolerations": [{"key": "a", "operator": "Exists", "tolerationSeconds": 1}],
            "affinity": {
                "nodeAffinity": {
                    "requiredDuringSchedulingIgnoredDuringExecution": {
                        "nodeSelectorTerms": [
                            {"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}
                        ]
                    }
                }
            },
            "containers": [
                {
                    "name": "main",
                    "image": "busybox",
                    "command": ["true"],
                    "env": [{"name": "A", "value": "b"}],
                    "ports": [{"containerPort": 80}],
                    "resources": {"limits": {"cpu": "1", "nvidia.com/gpu": 1}},
                }
            ],
            "topologySpreadConstraints": [
                {"maxSkew": 1, "topologyKey": "a", "whenUnsatisfiable": "DoNotSchedule"}
            ],
        },
    }
    tried = 0
    for place in _places(whole):
        for value in (None, 5, -1, 1.5, "", "x" * 300, True, [], {}, [None], {"": None}, "1e999"):
            body = json.loads(json.dumps(whole))
            parent = body
            for step in place[:-1]:
                parent = parent[step]
            parent[place[-1]] = value
            answer = client("POST", f"{PODS}?dryRun=All", body)
            assert answer.status in (201, 400, 403, 422), (place, value, answer.body)
            tried += 1
    assert tried > 400


def _places(node: object, at: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = [at] if at else []
    if isinstance(node, dict):
        for key, value in node.items():
            found += _places(value, (*at, key))
    elif isinstance(node, list):
        for index, value in enumerate(node):
            found += _places(value, (*at, index))
    return found
