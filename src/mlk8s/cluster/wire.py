"""Below :mod:`mlk8s.cluster.connection`: paths of the API, answers line by line, refusals."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import quote

from mlk8s.cluster import refusals
from mlk8s.errors import ClusterError, ClusterUnavailable


class Stream:
    """The lines of an answer that has no end of its own.

    Args:
        response: of urllib3.
        silent: makes the error for a connection that broke.
    """

    def __init__(self, response: Any, silent: Callable[[Exception], ClusterUnavailable]) -> None:
        self._silent = silent
        self._response = response
        self._closed = False

    def __iter__(self) -> Iterator[str]:
        """Each line without its end; the last one also when it has none.

        Raises:
            ClusterUnavailable: the connection broke.
        """
        from urllib3.exceptions import HTTPError

        rest = b""
        try:
            for piece in self._response.stream(amt=None):
                *lines, rest = (rest + piece).split(b"\n")
                for line in lines:
                    yield line.decode(errors="replace")
        except (HTTPError, OSError, ValueError) as error:
            if not self._closed:
                raise self._silent(error) from error
        if rest:
            yield rest.decode(errors="replace")

    def close(self) -> None:
        """End it, from any thread."""
        self._closed = True
        try:
            self._response.shutdown()
        except (OSError, ValueError, RuntimeError):
            # It has ended by itself.
            self._response.close()


def path(resource: str, name: str = "", namespace: str = "", part: str = "") -> str:
    """The path of a resource in the API.

    Args:
        resource: ``pods``; with group and version before it where it has one: ``batch/v1/jobs``.
        name: of one object.
        namespace: it lives in.
        part: a subresource.
    """
    group, _, plural = resource.rpartition("/")
    parts = ["/apis", group] if group else ["/api/v1"]
    if namespace:
        parts += ["namespaces", quote(namespace, safe="")]
    parts += [plural]
    if name:
        parts += [quote(name, safe="")]
    if part:
        parts += [part]
    return "/".join(parts)


def status(error: ClusterError) -> int:
    """The HTTP status behind an error; 0 when there is none."""
    found: int = getattr(error.__cause__, "status", 0)
    return found


def refused(error: Any) -> ClusterError:
    """The server's refusal with a next step; ``error`` is the client's ``ApiException``."""
    try:
        message = json.loads(error.body)["message"]
    except (ValueError, TypeError, KeyError):
        message = f"{error.status} {error.reason}"
    found = refusals.explain(message)
    step = found.next_step if found else _STEPS.get(error.status, "see the API server's log.")
    found_error = ClusterError(f"The API server refused: {message.rstrip('.')}.", step)
    found_error.__cause__ = error
    return found_error


_STEPS = {
    401: "the kubeconfig's credentials are not valid (any more); fetch the kubeconfig anew.",
    403: "the message says which rule refused; change the request, or have the rule changed.",
    404: "check the name and the namespace: kubectl get.",
    409: "an object of that name is there; delete it, or take another name.",
    422: "correct the field that the message names.",
    429: "the server is busy; try again.",
}
