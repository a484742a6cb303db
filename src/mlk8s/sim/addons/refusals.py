"""How the admission webhooks of add-ons refuse an object that has several mistakes."""

from __future__ import annotations

from collections.abc import Sequence

from mlk8s.sim.addons.base import denied
from mlk8s.sim.status import FieldError, forbidden


def refuse(
    webhook: str, errors: Sequence[FieldError], code: int = 403, reason: str = "Forbidden"
) -> None:
    """Refuse an object where anything is wrong.

    Args:
        webhook: its name, such as ``vjob.kb.io``.
        errors: what is wrong; may be nothing.
        code: the HTTP status that the webhook gives.
        reason: the reason that it gives; may be empty.

    Raises:
        StatusError: with all errors, as Go prints a list of them
            (``k8s.io/apimachinery/pkg/util/errors.aggregate``).
    """
    texts = list(dict.fromkeys(str(error) for error in errors))
    if texts:
        told = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        raise denied(webhook, told, code, reason)


def unmodeled(path: str, addon: str, instead: str = "") -> FieldError:
    """A field that an add-on does not act on.

    Args:
        path: of the field.
        addon: whose model it is.
        instead: what to do; may be empty.
    """
    told = f"the embedded cluster's add-on {addon} does not model this"
    return forbidden(path, f"{told}: {instead}" if instead else told)
