"""What the server answers: who may ask, in which form, and with which options."""

from __future__ import annotations

import base64
import gzip
import json
import time

import pytest
import yaml

from mlk8s.sim import Cluster

from .client import CONFIGMAPS, MERGE, PODS, TABLE, Client, configmap, pod

CRDS = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"


def test_a_wrong_token_is_unauthorized(cluster: Cluster) -> None:
    answer = Client(cluster, "wrong")("GET", PODS)
    assert (answer.status, answer.message) == (401, "Unauthorized")
    assert answer.json["reason"] == "Unauthorized"


def test_without_a_token_only_health_and_version_are_open(cluster: Cluster) -> None:
    anonymous = Client(cluster, "")
    answer = anonymous("GET", PODS)
    assert answer.status == 403
    assert answer.message == (
        'pods is forbidden: User "system:anonymous" cannot list resource "pods" in API group "" '
        'in the namespace "default"'
    )
    assert anonymous("GET", "/apis").message == (
        'forbidden: User "system:anonymous" cannot get path "/apis"'
    )
    assert anonymous("GET", "/healthz").body == b"ok"
    assert anonymous("GET", "/version").json["major"] == "1"


def test_a_service_account_token_is_accepted_and_says_who_it_is(
    cluster: Cluster, client: Client
) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts/default/token"
    issued = client("POST", path, {"spec": {}})
    assert issued.status == 201
    review = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    said = Client(cluster, issued.json["status"]["token"])("POST", review, {}).json
    assert said["status"]["userInfo"]["username"] == "system:serviceaccount:default:default"
    short = client("POST", path, {"spec": {"expirationSeconds": 60}})
    assert short.status == 422
    assert "may not specify a duration less than 10 minutes" in short.message


@pytest.mark.parametrize(
    "path", ["/api/v2/pods", "/api/v1/nothing", "/apis/nothing", "/apis/apps/v2", "/nothing"]
)
def test_an_unknown_path_is_plain_text(client: Client, path: str) -> None:
    answer = client("GET", path)
    assert (answer.status, answer.body) == (404, b"404 page not found\n")


@pytest.mark.parametrize(
    ("method", "path"), [("POST", f"{PODS}/x"), ("PUT", PODS), ("PATCH", PODS), ("OPTIONS", PODS)]
)
def test_a_method_that_a_path_does_not_have(client: Client, method: str, path: str) -> None:
    answer = client(method, path, {})
    assert answer.status == 405
    assert answer.message == ("the server does not allow this method on the requested resource")


def test_health_checks_one_by_one(client: Client) -> None:
    assert client("GET", "/livez/ping").body == b"ok"
    assert client("GET", "/livez/nothing").status == 404
    said = client("GET", "/readyz?verbose&exclude=etcd").body.decode()
    assert said == "[+]ping ok\n[+]log ok\n[+]etcd excluded: ok\nreadyz check passed\n"


def test_metrics_count_the_stored_objects(client: Client) -> None:
    text = client("GET", "/metrics").body.decode()
    # Of these no test makes one: system-cluster-critical and system-node-critical.
    name = "priorityclasses.scheduling.k8s.io"
    assert f'apiserver_storage_objects{{resource="{name}"}} 2' in text.splitlines()


def test_openapi_v2_has_the_types_of_all_groups(client: Client) -> None:
    found = client("GET", "/openapi/v2").json
    assert found["swagger"] == "2.0"
    spec = found["definitions"]["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"]
    assert spec["$ref"] == "#/definitions/io.k8s.api.apps.v1.DeploymentSpec"


# -- forms ----------------------------------------------------------------------------------------


def test_one_object_in_four_forms(client: Client) -> None:
    client("POST", CONFIGMAPS, configmap("forms", {"a": "b"}, x="y"))
    path = f"{CONFIGMAPS}/forms"
    assert client("GET", path).json["data"] == {"x": "y"}
    as_yaml = client("GET", path, Accept="application/yaml")
    assert as_yaml.headers["Content-Type"] == "application/yaml"
    assert yaml.safe_load(as_yaml.body)["data"] == {"x": "y"}
    table = client("GET", path, Accept=TABLE).json
    assert table["kind"] == "Table"
    assert [column["name"] for column in table["columnDefinitions"]] == ["Name", "Data", "Age"]
    assert table["rows"][0]["cells"][:2] == ["forms", 1]
    part = "application/json;as=PartialObjectMetadata;v=v1;g=meta.k8s.io"
    partial = client("GET", path, Accept=part).json
    assert partial["kind"] == "PartialObjectMetadata"
    assert partial["metadata"]["labels"] == {"a": "b"}
    assert "data" not in partial
    listed = client(
        "GET", CONFIGMAPS, Accept="application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
    ).json
    assert listed["kind"] == "PartialObjectMetadataList"
    assert all(item["kind"] == "PartialObjectMetadata" for item in listed["items"])


