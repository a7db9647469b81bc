"""Who asks (tokens, client certificates) and what they may (roles and bindings)."""

import base64
import dataclasses
import hashlib
import hmac
import json
import time

from . import status

TOKEN_SECONDS = 3600
AUDIENCE = "https://kubernetes.default.svc.cluster.local"
MASTERS = "system:masters"


@dataclasses.dataclass(frozen=True)
class User:
    name: str
    groups: tuple = ()
    uid: str = ""

    def is_master(self):
        return MASTERS in self.groups


ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))


@dataclasses.dataclass(frozen=True)
class Request:
    """What is asked for, in the words of roles; a path instead of a resource for anything else."""

    verb: str
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    version: str = ""

    @property
    def full_resource(self):
        return f"{self.resource}/{self.subresource}" if self.subresource else self.resource


def _encode(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text):
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


class Access:
    def __init__(self, api, key, tokens=None):
        self.api = api
        self.key = key
        self.tokens = dict(tokens or {})  # static tokens: token to User
        self.revoked = set()

    # Who ----------------------------------------------------------------------------------------

    def issue(self, namespace, account, seconds=TOKEN_SECONDS, now=None):
        """A bound token of a service account: the token and when it expires."""
        found = self.api.find("serviceaccounts", namespace, account)
        if found is None:
            raise status.not_found(self.api.registry.get("", "serviceaccounts"), account)
        now = time.time() if now is None else now
        claims = {
            "aud": [AUDIENCE],
            "iss": AUDIENCE,
            "iat": int(now),
            "nbf": int(now),
            "exp": int(now + seconds),
            "jti": f"{self.api.random.getrandbits(64):016x}",
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": account, "uid": found["metadata"]["uid"]},
            },
        }
        body = _encode(b'{"alg":"HS256","typ":"JWT"}') + "." + _encode(json.dumps(claims).encode())
        return body + "." + self._signature(body), now + seconds

    def _signature(self, body):
        return _encode(hmac.new(self.key, body.encode(), hashlib.sha256).digest())

    def user_of_token(self, token):
        """The user of a token, or None if it is not valid now."""
        if token in self.revoked:
            return None
        if token in self.tokens:
            return self.tokens[token]
        body, _, signature = token.rpartition(".")
        if not body or not hmac.compare_digest(signature, self._signature(body)):
            return None
        claims = json.loads(_decode(body.split(".")[1]))
        if claims["exp"] < time.time():
            return None
        inner = claims["kubernetes.io"]
        namespace, name = inner["namespace"], inner["serviceaccount"]["name"]
        account = self.api.find("serviceaccounts", namespace, name)
        if account is None or account["metadata"]["uid"] != inner["serviceaccount"]["uid"]:
            return None
        return User(
            claims["sub"],
            (
                "system:serviceaccounts",
                f"system:serviceaccounts:{namespace}",
                "system:authenticated",
            ),
            account["metadata"]["uid"],
        )

    def user(self, authorization, certificate):
        """The user of a request; 401 for a credential that is no good."""
        kind, _, token = (authorization or "").partition(" ")
        if authorization:
            found = self.user_of_token(token.strip()) if kind.lower() == "bearer" else None
            if found is None:
                raise status.ApiError(401, "Unauthorized")
            return found
        if certificate:
            subject = [pair for part in certificate.get("subject", ()) for pair in part]
            names = [value for key, value in subject if key == "commonName"]
            groups = tuple(value for key, value in subject if key == "organizationName")
            if names:
                return User(names[0], groups + ("system:authenticated",))
        return ANONYMOUS

    # What ---------------------------------------------------------------------------------------

    def allowed(self, user, request):
        if user.is_master():
            return True
        return any(_permits(rule, request) for rule in self.rules(user, request.namespace))

    def rules(self, user, namespace):
        """The rules that hold for a user in a namespace, or in the cluster without one."""
        rbac = "rbac.authorization.k8s.io"
        for binding in self.api.store.objects((rbac, "clusterrolebindings")):
            if _binds(binding, user):
                yield from self._role_rules(binding["roleRef"], "")
        if namespace:
            for binding in self.api.store.objects((rbac, "rolebindings"), namespace):
                if _binds(binding, user):
                    yield from self._role_rules(binding["roleRef"], namespace)

    def _role_rules(self, reference, namespace):
        rbac = "rbac.authorization.k8s.io"
        if reference["kind"] == "Role":
            role = self.api.find("roles", namespace, reference["name"], rbac)
        else:
            role = self.api.find("clusterroles", "", reference["name"], rbac)
        if role is None:
            return
        yield from role.get("rules") or ()
        for selector in (role.get("aggregationRule") or {}).get("clusterRoleSelectors") or ():
            from .selectors import label_selector

            picks = label_selector(selector)
            for other in self.api.store.objects((rbac, "clusterroles")):
                if picks(other["metadata"].get("labels")):
                    yield from other.get("rules") or ()

    def require(self, user, request):
        """403, in the words of the server, unless the user may."""
        if self.allowed(user, request):
            return
        if request.path:
            raise status.ApiError(
                403,
                f'forbidden: User "{user.name}" cannot {request.verb} path "{request.path}"',
                details={},
            )
        qualified = f"{request.resource}.{request.group}" if request.group else request.resource
        subject = f'{qualified} "{request.name}"' if request.name else qualified
        where = (
            f'in the namespace "{request.namespace}"'
            if request.namespace
            else "at the cluster scope"
        )
        details = {"kind": request.resource}
        if request.name:
            details["name"] = request.name
        if request.group:
            details["group"] = request.group
        raise status.ApiError(
            403,
            f'{subject} is forbidden: User "{user.name}" cannot {request.verb} resource'
            f' "{request.full_resource}" in API group "{request.group}" {where}',
            details=details,
        )


def _binds(binding, user):
    for subject in binding.get("subjects") or ():
        kind, name = subject["kind"], subject["name"]
        if kind == "User" and name == user.name or kind == "Group" and name in user.groups:
            return True
        if kind == "ServiceAccount":
            namespace = subject.get("namespace") or binding["metadata"].get("namespace", "")
            if user.name == f"system:serviceaccount:{namespace}:{name}":
                return True
    return False


def _permits(rule, request):
    verbs = rule.get("verbs") or ()
    if "*" not in verbs and request.verb not in verbs:
        return False
    if request.path:
        return any(
            path == "*"
            or path == request.path
            or path.endswith("*")
            and request.path.startswith(path[:-1])
            for path in rule.get("nonResourceURLs") or ()
        )
    groups = rule.get("apiGroups") or ()
    if "*" not in groups and request.group not in groups:
        return False
    resources = rule.get("resources") or ()
    if not any(
        wanted in ("*", request.full_resource)
        or wanted == f"*/{request.subresource}"
        and request.subresource
        for wanted in resources
    ):
        return False
    names = rule.get("resourceNames") or ()
    return not names or request.name in names
