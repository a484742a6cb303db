"""Validation of Deployment, ReplicaSet, StatefulSet, DaemonSet and ReplicationController.

The rules are those of ``pkg/apis/apps/validation``.
"""

from __future__ import annotations

from mlk8s.sim.matching import Selector
from mlk8s.sim.status import FieldError, Object, forbidden, invalid, required, unsupported
from mlk8s.sim.validation import gotypes, pods, rules

_MISMATCH = "`selector` does not match template `labels`"
_STATEFUL_CHANGES = (
    "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', "
    "'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and "
    "'minReadySeconds' are forbidden"
)
_STATEFUL_MUTABLE = (
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
)


def deployment(spec: Object, old: Object | None) -> list[FieldError]:
    """Errors in a Deployment's spec."""
    errors = rules.nonnegative("spec.replicas", spec.get("replicas"))
    errors += _selector(spec, "deployment")
    errors += _template(spec, "ReplicaSet")
    strategy = spec.get("strategy") or {}
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    if kind == "Recreate" and rolling is not None:
        text = "may not be specified when strategy `type` is 'Recreate'"
        errors.append(forbidden("spec.strategy.rollingUpdate", text))
    elif kind == "RollingUpdate":
        errors += _rolling("spec.strategy.rollingUpdate", rolling)
    elif kind != "Recreate":
        errors.append(unsupported("spec.strategy.type", kind, ("Recreate", "RollingUpdate")))
    errors += rules.nonnegative("spec.minReadySeconds", spec.get("minReadySeconds"))
    errors += rules.nonnegative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))
    deadline = spec.get("progressDeadlineSeconds")
    if deadline is not None:
        errors += rules.nonnegative("spec.progressDeadlineSeconds", deadline)
        if deadline <= spec.get("minReadySeconds", 0):
            text = "must be greater than minReadySeconds"
            errors.append(invalid("spec.progressDeadlineSeconds", deadline, text))
    return errors + _immutable_selector(spec, old)


def replica_set(spec: Object, old: Object | None) -> list[FieldError]:
    """Errors in a ReplicaSet's spec."""
    errors = rules.nonnegative_each("spec", spec, "replicas", "minReadySeconds")
    errors += _selector(spec, "replicaset", empty_detail="empty selector is invalid for deployment")
    return errors + _template(spec, "ReplicaSet") + _immutable_selector(spec, old)


def daemon_set(spec: Object, old: Object | None) -> list[FieldError]:
    """Errors in a DaemonSet's spec."""
    errors = rules.label_selector("spec.selector", spec.get("selector"))
    template = spec.get("template") or {}
    found = (template.get("metadata") or {}).get("labels")
    if spec.get("selector") is not None and not Selector(spec["selector"]).matches(found):
        where = "spec.template.metadata.labels"
        errors.append(gotypes.invalid(where, _labels(found), _MISMATCH))
    if not _parts(spec.get("selector")):
        text = "empty selector is invalid for daemonset"
        errors.append(invalid("spec.selector", spec.get("selector"), text))
    errors += pods.template("spec.template", template)
    errors += _always("spec.template", template, "DaemonSet")
    errors += rules.nonnegative("spec.minReadySeconds", spec.get("minReadySeconds"))
    strategy = spec.get("updateStrategy") or {}
    if strategy.get("type") == "RollingUpdate":
        errors += _rolling("spec.updateStrategy.rollingUpdate", strategy.get("rollingUpdate"))
    elif strategy.get("type") != "OnDelete":
        errors.append(
            unsupported(
                "spec.updateStrategy.type", strategy.get("type", ""), ("RollingUpdate", "OnDelete")
            )
        )
    errors += rules.nonnegative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))
    return errors + _immutable_selector(spec, old)


def stateful_set(spec: Object, old: Object | None) -> list[FieldError]:
    """Errors in a StatefulSet's spec."""
    if old is not None:
        return _stateful_update(spec, old)
    errors: list[FieldError] = []
    policy = spec.get("podManagementPolicy", "")
    if not policy:
        errors.append(required("spec.podManagementPolicy"))
    elif policy not in ("OrderedReady", "Parallel"):
        text = "must be 'OrderedReady' or 'Parallel'"
        errors.append(invalid("spec.podManagementPolicy", policy, text))
    errors += _stateful_strategy(spec.get("updateStrategy") or {})
    errors += rules.nonnegative_each("spec", spec, "replicas", "minReadySeconds")
    start = (spec.get("ordinals") or {}).get("start")
    errors += rules.nonnegative("spec.ordinals.start", start)
    errors += _selector(
        spec, "statefulset", empty_detail="empty selector is invalid for statefulset"
    )
    errors += rules.nonnegative("spec.revisionHistoryLimit", spec.get("revisionHistoryLimit"))
    template = spec.get("template") or {}
    errors += _matches(spec, template)
    # The claim templates are volumes of the pods too.
    claims = [
        {"name": (claim.get("metadata") or {}).get("name", ""), "emptyDir": {}}
        for claim in spec.get("volumeClaimTemplates") or ()
    ]
    body = template.get("spec") or {}
    known = {claim["name"] for claim in claims}
    own = [volume for volume in body.get("volumes") or () if volume.get("name") not in known]
    errors += pods.template(
        "spec.template", {**template, "spec": {**body, "volumes": [*own, *claims]}}
    )
    return errors + _always("spec.template", template, "StatefulSet")