def test_a_format_that_is_not_written_is_not_acceptable(client: Client) -> None:
    answer = client("GET", PODS, Accept="application/vnd.kubernetes.protobuf")
    assert answer.status == 406
    assert answer.json["reason"] == "NotAcceptable"
    both = client("GET", PODS, Accept="application/vnd.kubernetes.protobuf,application/json")
    assert both.status == 200


def test_pretty_is_indented(client: Client) -> None:
    assert client("GET", f"{PODS}?pretty=true").body.startswith(b'{\n  "kind": "PodList"')
    assert client("GET", PODS, User_Agent="curl/8").body.startswith(b"{\n")
    assert client("GET", PODS).body.startswith(b'{"kind"')


def test_a_large_answer_is_compressed_for_a_client_that_can_read_it(client: Client) -> None:
    path = "/openapi/v3/api/v1"
    plain = client("GET", path)
    small = client("GET", path, Accept_Encoding="gzip")
    assert "Content-Encoding" not in plain.headers
    assert small.headers["Content-Encoding"] == "gzip"
    assert gzip.decompress(small.body) == plain.body
    assert "Content-Encoding" not in client("GET", "/version", Accept_Encoding="gzip").headers


# -- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "status", "message"),
    [
        ("limit=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        (
            "resourceVersion=x",
            400,
            'invalid resource version: resourceVersion: Invalid value: "x": strconv.ParseUint: '
            'parsing "x": invalid syntax',
        ),
        (
            "resourceVersionMatch=Exact",
            422,
            'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
            "resourceVersionMatch is forbidden unless resourceVersion is provided",
        ),
        (
            "resourceVersion=1&resourceVersionMatch=Foo",
            422,
            'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Unsupported value: "Foo"'
            ': supported values: "Exact", "NotOlderThan", ""',
        ),
        (
            "resourceVersion=0&resourceVersionMatch=Exact",
            422,
            'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
            'resourceVersionMatch "exact" is forbidden for resourceVersion "0"',
        ),
        (
            "sendInitialEvents=true",
            422,
            'ListOptions.meta.k8s.io "" is invalid: sendInitialEvents: Forbidden: '
            "sendInitialEvents is forbidden for list",
        ),
        (
            "watch=true&sendInitialEvents=true",
            422,
            'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        ),
        (
            "watch=true&resourceVersionMatch=NotOlderThan",
            422,
            'ListOptions.meta.k8s.io "" is invalid: resourceVersionMatch: Forbidden: '
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        ),
        ("watch=true&timeoutSeconds=x", 400, 'strconv.ParseInt: parsing "x": invalid syntax'),
        ("labelSelector=%2C", 400, "found ',', expected: !, identifier, or 'end of string'"),
        ("fieldSelector=spec.nope%3Dx", 400, "field label not supported: spec.nope"),
    ],
)
def test_options_of_a_list_that_are_refused(
    client: Client, query: str, status: int, message: str
) -> None:
    answer = client("GET", f"{PODS}?{query}")
    assert (answer.status, answer.message) == (status, message)


def test_a_list_of_a_revision_to_come(client: Client) -> None:
    answer = client("GET", f"{PODS}?resourceVersion=99999999")
    assert answer.status == 504
    assert answer.message.startswith("Too large resource version: 99999999, current: ")
    assert answer.headers["Retry-After"] == "1"


def test_a_list_at_an_exact_revision_is_of_that_moment(client: Client) -> None:
    made = client("POST", CONFIGMAPS, configmap("exact", {"t": "exact"}, n="1")).json
    revision = made["metadata"]["resourceVersion"]
    client("PATCH", f"{CONFIGMAPS}/exact", {"data": {"n": "2"}}, MERGE)
    client("POST", CONFIGMAPS, configmap("exact-2", {"t": "exact"}))
    path = f"{CONFIGMAPS}?labelSelector=t%3Dexact&resourceVersion={revision}"
    then = client("GET", f"{path}&resourceVersionMatch=Exact").json
    assert then["metadata"]["resourceVersion"] == revision
    assert [(i["metadata"]["name"], i["data"]) for i in then["items"]] == [("exact", {"n": "1"})]
    now = client("GET", f"{path}&resourceVersionMatch=NotOlderThan").json
    assert [i["metadata"]["name"] for i in now["items"]] == ["exact", "exact-2"]


