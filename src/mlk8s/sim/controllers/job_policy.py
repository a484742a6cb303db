"""What a Job's policies say: failures, indexes, success, and the delay before another try.

Nothing here reads or writes the cluster. Source: pkg/controller/job (pod_failure_policy.go,
success_policy.go, indexed_job_utils.go, backoff_utils.go).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mlk8s.sim.clock import seconds
from mlk8s.sim.status import Object

# Before another try after a failure: 10 s, doubled with each, at most 10 min in a row
# (DefaultJobPodFailureBackOff, MaxJobPodFailureBackOff).
FIRST_BACKOFF_S = 10.0
LAST_BACKOFF_S = 600.0


def backoff(failures: int) -> float:
    """Seconds to wait after the last of so many failures without a success between them."""
    if failures <= 0:
        return 0.0
    return float(min(FIRST_BACKOFF_S * 2.0 ** min(failures - 1, 30), LAST_BACKOFF_S))


def ended(pod: Object) -> float:
    """When a pod ended, in seconds since the epoch.

    That is when its last container ended; for a pod that was deleted before, when it was to be
    gone; else when its phase changed, or it was made.
    """
    status, metadata = pod.get("status") or {}, pod["metadata"]
    moments = [
        container["state"]["terminated"]["finishedAt"]
        for container in status.get("containerStatuses") or ()
        if ((container.get("state") or {}).get("terminated") or {}).get("finishedAt")
    ]
    if moments:
        return max(map(seconds, moments))
    if "deletionTimestamp" in metadata:
        grace: int = metadata.get("deletionGracePeriodSeconds", 0)
        return seconds(metadata["deletionTimestamp"]) - grace
    for condition in status.get("conditions") or ():
        if condition["type"] == "Ready" and condition.get("lastTransitionTime"):
            return seconds(condition["lastTransitionTime"])
    return seconds(metadata["creationTimestamp"])


def judge_failure(policy: Object | None, pod: Object) -> tuple[str, str]:
    """What ``podFailurePolicy`` does about a failed pod.

    Returns:
        The action (``Count``, ``Ignore``, ``FailIndex`` or ``FailJob``) and, for ``FailJob``, the
        sentence for the Job's condition.
    """
    where = f"{pod['metadata']['namespace']}/{pod['metadata']['name']}"
    status = pod.get("status") or {}
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        action = rule["action"]
        if codes := rule.get("onExitCodes"):
            container = _container(status, codes)
            if container is not None:
                code = container["state"]["terminated"]["exitCode"]
                return action, (
                    f"Container {container['name']} for pod {where} failed with exit code {code} "
                    f"matching {action} rule at index {number}"
                )
        elif patterns := rule.get("onPodConditions"):
            for condition in status.get("conditions") or ():
                for pattern in patterns:
                    if (condition["type"], condition["status"]) == (
                        pattern["type"],
                        pattern.get("status", "True"),
                    ):
                        return action, (
                            f"Pod {where} has condition {condition['type']} matching {action} "
                            f"rule at index {number}"
                        )
    return "Count", ""


def _container(status: Object, codes: Object) -> Object | None:
    listed = (status.get("containerStatuses") or []) + (status.get("initContainerStatuses") or [])
    for container in listed:
        terminated = (container.get("state") or {}).get("terminated")
        if not terminated or codes.get("containerName", container["name"]) != container["name"]:
            continue
        code = terminated["exitCode"]
        if code != 0 and (code in codes["values"]) == (codes["operator"] == "In"):
            found: Object = container
            return found
    return None


def indexes_text(indexes: Iterable[int]) -> str:
    """Completion indexes as a Job's status lists them: ``0-2,5``; two in a row are ``0,1``."""
    parts: list[str] = []
    run: list[int] = []
    for index in [*sorted(indexes), None]:
        if run and (index is None or index != run[-1] + 1):
            if len(run) > 2:
                parts.append(f"{run[0]}-{run[-1]}")
            else:
                parts += map(str, run)
            run = []
        if index is not None:
            run.append(index)
    return ",".join(parts)


def indexes_of(text: str | None, below: int) -> set[int]:
    """The completion indexes that a text names, without those that are too large by now."""
    found: set[int] = set()
    for part in (text or "").split(","):
        first, _, last = part.partition("-")
        if first:
            found.update(range(int(first), min(int(last or first), below - 1) + 1))
    return found


def success_rule(policy: Object | None, succeeded: set[int], completions: int) -> str | None:
    """The sentence for the first rule of ``successPolicy`` that is met, or ``None``."""
    for number, rule in enumerate((policy or {}).get("rules") or ()):
        wanted = rule.get("succeededIndexes")
        chosen = succeeded if wanted is None else indexes_of(wanted, completions) & succeeded
        needed: Any = rule.get("succeededCount")
        if needed is None:
            needed = len(indexes_of(wanted, completions))
        if len(chosen) >= needed:
            return f"Matched rules at index {number}"
    return None
