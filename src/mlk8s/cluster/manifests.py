"""GPU pods and jobs from typed arguments, shown as the YAML that kubectl would take."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from mlk8s.cluster.connection import MANAGED
from mlk8s.errors import UsageError

#: What an administrator taints GPU nodes with, by NVIDIA's convention; harmless where none is.
GPU_TOLERATION = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}


class Manifest(Mapping[str, Any]):
    """An object to be created; reads as a mapping, shows itself as YAML.

    Args:
        body: the object.
    """

    def __init__(self, body: Mapping[str, Any]) -> None:
        self._body = dict(body)

    @classmethod
    def load(cls, path: Path | str) -> Manifest:
        """The one object of a YAML or JSON file.

        Raises:
            UsageError: the file is missing, is not YAML, or holds not exactly one object.
        """
        found = cls.load_all(path)
        if len(found) != 1:
            raise UsageError(
                f"{path} holds {len(found)} objects.", "give a file with exactly one pod or job."
            )
        return found[0]

    @classmethod
    def load_all(cls, path: Path | str) -> list[Manifest]:
        """The objects of a YAML or JSON file, in their order.

        Raises:
            UsageError: the file is missing, is not YAML, or holds something that is no object.
        """
        try:
            found = [doc for doc in yaml.safe_load_all(Path(path).read_text()) if doc]
        except OSError as error:
            raise UsageError(
                f"{path} cannot be read ({error.strerror}).", "check the path."
            ) from error
        except yaml.YAMLError as error:
            raise UsageError(
                f"{path} is not YAML: {error}.", "correct the place that the message names."
            ) from error
        for each in found:
            if not isinstance(each, dict):
                raise UsageError(
                    f"{path} holds something that is no object: {str(each)[:60]!r}.",
                    "give a file of Kubernetes manifests.",
                )
        return [cls(each) for each in found]

    @property
    def kind(self) -> str:
        """``Pod``, ``Job``."""
        return str(self._body.get("kind", ""))

    @property
    def name(self) -> str:
        """The object's name, or the beginning of a generated one."""
        metadata = self._body.get("metadata") or {}
        return str(metadata.get("name") or metadata.get("generateName", ""))

    def yaml(self) -> str:
        """The YAML text."""
        return yaml.safe_dump(self._body, sort_keys=False, default_flow_style=False)

    def write(self, path: Path | str) -> Path:
        """Write the YAML to a file, for ``kubectl apply -f``."""
        Path(path).write_text(self.yaml())
        return Path(path)

    def __getitem__(self, key: str) -> Any:
        return self._body[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._body)

    def __len__(self) -> int:
        return len(self._body)

    def __repr__(self) -> str:
        return self.yaml().rstrip()

    def _repr_html_(self) -> str:
        return f'<div class="highlight"><pre>{html.escape(self.yaml().rstrip())}</pre></div>'


def gpu_pod(
    name: str,
    image: str,
    command: Sequence[str] = (),
    *,
    gpus: int = 1,
    resource: str = "nvidia.com/gpu",
    claim_template: str | Manifest | None = None,
    product: str | None = None,
    node_selector: Mapping[str, str] | None = None,
    cpu: str | None = None,
    memory: str | None = None,
    env: Mapping[str, str] | None = None,
    runtime_class: str | None = "nvidia",
    tolerate_gpu_taint: bool = True,
    priority_class: str | None = None,
    deadline_s: int | None = None,
) -> Manifest:
    """A pod with one container that asks for GPUs.

    Args:
        name: of the pod.
        image: of its container, ``main``.
        command: what it runs; the image's own entry point when empty.
        gpus: how many of ``resource``; 0 asks for none.
        resource: ``nvidia.com/gpu``, ``nvidia.com/gpu.shared``, ``nvidia.com/mig-1g.10gb``, …
        claim_template: a ResourceClaimTemplate, or its name, to take the device from (DRA), instead
            of ``gpus`` of ``resource``.
        product: value of the node label ``nvidia.com/gpu.product``.
        node_selector: more labels that the node must have.
        cpu: request and limit, such as ``500m``.
        memory: request and limit, such as ``1Gi``.
        env: environment variables.
        runtime_class: ``nvidia`` on MicroK8s 1.36, where it is no longer the default runtime, and
            harmless before; ``None`` leaves it out.
        tolerate_gpu_taint: run on nodes tainted ``nvidia.com/gpu:NoSchedule`` too.
        priority_class: a PriorityClass.
        deadline_s: the longest time the pod may run, seconds.

    Raises:
        UsageError: an argument has a value that Kubernetes would refuse.
    """
    _check_name(name)
    _check_count("gpus", gpus, 0)
    if gpus and "/" not in resource:
        raise UsageError(
            f"{resource!r} is not the name of a device resource.",
            "give it with its vendor, such as nvidia.com/gpu.",
        )
    if isinstance(command, str):
        raise UsageError(
            "The command is one string.",
            f'give a list of words, such as ["sh", "-c", {command!r}].',
        )
    limits: dict[str, Any] = {}
    if cpu:
        limits["cpu"] = cpu
    if memory:
        limits["memory"] = memory
    if gpus and claim_template is None:
        # A request is not written: for an extended resource it always equals the limit.
        limits[resource] = str(gpus)
    container: dict[str, Any] = {"name": "main", "image": image}
    if command:
        container["command"] = list(command)
    if env:
        container["env"] = [{"name": key, "value": value} for key, value in env.items()]
    resources: dict[str, Any] = {"limits": limits} if limits else {}
    if claim_template is not None:
        resources["claims"] = [{"name": "gpu"}]
    if resources:
        container["resources"] = resources
    spec: dict[str, Any] = {"restartPolicy": "Never"}
    if runtime_class and (gpus or claim_template):
        spec["runtimeClassName"] = runtime_class
    if priority_class:
        spec["priorityClassName"] = priority_class
    if deadline_s is not None:
        spec["activeDeadlineSeconds"] = deadline_s
    selector = dict(node_selector or {})
    if product:
        selector["nvidia.com/gpu.product"] = product
    if selector:
        spec["nodeSelector"] = selector
    if tolerate_gpu_taint and (gpus or claim_template):
        spec["tolerations"] = [GPU_TOLERATION]
    if claim_template is not None:
        template = claim_template if isinstance(claim_template, str) else claim_template.name
        spec["resourceClaims"] = [{"name": "gpu", "resourceClaimTemplateName": template}]
    spec["containers"] = [container]
    return Manifest(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": name, "labels": dict(MANAGED)},
            "spec": spec,
        }
    )


