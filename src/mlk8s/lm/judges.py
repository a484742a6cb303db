"""Who says whether a manifest is valid: the published schemas, or a cluster's API server.

A judge is any function that takes a manifest and gives why it refuses it, or ``None``. The schemas
need no cluster and know fields and their types. The API server knows more: names, selectors that
must match labels, defaults, quotas, webhooks; it is asked by a dry run, which stores nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlk8s.errors import ClusterError, UsageError
from mlk8s.lm.task import Manifest

if TYPE_CHECKING:
    from mlk8s.cluster import Connection

Judge = Callable[[Manifest], str | None]

#: Answers that say that the object is not acceptable: it cannot be read, it is not allowed, a
#: field is invalid. Others say something about the server.
_REFUSED = (400, 403, 422)
#: The name is taken. Validation and admission come before (k8s.io/apiserver,
#: pkg/registry/generic/registry/store.go, Store.Create), so the object itself was acceptable.
_EXISTS = 409


@dataclass(frozen=True)
class Schemas:
    """The judge without a cluster: the JSON schemas that package ``kubernetes-validate`` brings.

    Strict ones, in which a field that Kubernetes does not know is an error.

    Attributes:
        version: of Kubernetes.
    """

    version: str = "1.36"

    def __call__(self, manifest: Manifest) -> str | None:
        """Why the manifest is refused, or ``None``."""
        import kubernetes_validate

        try:
            kubernetes_validate.validate(manifest, self.version, strict=True)
        except kubernetes_validate.SchemaNotFoundError:
            return f"Kubernetes has no kind {manifest['kind']} in {manifest['apiVersion']}"
        except kubernetes_validate.ValidationError as error:
            place = ".".join(str(part) for part in error.absolute_path) or "the object"
            return f"{place}: {error.message}"
        return None

    def __str__(self) -> str:
        return f"the JSON schemas of Kubernetes {self.version}, strict"


class Server:
    """The judge in a cluster: what ``kubectl create --dry-run=server`` asks.

    The object is sent to the labs' namespace whatever its own says, since namespaces of the
    requests need not be there; that the right one is named is judged by the field.

    Args:
        connection: of :func:`mlk8s.cluster.connect`.

    Raises:
        ClusterError: the labs' namespace cannot be made.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        connection.ensure_namespace()

    def __call__(self, manifest: Manifest) -> str | None:
        """Why the server refuses the manifest, or ``None``.

        Raises:
            ClusterError: the server failed, rather than refused.
            ClusterUnavailable: nothing answers.
        """
        from mlk8s.cluster import naming, wire

        space = self.connection.namespace
        body = {**manifest, "metadata": {**manifest["metadata"], "namespace": space}}
        try:
            resource, _, _ = naming.place(self.connection, body, space)
        except UsageError as error:
            return error.problem
        where = wire.path(resource, namespace=space)
        try:
            self.connection.request("POST", where, body, dryRun="All", fieldValidation="Strict")
        except ClusterError as error:
            status = wire.status(error)
            if status == _EXISTS:
                return None
            if status in _REFUSED:
                return error.problem
            raise
        return None

    def __str__(self) -> str:
        return f"a dry run on Kubernetes {self.connection.version}"
