"""Questions about identity and rights: the one user of the cluster may do everything."""

from __future__ import annotations

from mlk8s.sim.status import Object

USER = "kubernetes-admin"
GROUPS = ["system:masters", "system:authenticated"]


def answer(kind: str, body: Object, token: str) -> Object:
    """Fill in the status of a review.

    Args:
        kind: ``SelfSubjectAccessReview`` and its siblings.
        body: the review as it was sent.
        token: the cluster's bearer token.
    """
    identity = {"username": USER, "groups": GROUPS}
    if kind == "TokenReview":
        sent = body.get("spec", {}).get("token")
        status: Object = (
            {"authenticated": True, "user": identity}
            if sent == token
            else {"user": {}, "error": "[invalid bearer token]"}
        )
    elif kind == "SelfSubjectReview":
        status = {"userInfo": identity}
    elif kind == "SelfSubjectRulesReview":
        status = {
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
            "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
            "incomplete": False,
        }
    else:
        status = {"allowed": True}
    return {**body, "metadata": body.get("metadata") or {}, "status": status}
