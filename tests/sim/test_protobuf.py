"""Bodies that kubectl 1.32 sent, as they came over the wire."""

from __future__ import annotations

import base64

import pytest

from mlk8s.sim import protobuf
from mlk8s.sim.status import Object, StatusError

# kubectl create deploy web --image=nginx --replicas=0 --port=80
DEPLOYMENT = (
    "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50ErgBCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBID"
    "d2ViEoYBCAASDAoKCgNhcHASA3dlYhpsChwKABIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEkwSLgoF"
    "bmdpbngSBW5naW54KgAyCgoAEAAYUCIAKgBCAGoAcgCAAQCIAQCQAQCiAQAaADIAQgBKAFIAWABgAGgA"
    "ggEAigEAmgEAwgEAIgIKACgAOAAaDAgAEAAYACAAKAA4ABoAIgA="
)

# kubectl create secret generic s1 --from-literal=a=b
SECRET = "azhzAAoMCgJ2MRIGU2VjcmV0Eh4KEgoCczESABoAIgAqADIAOABCABIGCgFhEgFiGgAaACIA"

# kubectl create quota q --hard=requests.nvidia.com/gpu=1,pods=3
QUOTA = (
    "azhzAAoTCgJ2MRINUmVzb3VyY2VRdW90YRJEChEKAXESABoAIgAqADIAOABCABItCgsKBHBvZHMSAwoB"
    "MwoeChdyZXF1ZXN0cy5udmlkaWEuY29tL2dwdRIDCgExGgAaACIA"
)

# kubectl create ingress i --rule=foo.com/bar=svc1:8080
INGRESS = (
    "azhzAAofChRuZXR3b3JraW5nLms4cy5pby92MRIHSW5ncmVzcxJIChEKAWkSABoAIgAqADIAOABCABIv"
    "Gi0KB2Zvby5jb20SIgogCh4KBC9iYXISDyINCgRzdmMxEgUKABCQPxoFRXhhY3QaAgoAGgAiAA=="
)

# kubectl create pdb p --selector=a=b --min-available=50%
BUDGET = (
    "azhzAAogCglwb2xpY3kvdjESE1BvZERpc3J1cHRpb25CdWRnZXQSNgoRCgFwEgAaACIAKgAyADgAQgAS"
    "FQoJCAEQABoDNTAlEggKBgoBYRIBYhoKCAAYACAAKAAwABoAIgA="
)


def decode(body: str) -> Object:
    return protobuf.decode(base64.b64decode(body))


def test_a_deployment_keeps_a_zero_behind_a_pointer() -> None:
    assert decode(DEPLOYMENT) == {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "labels": {"app": "web"}},
        "spec": {
            "replicas": 0,
            "selector": {"matchLabels": {"app": "web"}},
            "strategy": {},
            "template": {
                "metadata": {"labels": {"app": "web"}},
                "spec": {
                    "containers": [
                        {
                            "name": "nginx",
                            "image": "nginx",
                            "ports": [{"containerPort": 80}],
                            "resources": {},
                        }
                    ]
                },
            },
        },
        "status": {},
    }


def test_bytes_become_base64() -> None:
    assert decode(SECRET)["data"] == {"a": base64.b64encode(b"b").decode()}


def test_quantities_and_texts_or_numbers_have_their_json_form() -> None:
    assert decode(QUOTA)["spec"]["hard"] == {"pods": "3", "requests.nvidia.com/gpu": "1"}
    assert decode(BUDGET)["spec"]["minAvailable"] == "50%"


def test_types_that_stand_inside_another_are_found_there() -> None:
    (rule,) = decode(INGRESS)["spec"]["rules"]
    assert rule["http"]["paths"][0]["backend"] == {
        "service": {"name": "svc1", "port": {"number": 8080}}
    }


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "expected prefix [107 56 115 0]"),
        (b"{}", "does not appear to be a protobuf message"),
        (b"k8s\0\xff\xff", "cannot decode"),
        # runtime.Unknown with TypeMeta{apiVersion: "v1", kind: "Foo"}
        (b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Foo", 'no kind "Foo" is registered'),
        (b"k8s\0\x0a\x09\x0a\x02v1\x12\x03Pod\x12\x02\x0a\x05", "cannot decode"),
    ],
)
def test_what_is_no_protobuf_of_kubernetes_is_refused(body: bytes, message: str) -> None:
    with pytest.raises(StatusError, match=message.replace("[", r"\[")) as caught:
        protobuf.decode(body)
    assert caught.value.code == 400


def test_a_time_and_delete_options() -> None:
    # Event{metadata: {creationTimestamp: {seconds: 1}}}, message by message.
    meta = b"\x42\x02\x08\x01"
    event = b"\x0a" + bytes([len(meta)]) + meta
    body = b"k8s\0\x0a\x0b\x0a\x02v1\x12\x05Event\x12" + bytes([len(event)]) + event
    assert protobuf.decode(body)["metadata"] == {"creationTimestamp": "1970-01-01T00:00:01Z"}
    options = b"\x08\x00\x22\x0aForeground"
    body = b"k8s\0\x0a\x13\x0a\x02v1\x12\x0dDeleteOptions\x12" + bytes([len(options)]) + options
    decoded = protobuf.decode(body)
    assert decoded["gracePeriodSeconds"] == 0
    assert decoded["propagationPolicy"] == "Foreground"