def test_limits_of_zero_and_below_are_no_limits(client: Client) -> None:
    for limit in ("0", "-1"):
        listed = client("GET", f"/api/v1/namespaces?limit={limit}").json
        assert len(listed["items"]) >= 4
        assert "continue" not in listed["metadata"]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("dryRun=x", 'dryRun: Unsupported value: ["x"]: supported values: "All"'),
        (
            "fieldValidation=x",
            'fieldValidation: Unsupported value: "x": supported values: "Ignore", "Strict", "Warn"',
        ),
        (f"fieldManager={'m' * 129}", "fieldManager: Too long: may not be more than 128 bytes"),
    ],
)
def test_options_of_a_write_that_are_refused(client: Client, query: str, message: str) -> None:
    answer = client("POST", f"{CONFIGMAPS}?{query}", configmap("never"))
    assert answer.status == 422
    assert answer.message == f'CreateOptions.meta.k8s.io "" is invalid: {message}'
    assert client("GET", f"{CONFIGMAPS}/never").status == 404


def test_options_of_a_deletion(client: Client) -> None:
    client("POST", CONFIGMAPS, configmap("doomed"))
    path = f"{CONFIGMAPS}/doomed"
    unknown = client("DELETE", path, {"propagationPolicy": "x"})
    assert unknown.status == 422
    assert unknown.message == (
        'DeleteOptions.meta.k8s.io "" is invalid: propagationPolicy: Unsupported value: "x": '
        'supported values: "Foreground", "Background", "Orphan", "nil"'
    )
    both = client("DELETE", path, {"propagationPolicy": "Orphan", "orphanDependents": True})
    assert "orphanDependents and deletionPropagation cannot be both set" in both.message
    assert client("DELETE", path, {"gracePeriodSeconds": "x"}).status == 400
    assert client("DELETE", path, {"preconditions": 5}).status == 400
    assert client("DELETE", path, {"preconditions": {"uid": "other"}}).status == 409
    assert client("DELETE", path, {"dryRun": ["All"]}).status == 200
    assert client("DELETE", f"{path}?dryRun=All").status == 200
    assert client("GET", path).status == 200
    assert client("DELETE", path).json["status"] == "Success"


def test_a_dry_run_stores_nothing_and_is_no_event(client: Client) -> None:
    before = client("GET", CONFIGMAPS).json["metadata"]["resourceVersion"]
    made = client("POST", f"{CONFIGMAPS}?dryRun=All", configmap("dry"))
    assert made.status == 201
    assert made.json["metadata"]["uid"]
    assert client("GET", f"{CONFIGMAPS}/dry").status == 404
    assert client("GET", CONFIGMAPS).json["metadata"]["resourceVersion"] == before


def test_an_unknown_field_is_warned_of_or_refused(client: Client) -> None:
    body = {**configmap("unknown"), "color": "red"}
    warned = client("POST", f"{CONFIGMAPS}?dryRun=All", body)
    assert warned.headers["Warning"] == '299 - "unknown field \\"color\\""'
    strict = client("POST", f"{CONFIGMAPS}?fieldValidation=Strict", body)
    assert strict.status == 400
    assert 'strict decoding error: unknown field "color"' in strict.message
    ignored = client("POST", f"{CONFIGMAPS}?dryRun=All&fieldValidation=Ignore", body)
    assert "Warning" not in ignored.headers


# -- replacing ------------------------------------------------------------------------------------


def test_replacing_what_is_not_there(client: Client) -> None:
    answer = client("PUT", f"{CONFIGMAPS}/missing", configmap("missing"))
    assert (answer.status, answer.message) == (404, 'configmaps "missing" not found')
    lease = {"metadata": {"name": "made"}, "spec": {"holderIdentity": "me"}}
    path = "/apis/coordination.k8s.io/v1/namespaces/default/leases/made"
    assert client("PUT", path, lease).status == 201, "AllowCreateOnUpdate"


