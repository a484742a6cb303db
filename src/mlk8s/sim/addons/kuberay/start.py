"""The command ``ray start`` that KubeRay puts together for a pod.

Source at v1.7.0: ``setMissingRayStartParams`` and ``generateRayStartCommand`` in
``ray-operator/controllers/ray/common/pod.go``.
"""

from __future__ import annotations

import json
import re
from fractions import Fraction
from math import ceil

from mlk8s.sim.addons.kuberay import names
from mlk8s.sim.quantity import value
from mlk8s.sim.status import Object

# The accelerators besides GPUs that are passed on as resources of Ray.
_ACCELERATORS = {"aws.amazon.com/neuroncore": "neuron_cores", "google.com/tpu": "TPU"}
_MIG = re.compile(r"nvidia\.com/mig-\d+g\.\d+gb")
# Flags that take a value although it is true or false.
_VALUED = ("log-color", "include-dashboard", "include-log-monitor")


def is_gpu(resource: str) -> bool:
    """Whether a resource counts as GPUs of Ray: ``nvidia.com/gpu``, and MIG devices by name."""
    return resource.endswith("gpu") or _MIG.search(resource) is not None


def head_port(cluster: Object) -> str:
    """The port of the control service as the head is told it."""
    params = cluster["spec"]["headGroupSpec"].get("rayStartParams") or {}
    return str(params.get("port", names.GCS_PORT))


def command(
    node_type: str, group: Object, container: Object, address: str, *, monitored: bool = True
) -> str:
    """The command line for the nodes of a group.

    Args:
        node_type: ``head`` or ``worker``.
        group: ``headGroupSpec`` or one of ``workerGroupSpecs``.
        container: the Ray container, whose limits become Ray's resources.
        address: of the head, with its port; only workers are told.
        monitored: whether the head runs Ray's own monitor, which an autoscaler beside it replaces.
    """
    params = dict(group.get("rayStartParams") or {})
    params |= _told(group.get("resources") or {})
    if labels := group.get("labels"):
        params["labels"] = ",".join(f"{key}={labels[key]}" for key in sorted(labels))
    if node_type == names.WORKER:
        params.setdefault("address", address)
    else:
        params.setdefault("dashboard-host", "0.0.0.0")
        if not monitored:
            params["no-monitor"] = "true"
    params.setdefault("metrics-export-port", str(names.METRICS_PORT))
    params["block"] = "true"
    params.setdefault("dashboard-agent-listen-port", str(names.AGENT_PORT))
    _measure(params, container.get("resources") or {})
    head = "--head " if node_type == names.HEAD else ""
    return f"ray start {head}{_flags(params)}"


def _told(resources: dict[str, str]) -> dict[str, str]:
    """What the group's own ``resources`` say, in the arguments of Ray."""
    found: dict[str, str] = {}
    others: dict[str, float] = {}
    for name, text in resources.items():
        amount = _amount(text)
        if amount is None:
            continue
        lower = name.lower()
        if lower == "cpu":
            found["num-cpus"] = str(ceil(amount))
        elif lower == "memory":
            found["memory"] = str(ceil(amount))
        elif is_gpu(lower):
            found["num-gpus"] = str(ceil(amount))
        else:
            others[name] = float(amount)
    if others:
        found["resources"] = _quoted(others)
    return found


def _measure(params: dict[str, str], resources: Object) -> None:
    """Fill in what the container's resources say, where nobody has said otherwise."""
    limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
    # The limit counts, and only for CPUs the request in its place.
    for cpus in (limits.get("cpu"), requests.get("cpu")):
        if "num-cpus" not in params and _amount(cpus):
            params["num-cpus"] = str(ceil(_amount(cpus) or 0))
    if "memory" not in params and _amount(limits.get("memory")):
        params["memory"] = str(ceil(_amount(limits["memory"]) or 0))
    try:
        known = json.loads(params.get("resources", "{}").strip("'\"` "))
    except ValueError:
        # Ray itself will say what is wrong with it.
        return
    more = any(each in known for each in _ACCELERATORS.values())
    for name in sorted(limits):
        amount = _amount(limits[name])
        if not amount:
            continue
        if is_gpu(name):
            params.setdefault("num-gpus", str(ceil(amount)))
        elif name in _ACCELERATORS and not more:
            known.setdefault(_ACCELERATORS[name], float(amount))
            params["resources"] = _quoted(known)
            more = True


def _amount(text: object) -> Fraction | None:
    try:
        return value(str(text)) if text is not None else None
    except ValueError:
        return None


def _quoted(resources: dict[str, float]) -> str:
    whole = {
        key: int(amount) if amount == int(amount) else amount for key, amount in resources.items()
    }
    return f"'{json.dumps(whole, sort_keys=True, separators=(',', ':'))}'"


def _flags(params: dict[str, str]) -> str:
    found = ""
    for name in sorted(params):
        argument = params[name]
        switch = argument.lower() in ("true", "false") and name not in _VALUED
        if not switch:
            found += f" --{name}={argument} "
        elif argument.lower() == "true":
            found += f" --{name} "
    return found
