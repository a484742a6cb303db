"""JobSet's admission webhooks: its defaults, and what neither it nor the model can do.

Source: ``pkg/webhooks/jobset_webhook.go`` at v0.12.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from mlk8s.sim.addons.base import Hook
from mlk8s.sim.addons.refusals import refuse
from mlk8s.sim.addons.trainer import names
from mlk8s.sim.addons.trainer.refusals import (
    REPLICATED,
    below,
    check_templates,
    listed,
    unmodeled,
)
from mlk8s.sim.api import Api
from mlk8s.sim.resources import Resource
from mlk8s.sim.status import FieldError, Object, invalid
from mlk8s.sim.validation import rules

_TOO_LONG = "JobSet name is too long, pod names generated for this JobSet will exceed 63 characters"


class JobSetHook(Hook):
    """The webhooks for JobSets.

    Args:
        api: knows the types of Kubernetes.
    """

    webhook = "vjobset.kb.io"

    def __init__(self, api: Api) -> None:
        self.api = api

    def mutate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Set what is not set: Indexed Jobs whose pods restart and have names."""
        if resource.key != names.JOBSETS:
            return
        for spec in below(obj, "spec"):
            spec.setdefault("successPolicy", {"operator": "All"})
            spec.setdefault("startupPolicy", {"startupPolicyOrder": "AnyOrder"})
            policy = spec.get("failurePolicy")
            rules_of = policy.get("rules") if isinstance(policy, dict) else None
            for index, rule in enumerate(rules_of if isinstance(rules_of, list) else ()):
                if isinstance(rule, dict):
                    rule.setdefault("name", f"failurePolicyRule{index}")
        for network in below(obj, "spec", "network"):
            network.setdefault("enableDNSHostnames", True)
            network.setdefault("publishNotReadyAddresses", True)
        for each in listed(obj, "replicatedJobs"):
            for spec in below(each, "template", "spec"):
                spec.setdefault("completionMode", "Indexed")
            for pod in below(each, "template", "spec", "template", "spec"):
                pod.setdefault("restartPolicy", "OnFailure")

    def validate(self, op: str, resource: Resource, obj: Object, old: Object | None) -> None:
        """Refuse Jobs that cannot be made, and changes of what runs."""
        if resource.key != names.JOBSETS:
            return
        spec = obj["spec"]
        jobs = spec.get("replicatedJobs") or []
        if old is not None:
            suspended = spec.get("suspend") or old["spec"].get("suspend")
            if not suspended and jobs != old["spec"].get("replicatedJobs"):
                refuse(self.webhook, [invalid(REPLICATED, jobs, rules.IMMUTABLE)])
            return
        read = check_templates(self.api, self.webhook, REPLICATED, jobs)
        errors = list(_beyond(spec))
        for index, each in enumerate(jobs):
            pods = read[index]["spec"].get("completions", 1)
            name = f"{obj['metadata'].get('name', '')}-{each['name']}-{each['replicas'] - 1}"
            if len(f"{name}-{pods - 1}-abcde") > 63:
                errors.append(invalid(f"{REPLICATED}[{index}].name", name, _TOO_LONG))
        refuse(self.webhook, errors)


def _beyond(spec: Object) -> Iterator[FieldError]:
    for part in ("coordinator", "volumeClaimPolicies"):
        if spec.get(part):
            yield unmodeled(f"spec.{part}")
    if spec["startupPolicy"]["startupPolicyOrder"] == "InOrder":
        yield unmodeled("spec.startupPolicy")
    for index, each in enumerate(spec.get("replicatedJobs") or ()):
        if each.get("dependsOn"):
            yield unmodeled(f"{REPLICATED}[{index}].dependsOn")
    policy = spec.get("failurePolicy") or {}
    if policy.get("restartStrategy") == "InPlaceRestart":
        yield unmodeled("spec.failurePolicy.restartStrategy")
    for index, rule in enumerate(policy.get("rules") or ()):
        where = f"spec.failurePolicy.rules[{index}]"
        if rule["action"].startswith("RestartJob") and "JobSet" not in rule["action"]:
            yield unmodeled(f"{where}.action")
        for pattern in rule.get("onJobFailureMessagePatterns") or ():
            try:
                re.compile(pattern)
            except re.error as error:
                path = f"{where}.onJobFailureMessagePatterns"
                yield invalid(path, pattern, f"invalid regular expression: {error}")