def test_a_replacement_has_the_name_of_its_path(client: Client) -> None:
    client("POST", CONFIGMAPS, configmap("named"))
    path = f"{CONFIGMAPS}/named"
    assert client("PUT", path, configmap("other")).message == (
        "the name of the object (other) does not match the name on the URL (named)"
    )
    elsewhere = {"metadata": {"name": "named", "namespace": "kube-system"}}
    assert client("PUT", path, elsewhere).message == (
        "the namespace of the object (kube-system) does not match the namespace on the request "
        "(default)"
    )
    stale = {"metadata": {"name": "named", "resourceVersion": "1"}}
    assert client("PUT", path, stale).status == 409


TRAIN = {
    "apiVersion": "apiextensions.k8s.io/v1",
    "kind": "CustomResourceDefinition",
    "metadata": {"name": "trains.wire.example.com"},
    "spec": {
        "group": "wire.example.com",
        "scope": "Namespaced",
        "names": {"plural": "trains", "singular": "train", "kind": "Train"},
        "versions": [
            {
                "name": "v1",
                "served": True,
                "storage": True,
                "schema": {
                    "openAPIV3Schema": {
                        "type": "object",
                        "x-kubernetes-preserve-unknown-fields": True,
                    }
                },
            }
        ],
    },
}


def test_a_custom_object_is_replaced_only_with_its_version(client: Client) -> None:
    client("POST", CRDS, TRAIN)
    trains = "/apis/wire.example.com/v1/namespaces/default/trains"
    train = {"apiVersion": "wire.example.com/v1", "kind": "Train", "metadata": {"name": "t"}}
    deadline = time.monotonic() + 5
    while (made := client("POST", trains, train)).status == 404:
        assert time.monotonic() < deadline, made.body
    assert made.status == 201, made.body
    answer = client("PUT", f"{trains}/t", train)
    assert answer.status == 422
    assert answer.message == (
        'trains.wire.example.com "t" is invalid: metadata.resourceVersion: Invalid value: 0: '
        "must be specified for an update"
    )
    deep: dict[str, object] = {}
    for _ in range(100):
        deep = {"x": deep}
    nested = client("POST", trains, {**train, "metadata": {"name": "deep"}, "spec": deep})
    assert nested.status == 201, nested.body
    assert client("GET", f"{trains}/deep").json["spec"] == deep
    assert client("DELETE", f"{CRDS}/trains.wire.example.com").status == 200


# -- below an object ------------------------------------------------------------------------------


def test_the_scale_of_a_deployment(client: Client) -> None:
    deployments = "/apis/apps/v1/namespaces/default/deployments"
    template = {"metadata": {"labels": {"a": "scaled"}}, "spec": pod("x")["spec"]}
    spec = {"selector": {"matchLabels": {"a": "scaled"}}, "template": template}
    made = client("POST", deployments, {"metadata": {"name": "scaled"}, "spec": spec})
    assert made.status == 201, made.body
    path = f"{deployments}/scaled/scale"
    assert client("GET", path).json["spec"] == {"replicas": 1}
    assert client("PATCH", path, {"spec": {"replicas": 3}}, MERGE).json["spec"] == {"replicas": 3}
    assert client("GET", f"{deployments}/scaled").json["spec"]["replicas"] == 3
    assert client("PATCH", path, {"spec": {"replicas": -1}}, MERGE).status == 422
    assert client("PATCH", path, {"spec": {"replicas": "x"}}, MERGE).status == 400
    assert client("PUT", path, {"spec": 5}).status == 400
    stale = {"metadata": {"name": "scaled", "resourceVersion": "1"}, "spec": {"replicas": 1}}
    assert client("PUT", path, stale).status == 409
    client("DELETE", f"{deployments}/scaled", {"propagationPolicy": "Background"})


def test_binding_a_pod_by_hand(client: Client) -> None:
    client("POST", PODS, pod("bound", schedulerName="nobody"))
    target = {"apiVersion": "v1", "kind": "Node", "name": "somewhere"}
    body = {"metadata": {"name": "bound"}, "target": target}
    assert client("POST", f"{PODS}/bound/binding", {"target": 5}).status == 400
    assert client("POST", f"{PODS}/bound/binding", body).status == 201
    assert client("GET", f"{PODS}/bound").json["spec"]["nodeName"] == "somewhere"
    again = client("POST", f"{PODS}/bound/binding", body)
    assert again.status == 409
    assert again.message == (
        'Operation cannot be fulfilled on pods/binding "bound": pod bound is already assigned to '
        'node "somewhere"'
    )
    client("DELETE", f"{PODS}/bound?gracePeriodSeconds=0")


