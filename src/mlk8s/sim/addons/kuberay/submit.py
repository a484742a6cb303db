"""The Job that submits the command of a RayJob to its cluster, and follows its log.

Sources at v1.7.0: ``BuildJobSubmitCommand`` in ``ray-operator/controllers/ray/common/job.go``,
``getSubmitterTemplate`` and ``createNewK8sJob`` in ``rayjob_controller.go``.
"""

from __future__ import annotations

import copy
import json
from typing import Any

import yaml

from mlk8s.sim.addons.kuberay import names, pods
from mlk8s.sim.controllers.base import owner_reference
from mlk8s.sim.decoding import read
from mlk8s.sim.status import Object

_HEALTHY = (
    'python -c "import urllib.request; '
    "r=urllib.request.urlopen('{url}/api/gcs_healthz', timeout=10); "
    "exit(0 if b'success' in r.read() else 1)\""
)
_RESOURCES = {
    "limits": {"cpu": "1", "memory": "1Gi"},
    "requests": {"cpu": "500m", "memory": "200Mi"},
}


def runtime_environment(spec: Object) -> str:
    """The runtime environment of a RayJob as JSON; empty where it has none."""
    text = spec.get("runtimeEnvYAML")
    return json.dumps(yaml.safe_load(text), separators=(",", ":")) if text else ""


def command(spec: Object, status: Object) -> str:
    """The shell command that submits a job unless it has been submitted, and prints its log.

    Args:
        spec: of the RayJob.
        status: of the RayJob, with the job's id and the dashboard's address.
    """
    url, job = f"http://{status['dashboardURL']}", status["jobId"]
    wait = json.dumps(f"Waiting for Ray Dashboard GCS to become healthy at {url} ...")
    words = [
        f"until {_HEALTHY.format(url=url)} >/dev/null 2>&1 ; do echo {wait} ; sleep 2 ; done ;",
        f"if ! ray job status --address {url} {job} >/dev/null 2>&1 ; then",
        f"ray job submit --address {url} --no-wait",
    ]
    if environment := runtime_environment(spec):
        words.append(f"--runtime-env-json {json.dumps(environment)}")
    if metadata := spec.get("metadata"):
        told = json.dumps(metadata, sort_keys=True, separators=(",", ":"))
        words.append(f"--metadata-json {json.dumps(told)}")
    words.append(f"--submission-id {job}")
    for field, flag in (("entrypointNumCpus", "cpus"), ("entrypointNumGpus", "gpus")):
        if spec.get(field):
            words.append(f"--entrypoint-num-{flag} {spec[field]:f}")
    if resources := spec.get("entrypointResources"):
        words.append(f"--entrypoint-resources {json.dumps(resources)}")
    words.append(f"-- {spec.get('entrypoint', '').strip()} ; fi ;")
    words.append(f"ray job logs --address {url} --follow {job}")
    return " ".join(words)


def submitter(job: Object, cluster: Object) -> Object:
    """The Job; it carries the name of the RayJob.

    Args:
        job: the RayJob, with its status.
        cluster: its RayCluster.
    """
    spec, status, metadata = job["spec"], job["status"], job["metadata"]
    head = cluster["spec"]["headGroupSpec"]["template"]["spec"]["containers"][0]
    usual: Object = {
        "spec": {
            "containers": [
                {
                    "name": names.SUBMITTER,
                    "image": head.get("image", ""),
                    "resources": copy.deepcopy(_RESOURCES),
                }
            ],
            "restartPolicy": "Never",
        }
    }
    template = read(pods.TEMPLATE, copy.deepcopy(spec.get("submitterPodTemplate") or usual))
    container: Any = template["spec"]["containers"][0]
    if not container.get("command"):
        container["command"] = ["/bin/bash", "-ce", "--"]
        container["args"] = [command(spec, status)]
    container.setdefault("env", []).extend(
        {"name": name, "value": text}
        for name, text in (
            ("PYTHONUNBUFFERED", "1"),
            ("RAY_DASHBOARD_ADDRESS", status["dashboardURL"]),
            ("RAY_JOB_SUBMISSION_ID", status["jobId"]),
        )
    )
    if secret := names.secret_of(cluster["metadata"]["name"], cluster["spec"]):
        pods.set_token(container, secret)
    labels = {
        names.ORIGIN_NAME: metadata["name"],
        names.ORIGIN_KIND: names.JOB_KIND,
        names.CREATED_BY: names.COMPONENT,
    }
    told = template.setdefault("metadata", {})
    told["labels"] = {**(told.get("labels") or {}), **labels}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "labels": labels,
            "ownerReferences": [owner_reference(job)],
        },
        "spec": {
            "backoffLimit": (spec.get("submitterConfig") or {}).get("backoffLimit", 2),
            "template": template,
        },
    }
