"""What the server refuses as invalid, in its own words (Kubernetes 1.36.2)."""

import copy
import random
from typing import Any

import pytest

from mlk8s.sim.api import Api
from mlk8s.sim.clock import ManualClock
from mlk8s.sim.status import StatusError


@pytest.fixture
def api() -> Api:
    api = Api(ManualClock(1_790_000_000), random.Random(0))
    named = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "default"}}
    api.create("namespaces", named)
    return api


def create(api: Api, key: str, body: Any) -> Any:
    resource = api.registry.of_key(key)
    body = {"apiVersion": resource.api_version, "kind": resource.kind, **copy.deepcopy(body)}
    return api.create(resource, body, "default" if resource.namespaced else "")


def refusal(act: Any, *arguments: Any) -> Any:
    with pytest.raises(StatusError) as caught:
        act(*arguments)
    return caught.value.code, caught.value.message


def pod(**spec: Any) -> Any:
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "x"}], **spec},
    }


def with_resources(**resources: Any) -> Any:
    return pod(containers=[{"name": "c", "image": "x", "resources": resources}])


SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or "
    "'.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used "
    "for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (pod(containers=[]), "spec.containers: Required value"),
        (pod(containers=[{"name": "c"}]), "spec.containers[0].image: Required value"),
        (
            pod(restartPolicy="Maybe"),
            'spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", '
            '"OnFailure", "Never"',
        ),
        (
            with_resources(limits={"nvidia.com/gpu": "500m"}),
            '[spec.containers[0].resources.limits[nvidia.com/gpu]: Invalid value: "500m": must '
            "be an integer, spec.containers[0].resources.requests[nvidia.com/gpu]: Invalid "
            'value: "500m": must be an integer]',
        ),
        (
            with_resources(limits={"nvidia.com/gpu": "2"}, requests={"nvidia.com/gpu": "1"}),
            'spec.containers[0].resources.requests: Invalid value: "1": must be equal to '
            "nvidia.com/gpu limit of 2",
        ),
        (
            with_resources(requests={"nvidia.com/gpu": "1"}),
            "spec.containers[0].resources.limits: Required value: Limit must be set for non "
            "overcommitable resources",
        ),
        (
            with_resources(limits={"cpu": "1"}, requests={"cpu": "2"}),
            'spec.containers[0].resources.requests: Invalid value: "2": must be less than or '
            "equal to cpu limit of 1",
        ),
        (
            with_resources(limits={"gpu": "1"}),
            '[spec.containers[0].resources.limits[gpu]: Invalid value: "gpu": must be a standard '
            "resource type or fully qualified, spec.containers[0].resources.limits[gpu]: Invalid "
            'value: "gpu": must be a standard resource for containers, '
            'spec.containers[0].resources.requests[gpu]: Invalid value: "gpu": must be a standard '
            "resource type or fully qualified, spec.containers[0].resources.requests[gpu]: "
            'Invalid value: "gpu": must be a standard resource for containers]',
        ),
        (
            pod(
                containers=[
                    {
                        "name": "c",
                        "image": "x",
                        "volumeMounts": [{"name": "v", "mountPath": "/v"}],
                    }
                ]
            ),
            'spec.containers[0].volumeMounts[0].name: Not found: "v"',
        ),
        (
            pod(containers=[{"name": "c", "image": "x"}] * 2),
            'spec.containers[1].name: Duplicate value: "c"',
        ),
        (
            pod(tolerations=[{"key": "a", "operator": "Exists", "value": "b"}]),
            'spec.tolerations[0].operator: Invalid value: "b": value must be empty when '
            "`operator` is 'Exists'",
        ),
        (
            pod(tolerations=[{"key": "a", "operator": "Exists", "effect": "Never"}]),
            'spec.tolerations[0].effect: Unsupported value: "Never": supported values: '
            '"NoSchedule", "PreferNoSchedule", "NoExecute"',
        ),
        (
            with_resources(claims=[{"name": "gpu"}]),
            'spec.containers[0].resources.claims[0]: Not found: "gpu": must be one of the names '
            "in pod.spec.resourceClaims which is empty",
        ),
        (
            pod(resourceClaims=[{"name": "gpu"}]),
            'spec.resourceClaims[0]: Invalid value: {"Name":"gpu","ResourceClaimName":null,'
            '"ResourceClaimTemplateName":null}: must specify one of: `resourceClaimName`, '
            "`resourceClaimTemplateName`",
        ),
        (
            pod(activeDeadlineSeconds=0),
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, "
            "inclusive",
        ),
        (
            pod(
                topologySpreadConstraints=[
                    {"maxSkew": 0, "topologyKey": "", "whenUnsatisfiable": "No"}
                ]
            ),
            "[spec.topologySpreadConstraints[0].maxSkew: Invalid value: 0: must be greater than "
            "zero, spec.topologySpreadConstraints[0].topologyKey: Required value: can not be "
            "empty, spec.topologySpreadConstraints[0].whenUnsatisfiable: Unsupported value: "
            '"No": supported values: "DoNotSchedule", "ScheduleAnyway"]',
        ),
        (
            {**pod(), "metadata": {"name": "Bad_Name"}},
            f'metadata.name: Invalid value: "Bad_Name": {SUBDOMAIN}',
        ),
    ],
)
def test_pod(api, body, errors):
    name = body["metadata"]["name"]
    assert refusal(create, api, "pods", body) == (422, f'Pod "{name}" is invalid: {errors}')


