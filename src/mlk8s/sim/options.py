"""What a request asks for beside the object: the options of reads, writes and deletions.

They are checked as ``k8s.io/apimachinery`` does (``pkg/apis/meta/v1/validation`` and
``pkg/apis/meta/internalversion/validation``), and refused in its words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mlk8s.sim import decoding, reviews
from mlk8s.sim.api import DeleteOptions, Request
from mlk8s.sim.status import (
    TOO_LONG,
    FieldError,
    Object,
    bad_request,
    forbidden,
    invalid,
    unprocessable,
    unsupported,
)

_DELETE_OPTIONS = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions"
_KINDS = {"POST": "CreateOptions", "PUT": "UpdateOptions", "PATCH": "PatchOptions"}
_VALIDATIONS = ("Ignore", "Strict", "Warn")
_POLICIES = ("Foreground", "Background", "Orphan", "nil")
_EXACT, _NOT_OLDER = "Exact", "NotOlderThan"
_LONGEST_MANAGER = 128

Query = Mapping[str, str]


def flag(query: Query, name: str) -> bool:
    """Whether a parameter is set; as in Kubernetes, only ``0`` and ``false`` say no."""
    return name in query and query[name] != "0" and query[name].lower() != "false"


def number(query: Query, name: str) -> int | None:
    """A parameter that is a number of 64 bits; ``None`` when it is absent or empty.

    Raises:
        StatusError: 400, it is no such number.
    """
    text = query.get(name)
    if not text:
        return None
    plain = text.removeprefix("-").removeprefix("+")
    if not (plain.isascii() and plain.isdigit()):
        raise bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    value = int(text)
    if not -(2**63) <= value < 2**63:
        raise bad_request(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def revision(query: Query) -> int:
    """``resourceVersion``; 0 when it is absent.

    Raises:
        StatusError: 400, it is no revision.
    """
    text = query.get("resourceVersion", "")
    if text and not (text.isascii() and text.isdigit()):
        why = f'Invalid value: "{text}": strconv.ParseUint: parsing "{text}": invalid syntax'
        raise bad_request(f"invalid resource version: resourceVersion: {why}")
    return int(text or 0)


@dataclass(frozen=True)
class ListOptions:
    """``metav1.ListOptions`` of a list or a watch.

    Attributes:
        limit: 0 when there is none.
        token: ``continue``.
        revision: 0 for any.
        exact: the list as it was at ``revision``.
        timeout: seconds; 0 when there is none.
        initial: whether a watch first sends what there is; ``None`` leaves it to ``revision``.
        named_revision: whether ``resourceVersion`` was sent and is not empty.
    """

    limit: int
    token: str
    revision: int
    exact: bool
    timeout: int
    initial: bool | None
    bookmarks: bool
    named_revision: bool


def of_list(query: Query, watch: bool) -> ListOptions:
    """The options of a list or a watch.

    Raises:
        StatusError: 400 or 422.
    """
    limit, timeout = number(query, "limit") or 0, number(query, "timeoutSeconds") or 0
    token, match = query.get("continue", ""), query.get("resourceVersionMatch", "")
    named = bool(query.get("resourceVersion"))
    initial = flag(query, "sendInitialEvents") if "sendInitialEvents" in query else None
    errors: list[FieldError] = []

    def wrong(field: str, why: str) -> None:
        errors.append(forbidden(field, why))

    if watch:
        if initial is not None and match != _NOT_OLDER:
            why = f"sendInitialEvents requires setting resourceVersionMatch to {_NOT_OLDER}"
            wrong("resourceVersionMatch", why)
        if match and initial is None:
            why = "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided"
            wrong("resourceVersionMatch", why)
        if match and match != _NOT_OLDER:
            errors.append(unsupported("resourceVersionMatch", match, (_NOT_OLDER,)))
        if match and token:
            wrong(
                "resourceVersionMatch",
                "resourceVersionMatch is forbidden when continue is provided",
            )
    else:
        if match and not named:
            why = "resourceVersionMatch is forbidden unless resourceVersion is provided"
            wrong("resourceVersionMatch", why)
        if match and token:
            why = "resourceVersionMatch is forbidden when continue is provided"
            wrong("resourceVersionMatch", why)
        if match and match not in (_EXACT, _NOT_OLDER):
            errors.append(unsupported("resourceVersionMatch", match, (_EXACT, _NOT_OLDER, "")))
        if match == _EXACT and query.get("resourceVersion") == "0":
            why = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
            wrong("resourceVersionMatch", why)
        if initial is not None:
            wrong("sendInitialEvents", "sendInitialEvents is forbidden for list")
    if errors:
        raise unprocessable("ListOptions", "meta.k8s.io", "", errors)
    at = revision(query)
    if token and at and not watch:
        raise bad_request("specifying resource version is not allowed when using continue")
    # Without a match a limit asks for that very revision (staging/.../storage/interfaces.go).
    exact = match == _EXACT or (not match and limit > 0 and at > 0)
    return ListOptions(
        max(limit, 0),
        token,
        at,
        exact,
        timeout,
        initial,
        flag(query, "allowWatchBookmarks"),
        named,
    )


def of_write(method: str, query: Query, agent: str, apply: bool = False) -> Request:
    """Who writes and how: field manager, dry run, validation.

    Args:
        method: of HTTP.
        query: of the URL.
        agent: ``User-Agent``, whose first word stands in for a manager that is not named.
        apply: it is a server-side apply, which has to name its manager.

    Raises:
        StatusError: 422, an option has a value that is not known.
    """
    dry_run, validation = query.get("dryRun", ""), query.get("fieldValidation", "")
    manager = query.get("fieldManager", "")
    errors: list[FieldError] = []
    if len(manager.encode()) > _LONGEST_MANAGER:
        why = f"may not be more than {_LONGEST_MANAGER} bytes"
        errors.append(FieldError("fieldManager", TOO_LONG, why))
    for at, character in enumerate(manager):
        if not character.isprintable():
            point = f"U+{ord(character):04X}"
            why = f"invalid character {point} (at position {at})"
            errors.append(invalid("fieldManager", manager, why))
    errors += _dry_run([dry_run] if dry_run else [])
    if validation and validation not in _VALIDATIONS:
        errors.append(unsupported("fieldValidation", validation, _VALIDATIONS))
    if errors and method in _KINDS:
        raise unprocessable(_KINDS[method], "meta.k8s.io", "", errors)
    return Request(
        manager=manager or ("" if apply else agent.split("/")[0]),
        user=reviews.USER,
        dry_run=dry_run == "All",
        validation=validation or "Warn",
    )


def _dry_run(values: list[Any]) -> list[FieldError]:
    if any(value != "All" for value in values):
        return [unsupported("dryRun", values, ("All",))]
    return []


def of_delete(query: Query, sent: Any) -> tuple[DeleteOptions, bool]:
    """``DeleteOptions`` from the query and the body, and whether it is a dry run.

    Args:
        query: of the URL; what it says wins.
        sent: the body; ``None`` when there is none.

    Raises:
        StatusError: 400 or 422.
    """
    options: Object = {} if sent is None else decoding.read(_DELETE_OPTIONS, sent)
    grace = number(query, "gracePeriodSeconds")
    if grace is None:
        grace = options.get("gracePeriodSeconds")
    policy = query.get("propagationPolicy") or options.get("propagationPolicy")
    orphan = options.get("orphanDependents")
    dry_run = [query["dryRun"]] if query.get("dryRun") else options.get("dryRun") or []
    errors: list[FieldError] = []
    if orphan is not None and policy is not None:
        why = "orphanDependents and deletionPropagation cannot be both set"
        errors.append(invalid("propagationPolicy", policy, why))
    if policy is not None and policy not in _POLICIES[:-1]:
        errors.append(unsupported("propagationPolicy", policy, _POLICIES))
    errors += _dry_run(dry_run)
    if errors:
        raise unprocessable("DeleteOptions", "meta.k8s.io", "", errors)
    if orphan is not None:
        policy = "Orphan" if orphan else "Background"
    preconditions = options.get("preconditions") or {}
    found = DeleteOptions(
        grace,
        policy,
        preconditions.get("uid"),
        preconditions.get("resourceVersion"),
    )
    return found, bool(dry_run)
