"""Who a bearer token is: the cluster's administrator, or a service account that asked for one."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Callable

_MOST = 10_000


class Tokens:
    """The tokens that the server accepts.

    All of them may do everything: authorization is not modeled.

    Args:
        administrator: the cluster's own.
        now: seconds since the epoch.
    """

    def __init__(self, administrator: str, now: Callable[[], float]) -> None:
        self.administrator = administrator
        self._now = now
        self._issued: dict[str, tuple[str, float]] = {}

    def issue(self, namespace: str, name: str, until: float) -> str:
        """A token of a service account, good until then."""
        token = secrets.token_urlsafe(48)
        self._issued[token] = (f"system:serviceaccount:{namespace}:{name}", until)
        while len(self._issued) > _MOST:
            del self._issued[next(iter(self._issued))]
        return token

    def accepts(self, token: str) -> bool:
        """Whether a token is known and has not expired."""
        if hmac.compare_digest(token.encode(), self.administrator.encode()):
            return True
        found = self._issued.get(token)
        return found is not None and self._now() < found[1]

    def user(self, token: str) -> str:
        """The service account of a token; empty for the administrator's and unknown ones."""
        return self._issued.get(token, ("", 0.0))[0]
