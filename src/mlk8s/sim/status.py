"""What an API server says when it refuses: ``Status`` objects, field errors, and their wording.

The forms are those of ``k8s.io/apimachinery`` (``pkg/api/errors/errors.go`` and
``pkg/util/validation/field/errors.go``).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

Object: TypeAlias = dict[str, Any]

REQUIRED = "Required value"
INVALID = "Invalid value"
FORBIDDEN = "Forbidden"
UNSUPPORTED = "Unsupported value"
DUPLICATE = "Duplicate value"
NOT_FOUND = "Not found"
TOO_LONG = "Too long"
TOO_MANY = "Too many"

_CAUSES = {
    REQUIRED: "FieldValueRequired",
    INVALID: "FieldValueInvalid",
    FORBIDDEN: "FieldValueForbidden",
    UNSUPPORTED: "FieldValueNotSupported",
    DUPLICATE: "FieldValueDuplicate",
    NOT_FOUND: "FieldValueNotFound",
    TOO_LONG: "FieldValueTooLong",
    TOO_MANY: "FieldValueTooMany",
}
_NO_VALUE = object()


@dataclass(frozen=True)
class FieldError:
    """One reason why an object is invalid.

    Args:
        field: path of the field, such as ``spec.containers[0].image``.
        kind: one of the constants of this module, such as :data:`REQUIRED`.
        detail: the sentence that follows; may be empty.
        value: the offending value; shown by all kinds but required, forbidden, too long/many.
    """

    field: str
    kind: str
    detail: str = ""
    value: Any = _NO_VALUE

    @property
    def body(self) -> str:
        """The message without the field, as it stands in ``details.causes``."""
        text = self.kind
        if self.value is not _NO_VALUE and self.kind not in (
            REQUIRED,
            FORBIDDEN,
            TOO_LONG,
            TOO_MANY,
        ):
            text += f": {_shown(self.value)}"
        return f"{text}: {self.detail}" if self.detail else text

    def __str__(self) -> str:
        return f"{self.field}: {self.body}"


def required(field: str, detail: str = "") -> FieldError:
    """A field that has to be set is not."""
    return FieldError(field, REQUIRED, detail)


def invalid(field: str, value: Any, detail: str) -> FieldError:
    """A field has a value that cannot be used."""
    return FieldError(field, INVALID, detail, value)


def forbidden(field: str, detail: str) -> FieldError:
    """A field may not be set, or not be changed, here."""
    return FieldError(field, FORBIDDEN, detail)


def unsupported(field: str, value: Any, supported: Iterable[str]) -> FieldError:
    """A value is none of an enumeration, which is listed in the order given."""
    listed = ", ".join(f'"{text}"' for text in supported)
    return FieldError(field, UNSUPPORTED, f"supported values: {listed}", value)


def duplicate(field: str, value: Any) -> FieldError:
    """Two items of a list have one key."""
    return FieldError(field, DUPLICATE, "", value)


def _shown(value: Any) -> str:
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if value is None:
        return "null"
    return json.dumps(value, separators=(",", ":"), sort_keys=True, ensure_ascii=False)


class StatusError(Exception):
    """A request that is refused; carries the ``Status`` that the client gets.

    Args:
        code: the HTTP status.
        reason: Kubernetes' machine-readable reason, such as ``NotFound``.
        message: the sentence a person reads.
        details: ``Status.details``: name, group, kind, uid, causes, retryAfterSeconds.
    """

    def __init__(self, code: int, reason: str, message: str, details: Object | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details or {}

    def as_status(self) -> Object:
        """The ``Status`` object."""
        status: Object = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
        }
        if self.details:
            status["details"] = self.details
        status["code"] = self.code
        return status


def _details(plural: str, group: str, name: str) -> Object:
    details: Object = {"name": name}
    if group:
        details["group"] = group
    details["kind"] = plural
    return details


def qualified(plural: str, group: str) -> str:
    """``deployments.apps``, or ``pods`` for the core group."""
    return f"{plural}.{group}" if group else plural


def not_found(plural: str, group: str, name: str) -> StatusError:
    """404: no object of this name."""
    message = f'{qualified(plural, group)} "{name}" not found'
    return StatusError(404, "NotFound", message, _details(plural, group, name))


def no_such_path() -> StatusError:
    """404: no such resource or route; a real server answers without naming it."""
    return StatusError(404, "NotFound", "the server could not find the requested resource")


def already_exists(plural: str, group: str, name: str) -> StatusError:
    """409: an object of this name is there."""
    message = f'{qualified(plural, group)} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(plural, group, name))


def conflict(what: str, name: str, why: str) -> StatusError:
    """409: the write was based on something that is no longer so; ``what`` is ``pods``."""
    message = f'Operation cannot be fulfilled on {what} "{name}": {why}'
    return StatusError(409, "Conflict", message, {"name": name, "kind": what})


MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def unprocessable(kind: str, group: str, name: str, errors: Sequence[FieldError]) -> StatusError:
    """422: the object is invalid; all errors in one answer."""
    texts = list(dict.fromkeys(str(error) for error in errors))
    listed = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    details = _details(kind, group, name)
    details["causes"] = [
        {"reason": _CAUSES[error.kind], "message": error.body, "field": error.field}
        for error in errors
    ]
    message = f'{qualified(kind, group)} "{name}" is invalid: {listed}'
    return StatusError(422, "Invalid", message, details)


def bad_request(message: str) -> StatusError:
    """400: the request cannot be understood."""
    return StatusError(400, "BadRequest", message)


def refused(plural: str, group: str, name: str, why: str) -> StatusError:
    """403: admission or authorization says no."""
    message = f'{qualified(plural, group)} "{name}" is forbidden: {why}'
    return StatusError(403, "Forbidden", message, _details(plural, group, name))


def expired(message: str) -> StatusError:
    """410: the revision asked for is no longer kept."""
    return StatusError(410, "Expired", message)


def not_allowed() -> StatusError:
    """405: the resource does not support the verb."""
    return StatusError(
        405, "MethodNotAllowed", "the server does not allow this method on the requested resource"
    )
