"""Questions that the server answers and does not keep: tokens, and who may do what."""

import datetime

from . import access, status


def answer(cluster, asked, value):
    """The review with its status."""
    kind = asked.review[0]
    spec = value.get("spec") or {}
    if kind == "TokenReview":
        found = _token_review(cluster, spec)
    elif kind == "SelfSubjectRulesReview":
        found = _rules(cluster, asked.user, spec)
    else:
        found = _access_review(cluster, asked, kind, spec)
    group, version = asked.request.group, asked.request.version
    return {
        "kind": kind,
        "apiVersion": f"{group}/{version}",
        "metadata": value.get("metadata") or {},
        "spec": spec,
        "status": found,
    }


def _token_review(cluster, spec):
    user = cluster.access.user_of_token(spec.get("token", ""))
    if user is None:
        return {"user": {}, "error": "invalid bearer token"}
    shown = {"username": user.name, "groups": list(user.groups)}
    if user.uid:
        shown["uid"] = user.uid
    return {
        "authenticated": True,
        "user": shown,
        "audiences": spec.get("audiences") or [access.AUDIENCE],
    }


def _access_review(cluster, asked, kind, spec):
    user = asked.user
    if not kind.startswith("Self"):
        user = access.User(spec.get("user", ""), tuple(spec.get("groups") or ()))
    wanted = spec.get("resourceAttributes")
    if wanted:
        request = access.Request(
            wanted.get("verb", ""),
            wanted.get("group", ""),
            wanted.get("resource", ""),
            wanted.get("subresource", ""),
            wanted.get("namespace", ""),
            wanted.get("name", ""),
        )
    else:
        path = spec.get("nonResourceAttributes") or {}
        request = access.Request(path.get("verb", ""), path=path.get("path", ""))
    return {"allowed": cluster.access.allowed(user, request)}


def _rules(cluster, user, spec):
    resources, paths = [], []
    rules = (
        [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["*"], "nonResourceURLs": ["*"]},
        ]
        if user.is_master()
        else cluster.access.rules(user, spec.get("namespace", ""))
    )
    for rule in rules:
        (paths if rule.get("nonResourceURLs") else resources).append(rule)
    return {"resourceRules": resources, "nonResourceRules": paths, "incomplete": False}


def token(cluster, asked, value):
    """A TokenRequest for a service account."""
    spec = value.get("spec") or {}
    seconds = spec.get("expirationSeconds", access.TOKEN_SECONDS)
    if not isinstance(seconds, int) or seconds < 600:
        problem = status.invalid_value(
            "spec.expirationSeconds", seconds, "may not specify a duration less than 10 minutes"
        )
        raise status.ApiError(
            422,
            f'TokenRequest.authentication.k8s.io "" is invalid: {problem}',
            "Invalid",
            {"group": "authentication.k8s.io", "kind": "TokenRequest", "causes": [problem.cause()]},
        )
    text, expires = cluster.access.issue(asked.namespace, asked.request.name, seconds)
    moment = datetime.datetime.fromtimestamp(expires, datetime.timezone.utc)
    return {
        "kind": "TokenRequest",
        "apiVersion": "authentication.k8s.io/v1",
        "metadata": {"name": asked.request.name, "namespace": asked.namespace},
        "spec": {
            "audiences": spec.get("audiences") or [access.AUDIENCE],
            "expirationSeconds": seconds,
        },
        "status": {"token": text, "expirationTimestamp": moment.strftime("%Y-%m-%dT%H:%M:%SZ")},
    }