def test_an_eviction_that_a_budget_forbids(client: Client) -> None:
    client("POST", PODS, pod("guarded", schedulerName="nobody"))
    budgets = "/apis/policy/v1/namespaces/default/poddisruptionbudgets"
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"app": "guarded"}}}
    client("POST", budgets, {"metadata": {"name": "guard"}, "spec": budget})
    client("PATCH", f"{PODS}/guarded/status", READY, MERGE)
    body = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "guarded"}}
    refused = client("POST", f"{PODS}/guarded/eviction", body)
    assert refused.status == 429
    assert refused.message == ("Cannot evict pod as it would violate the pod's disruption budget.")
    assert refused.json["reason"] == "TooManyRequests"
    client("DELETE", f"{budgets}/guard")
    assert client("POST", f"{PODS}/guarded/eviction", {"metadata": 5}).status == 400
    assert client("POST", f"{PODS}/guarded/eviction", body).status == 201
    assert client("GET", f"{PODS}/guarded").status == 404


READY = {
    "status": {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]},
}


def test_what_has_no_network_says_so(client: Client) -> None:
    client("POST", PODS, pod("lonely", schedulerName="nobody"))
    answer = client("GET", f"{PODS}/lonely/portforward")
    assert answer.status == 501
    assert "this cluster is simulated and has no pod network" in answer.message
    assert client("GET", f"{PODS}/missing/portforward").status == 404
    client("DELETE", f"{PODS}/lonely")


def test_a_namespace_goes_when_its_finalizers_do(client: Client) -> None:
    client("POST", "/api/v1/namespaces", {"metadata": {"name": "held"}})
    path = "/api/v1/namespaces/held"
    held = {"metadata": {"name": "held", "finalizers": ["example.com/held"]}}
    client("PATCH", path, held, MERGE)
    assert client("PUT", f"{path}/finalize", {"spec": 5}).status == 400
    assert client("PUT", f"{path}/finalize", {"spec": {"finalizers": 5}}).status == 400
    kept = client("PUT", f"{path}/finalize", {"spec": {"finalizers": ["kubernetes"]}})
    assert kept.json["spec"] == {"finalizers": ["kubernetes"]}
    assert client("DELETE", path).json["status"]["phase"] == "Terminating"
    client("PATCH", path, {"metadata": {"finalizers": None}}, MERGE)
    deadline = time.monotonic() + 5
    while client("GET", path).status != 404:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_deleting_all_of_a_selection(client: Client) -> None:
    for name in ("all-1", "all-2", "all-3"):
        client("POST", CONFIGMAPS, configmap(name, {"t": "all" if name != "all-3" else "none"}))
    selected = f"{CONFIGMAPS}?labelSelector=t%3Dall"
    assert client("DELETE", selected, {"dryRun": ["All"]}).status == 200
    assert len(client("GET", selected).json["items"]) == 2
    gone = client("DELETE", selected)
    assert [item["metadata"]["name"] for item in gone.json["items"]] == ["all-1", "all-2"]
    assert client("GET", selected).json["items"] == []
    assert client("GET", f"{CONFIGMAPS}/all-3").status == 200


def test_the_default_service_account_comes_back(client: Client) -> None:
    path = "/api/v1/namespaces/default/serviceaccounts/default"
    before = client("GET", path).json["metadata"]["uid"]
    assert client("DELETE", path).status == 200
    deadline = time.monotonic() + 5
    while (answer := client("GET", path)).status == 404:
        assert time.monotonic() < deadline
    assert answer.json["metadata"]["uid"] != before


def test_a_continue_token_of_another_making(client: Client) -> None:
    for token in ("x", base64.b64encode(b"\x81").decode(), base64.b64encode(b"{}").decode()):
        answer = client("GET", f"{PODS}?limit=1&continue={token}")
        assert answer.status == 400
        assert answer.message.startswith("invalid continue token: continue key is not valid: ")
    huge = base64.b64encode(json.dumps({"rv": 10**30, "start": -5}).encode()).decode().rstrip("=")
    assert client("GET", f"{PODS}?limit=1&continue={huge}").status in (400, 410)