def _stateful_strategy(strategy: Object) -> list[FieldError]:
    kind, rolling = strategy.get("type", ""), strategy.get("rollingUpdate")
    path = "spec.updateStrategy"
    if not kind:
        return [required(path)]
    if kind == "OnDelete":
        if rolling is None:
            return []
        text = "only allowed for updateStrategy 'RollingUpdate'"
        return [invalid(f"{path}.rollingUpdate", rolling, text)]
    if kind == "RollingUpdate":
        here = f"{path}.rollingUpdate"
        errors = rules.nonnegative(f"{here}.partition", (rolling or {}).get("partition"))
        most = (rolling or {}).get("maxUnavailable")
        if most is not None:
            errors += rules.number_or_percent(f"{here}.maxUnavailable", most)
            if most in (0, "0%"):
                errors.append(invalid(f"{here}.maxUnavailable", most, "cannot be 0"))
        return errors
    return [invalid(path, strategy, "must be 'RollingUpdate' or 'OnDelete'")]


def _stateful_update(spec: Object, old: Object) -> list[FieldError]:
    def fixed(found: Object) -> Object:
        return {name: value for name, value in found.items() if name not in _STATEFUL_MUTABLE}

    errors: list[FieldError] = []
    if fixed(spec) != fixed(old):
        errors.append(forbidden("spec", _STATEFUL_CHANGES))
    errors += rules.nonnegative_each("spec", spec, "replicas", "minReadySeconds")
    return errors


def replication_controller(spec: Object, old: Object | None) -> list[FieldError]:
    """Errors in a ReplicationController's spec."""
    errors = rules.nonnegative("spec.minReadySeconds", spec.get("minReadySeconds"))
    selector = spec.get("selector") or {}
    if not selector:
        errors.append(required("spec.selector"))
    errors += rules.nonnegative("spec.replicas", spec.get("replicas"))
    template = spec.get("template")
    if template is None:
        return [*errors, required("spec.template")]
    found = (template.get("metadata") or {}).get("labels") or {}
    if any(found.get(key) != value for key, value in selector.items()):
        errors.append(gotypes.invalid("spec.template.metadata.labels", _labels(found), _MISMATCH))
    errors += pods.template("spec.template", template)
    return errors + _always("spec.template", template, "ReplicationController")


def _selector(spec: Object, kind: str, empty_detail: str = "") -> list[FieldError]:
    selector = spec.get("selector")
    if selector is None:
        return [required("spec.selector")]
    errors = rules.label_selector("spec.selector", selector)
    if not _parts(selector):
        text = empty_detail or f"empty selector is invalid for {kind}"
        errors.append(invalid("spec.selector", selector, text))
    return errors


def _parts(selector: Object | None) -> bool:
    found = selector or {}
    return bool(found.get("matchLabels") or found.get("matchExpressions"))


def _matches(spec: Object, template: Object) -> list[FieldError]:
    found = (template.get("metadata") or {}).get("labels")
    if not _parts(spec.get("selector")) or Selector(spec["selector"]).matches(found):
        return []
    return [gotypes.invalid("spec.template.metadata.labels", _labels(found), _MISMATCH)]


def _labels(found: dict[str, str] | None) -> dict[str, str] | None:
    return dict(sorted(found.items())) if found else None


def _template(spec: Object, kind: str) -> list[FieldError]:
    template = spec.get("template") or {}
    errors = _matches(spec, template)
    errors += pods.template("spec.template", template)
    return errors + _always("spec.template", template, kind)


def _always(path: str, template: Object, kind: str) -> list[FieldError]:
    spec = template.get("spec") or {}
    errors: list[FieldError] = []
    policy = spec.get("restartPolicy", "")
    if policy != "Always":
        errors.append(unsupported(f"{path}.spec.restartPolicy", policy, ("Always",)))
    if spec.get("activeDeadlineSeconds") is not None:
        text = f"activeDeadlineSeconds in {kind} is not Supported"
        errors.append(forbidden(f"{path}.spec.activeDeadlineSeconds", text))
    return errors


def _immutable_selector(spec: Object, old: Object | None) -> list[FieldError]:
    if old is None or spec.get("selector") == old.get("selector"):
        return []
    shown = gotypes.selector(spec.get("selector") or {})
    return [gotypes.invalid("spec.selector", shown, rules.IMMUTABLE)]


def _rolling(path: str, rolling: Object | None) -> list[FieldError]:
    if rolling is None:
        return [required(path)]
    errors: list[FieldError] = []
    both = []
    for name in ("maxUnavailable", "maxSurge"):
        value = rolling.get(name, 0)
        errors += rules.number_or_percent(f"{path}.{name}", value)
        both.append(value)
        if name == "maxUnavailable" and isinstance(value, str) and value.endswith("%"):
            number = value[:-1]
            if number.isdigit() and int(number) > 100:
                errors.append(invalid(f"{path}.{name}", value, "must not be greater than 100%"))
    if all(str(value).rstrip("%") == "0" for value in both):
        text = "may not be 0 when `maxSurge` is 0"
        errors.append(invalid(f"{path}.maxUnavailable", both[0], text))
    return errors
