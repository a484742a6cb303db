"""Questions about identity and rights: the one user of the cluster may do everything."""

from __future__ import annotations

from mlk8s.sim.status import Object
from mlk8s.sim.tokens import Tokens

USER = "kubernetes-admin"
GROUPS = ["system:masters", "system:authenticated"]


def answer(kind: str, body: Object, tokens: Tokens, presented: str) -> Object:
    """Fill in the status of a review.

    Args:
        kind: ``SelfSubjectAccessReview`` and its siblings.
        body: the review as it was sent.
        tokens: those that the server accepts.
        presented: the one that the request came with.
    """
    identity = _identity(tokens.user(presented))
    if kind == "TokenReview":
        sent = (body.get("spec") or {}).get("token", "")
        status: Object = (
            {"authenticated": True, "user": _identity(tokens.user(sent))}
            if tokens.accepts(sent)
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


def _identity(account: str) -> Object:
    if not account:
        return {"username": USER, "groups": GROUPS}
    namespace = account.split(":")[2]
    groups = ["system:serviceaccounts", f"system:serviceaccounts:{namespace}"]
    return {"username": account, "groups": [*groups, "system:authenticated"]}