def gpu_job(
    name: str,
    image: str,
    command: Sequence[str] = (),
    *,
    completions: int = 1,
    parallelism: int | None = None,
    retries: int = 0,
    deadline_s: int | None = None,
    keep_s: int | None = None,
    **pod: Any,
) -> Manifest:
    """A Job whose pods are those of :func:`gpu_pod`.

    Args:
        name: of the Job.
        image: see :func:`gpu_pod`.
        command: see :func:`gpu_pod`.
        completions: how many pods have to succeed.
        parallelism: how many run at a time; all when not given.
        retries: how often failed pods are replaced (``backoffLimit``).
        deadline_s: the longest time the Job may take, seconds.
        keep_s: seconds after which the finished Job is removed.
        **pod: the other arguments of :func:`gpu_pod`.

    Raises:
        UsageError: an argument has a value that Kubernetes would refuse.
    """
    _check_count("completions", completions, 1)
    _check_count("retries", retries, 0)
    if parallelism is not None:
        _check_count("parallelism", parallelism, 1)
    template = gpu_pod(name, image, command, **pod)
    spec: dict[str, Any] = {
        "completions": completions,
        "parallelism": completions if parallelism is None else parallelism,
        "backoffLimit": retries,
    }
    if deadline_s is not None:
        spec["activeDeadlineSeconds"] = deadline_s
    if keep_s is not None:
        spec["ttlSecondsAfterFinished"] = keep_s
    spec["template"] = {"metadata": {"labels": dict(MANAGED)}, "spec": template["spec"]}
    return Manifest(
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name, "labels": dict(MANAGED)},
            "spec": spec,
        }
    )


def gpu_claim_template(
    name: str,
    device_class: str = "gpu.nvidia.com",
    selectors: Sequence[str] = (),
    count: int = 1,
) -> Manifest:
    """A ResourceClaimTemplate: each pod that names it gets a claim of its own (DRA).

    Args:
        name: of the template.
        device_class: a DeviceClass; NVIDIA's driver brings ``gpu.nvidia.com``, ``mig.nvidia.com``.
        selectors: CEL expressions that each device has to meet, such as
            ``device.attributes["gpu.nvidia.com"].productName.contains("H100")``.
        count: how many devices.

    Raises:
        UsageError: an argument has a value that Kubernetes would refuse.
    """
    _check_name(name)
    _check_count("count", count, 1)
    if isinstance(selectors, str):
        raise UsageError("The selectors are one string.", "give a list of CEL expressions.")
    exactly: dict[str, Any] = {"deviceClassName": device_class}
    if selectors:
        exactly["selectors"] = [{"cel": {"expression": each}} for each in selectors]
    exactly |= {"allocationMode": "ExactCount", "count": count}
    return Manifest(
        {
            "apiVersion": "resource.k8s.io/v1",
            "kind": "ResourceClaimTemplate",
            "metadata": {"name": name, "labels": dict(MANAGED)},
            "spec": {"spec": {"devices": {"requests": [{"name": "gpu", "exactly": exactly}]}}},
        }
    )


def _check_name(name: str) -> None:
    # RFC 1123, as k8s.io/apimachinery's validation has it; a label value of 63 characters is made
    # from the name of a Job.
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", name):
        raise UsageError(
            f"{name!r} cannot be the name of an object.",
            "use up to 63 lower case letters, digits and hyphens; no hyphen at the ends.",
        )


def _check_count(what: str, count: int, least: int) -> None:
    if isinstance(count, bool) or not isinstance(count, int) or count < least:
        hint = (
            "; for a part of a GPU ask for a share or a MIG device through resource"
            if what == "gpus"
            else ""
        )
        raise UsageError(f"{what} is {count!r}.", f"give a whole number of {least} or more{hint}.")