UPDATE = (
    "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`,"
    "`spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only "
    "additions to existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set "
    "to 1 if it was previously negative)\n"
)


def change(api: Api, mutate: Any, key: str = "pods", name: str = "p") -> Any:
    return api.change(key, "default", name, mutate)


def test_pod_update_shows_the_server_side_difference(api):
    create(
        api,
        "pods",
        with_resources(limits={"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "1"}),
    )

    def more(found):
        found["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] = "2"

    assert refusal(change, api, more) == (
        422,
        'Pod "p" is invalid: [spec.containers[0].resources.requests: Invalid value: "1": must be '
        f"equal to nvidia.com/gpu limit of 2, {UPDATE}"
        "@@ -15,7 +15,7 @@\n"
        '     "Limits": {\n'
        '      "cpu": "500m",\n'
        '      "memory": "1Gi",\n'
        '-     "nvidia.com/gpu": "1"\n'
        '+     "nvidia.com/gpu": "2"\n'
        "     },\n"
        '     "Requests": {\n'
        '      "cpu": "500m",\n'
        "]",
    )


def test_what_a_pod_update_may_change(api):
    create(api, "pods", pod())

    def allowed(found):
        found["spec"]["containers"][0]["image"] = "y"
        found["spec"]["activeDeadlineSeconds"] = 60
        found["spec"]["tolerations"].append({"key": "a", "operator": "Exists"})

    changed = change(api, allowed)
    assert changed["spec"]["containers"][0]["image"] == "y"

    def later(found):
        found["spec"]["activeDeadlineSeconds"] = 90

    assert refusal(change, api, later)[1] == (
        'Pod "p" is invalid: spec.activeDeadlineSeconds: Invalid value: 90: must be less than or '
        "equal to previous value"
    )

    def fewer(found):
        found["spec"]["tolerations"] = found["spec"]["tolerations"][:2]

    assert refusal(change, api, fewer)[1] == (
        'Pod "p" is invalid: spec.tolerations: Forbidden: existing toleration can not be modified '
        "except its tolerationSeconds"
    )


def test_gates_may_go_and_selectors_grow_while_they_hold(api):
    create(api, "pods", pod(schedulingGates=[{"name": "a/b"}], nodeSelector={"a": "1"}))

    def narrow(found):
        found["spec"]["nodeSelector"]["b"] = "2"

    assert change(api, narrow)["spec"]["nodeSelector"] == {"a": "1", "b": "2"}

    def widen(found):
        found["spec"]["nodeSelector"] = {}

    assert refusal(change, api, widen)[1].endswith(
        "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
    )

    def release(found):
        del found["spec"]["schedulingGates"]

    assert "schedulingGates" not in change(api, release)["spec"]
    assert refusal(change, api, lambda found: found["spec"]["nodeSelector"].update(c="3"))[
        1
    ].startswith(f'Pod "p" is invalid: {UPDATE}@@ ')


TEMPLATE: Any = {
    "metadata": {"labels": {"d": "d"}},
    "spec": {"containers": [{"name": "c", "image": "x"}]},
}


def test_deployment_selector(api):
    body: Any = {
        "metadata": {"name": "d"},
        "spec": {"selector": {"matchLabels": {"z": "z"}}, "template": TEMPLATE},
    }
    assert refusal(create, api, "deployments.apps", body) == (
        422,
        'Deployment.apps "d" is invalid: spec.template.metadata.labels: Invalid value: '
        '{"d":"d"}: `selector` does not match template `labels`',
    )
    body["spec"]["selector"] = {"matchLabels": {"d": "d"}}
    create(api, "deployments.apps", body)

    def other(found):
        labels = {"d": "d", "e": "e"}
        found["spec"]["selector"]["matchLabels"] = labels
        found["spec"]["template"]["metadata"]["labels"] = labels

    assert refusal(change, api, other, "deployments.apps", "d")[1] == (
        'Deployment.apps "d" is invalid: spec.selector: Invalid value: '
        '{"matchLabels":{"d":"d","e":"e"}}: field is immutable'
    )


def test_stateful_set_keeps_its_selector(api):
    body = {
        "metadata": {"name": "s"},
        "spec": {"selector": {"matchLabels": {"d": "d"}}, "template": TEMPLATE},
    }
    create(api, "statefulsets.apps", body)

    def rename(found):
        found["spec"]["serviceName"] = "other"

    assert refusal(change, api, rename, "statefulsets.apps", "s")[1] == (
        'StatefulSet.apps "s" is invalid: spec: Forbidden: updates to statefulset spec for '
        "fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', "
        "'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' "
        "are forbidden"
    )


def job(restart: str = "Never", **spec: Any) -> Any:
    template = copy.deepcopy(TEMPLATE)
    template["spec"]["restartPolicy"] = restart
    return {"metadata": {"name": "j"}, "spec": {"template": template, **spec}}


@pytest.mark.parametrize(
    ("body", "errors"),
    [
        (
            job("Always"),
            'spec.template.spec.restartPolicy: Required value: valid values: "OnFailure", "Never"',
        ),
        (
            job(completionMode="Indexed"),
            None,
        ),
        (
            job(parallelism=-1),
            "spec.parallelism: Invalid value: -1: must be greater than or equal to 0",
        ),
        (
            job(completionMode="Indexed", parallelism=2),
            "spec.completions: Required value: when completion mode is Indexed",
        ),
        (
            job(maxFailedIndexes=1),
            "[spec.maxFailedIndexes: Invalid value: 1: requires indexed completion mode, "
            "spec.backoffLimitPerIndex: Required value: when maxFailedIndexes is specified]",
        ),
    ],
)
def test_job(api, body, errors):
    if errors is None:
        assert create(api, "jobs.batch", body)["spec"]["completions"] == 1
        return
    assert refusal(create, api, "jobs.batch", body)[1] == f'Job.batch "j" is invalid: {errors}'


def test_job_template_is_immutable(api):
    create(api, "jobs.batch", job())

    def other(found):
        found["spec"]["template"]["spec"]["containers"][0]["image"] = "y"

    message = refusal(change, api, other, "jobs.batch", "j")[1]
    assert message.startswith('Job.batch "j" is invalid: spec.template: Invalid value: {"labels":{')
    assert '"Spec":{"Volumes":null,"InitContainers":null,"Containers":[{"Name":"c",' in message
    assert message.endswith(": field is immutable")


def test_suspended_job_may_move(api):
    create(api, "jobs.batch", job(suspend=True))

    def place(found):
        found["spec"]["template"]["spec"]["nodeSelector"] = {"gpu": "yes"}

    changed = change(api, place, "jobs.batch", "j")
    assert changed["spec"]["template"]["spec"]["nodeSelector"] == {"gpu": "yes"}


@pytest.mark.parametrize(
    ("schedule", "error"),
    [
        ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
        ("60 * * * *", "end of range (60) above maximum (59): 60"),
        (
            "a * * * *",
            'failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax',
        ),
        ("*/0 * * * *", "step of range should be a positive number: */0"),
        ("@sometimes", "unrecognized descriptor: @sometimes"),
        ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
    ],
)
def test_cron_schedule(api, schedule, error):
    body = {
        "metadata": {"name": "c"},
        "spec": {"schedule": schedule, "jobTemplate": {"spec": job()["spec"]}},
    }
    assert refusal(create, api, "cronjobs.batch", body)[1] == (
        f'CronJob.batch "c" is invalid: spec.schedule: Invalid value: "{schedule}": {error}'
    )


def test_good_cron_schedules(api):
    for index, schedule in enumerate(["*/5 0-6 1,15 jan-mar mon", "@hourly", "@every 1h30m"]):
        body = {
            "metadata": {"name": f"c{index}"},
            "spec": {"schedule": schedule, "jobTemplate": {"spec": job()["spec"]}},
        }
        create(api, "cronjobs.batch", body)


def test_config_map(api):
    key = (
        "a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. "
        "'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is "
        "'[-._a-zA-Z0-9]+')"
    )
    body = {"metadata": {"name": "cm2"}, "data": {"a b": "1"}}
    assert refusal(create, api, "configmaps", body) == (
        422,
        f'ConfigMap "cm2" is invalid: data[a b]: Invalid value: "a b": {key}',
    )
    big = {"metadata": {"name": "big"}, "data": {"a": "x" * (1024 * 1024 + 1)}}
    assert refusal(create, api, "configmaps", big)[1] == (
        'ConfigMap "big" is invalid: []: Too long: may not be more than 1048576 bytes'
    )
    create(api, "configmaps", {"metadata": {"name": "p"}, "data": {"a": "1"}, "immutable": True})

    def other(found):
        found["data"] = {"a": "2"}

    assert refusal(change, api, other, "configmaps")[1] == (
        'ConfigMap "p" is invalid: data: Forbidden: field is immutable when `immutable` is set'
    )


@pytest.mark.parametrize(
    ("key", "kind", "body", "errors"),
    [
        (
            "resourcequotas",
            "ResourceQuota",
            {"spec": {"hard": {"gpus": "1"}}},
            '[spec.hard[gpus]: Invalid value: "gpus": must be a standard resource type or fully '
            'qualified, spec.hard[gpus]: Invalid value: "gpus": must be a standard resource for '
            "quota]",
        ),
        (
            "priorityclasses.scheduling.k8s.io",
            "PriorityClass.scheduling.k8s.io",
            {"value": 2_000_000_000},
            "value: Forbidden: maximum allowed value of a user defined priority is 1000000000",
        ),
        (
            "limitranges",
            "LimitRange",
            {"spec": {"limits": [{"type": "Container", "min": {"cpu": "2"}, "max": {"cpu": "1"}}]}},
            '[spec.limits[0].min[cpu]: Invalid value: "2": min value 2 is greater than max value '
            '1, spec.limits[0].defaultRequest[cpu]: Invalid value: "1": min value 2 is greater '
            'than default request value 1, spec.limits[0].default[cpu]: Invalid value: "2": min '
            "value 2 is greater than default value 1]",
        ),
        (
            "poddisruptionbudgets.policy",
            "PodDisruptionBudget.policy",
            {"spec": {"minAvailable": 1, "maxUnavailable": 1}},
            'spec: Invalid value: {"MinAvailable":1,"Selector":null,"MaxUnavailable":1,'
            '"UnhealthyPodEvictionPolicy":null}: minAvailable and maxUnavailable cannot be both '
            "set",
        ),
        (
            "services",
            "Service",
            {"spec": {"selector": {"a": "b"}}},
            "spec.ports: Required value",
        ),
        (
            "runtimeclasses.node.k8s.io",
            "RuntimeClass.node.k8s.io",
            {},
            "handler: Required value",
        ),
        (
            "persistentvolumeclaims",
            "PersistentVolumeClaim",
            {"spec": {"resources": {"requests": {"storage": "1Gi"}}}},
            "spec.accessModes: Required value: at least 1 access mode is required",
        ),
    ],
)
def test_other_kinds(api, key, kind, body, errors):
    body = {"metadata": {"name": "x"}, **body}
    assert refusal(create, api, key, body) == (422, f'{kind} "x" is invalid: {errors}')


def test_metadata(api):
    body = {
        "metadata": {
            "name": "x",
            "labels": {"a b": "c"},
            "finalizers": ["mine"],
            "annotations": {"a": "x" * (256 * 1024)},
        }
    }
    message = refusal(create, api, "configmaps", body)[1]
    assert 'metadata.labels: Invalid value: "a b": name part must consist of' in message
    assert "metadata.annotations: Too long: may not be more than 262144 bytes" in message
    assert (
        'metadata.finalizers[0]: Invalid value: "mine": name is neither a standard finalizer '
        "name nor is it fully qualified" in message
    )


def test_priority_of_a_class_is_fixed(api):
    key = "priorityclasses.scheduling.k8s.io"
    create(api, key, {"metadata": {"name": "hi"}, "value": 5})

    def raise_it(found):
        found["value"] = 6

    with pytest.raises(StatusError) as caught:
        api.change(key, "", "hi", raise_it)
    assert caught.value.message == (
        'PriorityClass.scheduling.k8s.io "hi" is invalid: value: Forbidden: may not be changed '
        "in an update."
    )
