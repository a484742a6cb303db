"""CustomResourceDefinitions as add-ons make them: one version, stored and served."""

from __future__ import annotations

from collections.abc import Sequence

from mlk8s.sim.status import Object


def definition(
    name: str,
    kind: str,
    version: str,
    schema: Object,
    *,
    namespaced: bool = True,
    columns: Sequence[Object] = (),
    status: bool = False,
    short: Sequence[str] = (),
    categories: Sequence[str] = (),
) -> Object:
    """A definition.

    Args:
        name: plural and group, such as ``trials.kubeflow.org``.
        kind: of its objects.
        version: the one that is served.
        schema: ``openAPIV3Schema``.
        namespaced: whether its objects are in namespaces.
        columns: ``additionalPrinterColumns``.
        status: whether it has the subresource ``status``.
        short: its short names.
        categories: the groups under which ``kubectl get`` lists it, such as ``all``.
    """
    plural, _, group = name.partition(".")
    served: Object = {
        "name": version,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
    }
    if status:
        served["subresources"] = {"status": {}}
    if columns:
        served["additionalPrinterColumns"] = list(columns)
    names: Object = {
        "kind": kind,
        "listKind": f"{kind}List",
        "plural": plural,
        "singular": kind.lower(),
    }
    if short:
        names["shortNames"] = list(short)
    if categories:
        names["categories"] = list(categories)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": name},
        "spec": {
            "group": group,
            "scope": "Namespaced" if namespaced else "Cluster",
            "names": names,
            "versions": [served],
        },
    }
