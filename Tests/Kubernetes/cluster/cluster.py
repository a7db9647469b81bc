"""The whole test cluster: the store, the API, who may what, the controllers, and the nodes."""

import base64
import pathlib
import random
import secrets

import yaml

from . import access, api, certificates, clock, control, faults, kinds, server
from .controllers import Manager
from .store import Store, copy

BOOKMARK_SECONDS = 60.0
ADMIN = access.User("kubernetes-admin", (access.MASTERS, "system:authenticated"))


class Cluster:
    """Everything in one process and one event loop."""

    def __init__(self, folder, options):
        self.folder = pathlib.Path(folder)
        self.options = options
        self.random = random.Random(options.seed)
        self.clock = clock.Clock(options.scale)
        self.store = Store(options.history)
        self.registry = kinds.Registry()
        self.api = api.Api(self.store, self.registry, self.random)
        self.faults = faults.Faults(self.random)
        self.watch_list = options.watch_list
        self.bookmark_seconds = options.bookmark_seconds
        self.admin_token = secrets.token_urlsafe(24)
        self.access = access.Access(self.api, secrets.token_bytes(32), {self.admin_token: ADMIN})
        slices = self.registry.get("discovery.k8s.io", "endpointslices")
        slices.hidden_versions = frozenset({"v1", "v1beta1"} - set(options.endpoint_slices))
        self.server = server.Server(self, self.folder / "pki", port=options.port)
        self.control = control.Control(self, options.control_port)
        self.manager = Manager(self)

    async def start(self):
        certificates.make(self.folder / "pki")
        self._first_objects()
        await self.server.start()
        await self.control.start()
        self.write_kubeconfig()
        await self.manager.start()

    async def stop(self):
        await self.manager.stop()
        await self.control.stop()
        await self.server.stop()

    # What the parts ask of each other -----------------------------------------------------------

    def view(self, resource, version):
        """A function from stored objects to how a version shows them."""
        if version == resource.storage_version and not resource.stored_as:
            return lambda value: value
        return lambda value: resource.to_version(value, version)

    def create(self, plural, namespace, value, group=""):
        """For the controllers: creates an object of the kind's stored version."""
        resource = self.registry.get(group, plural)
        value = {"apiVersion": resource.api_version(), "kind": resource.kind, **value}
        return self.api.create(resource, namespace, value)

    def update(self, plural, value, group="", subresource=None):
        resource = self.registry.get(group, plural)
        meta = value["metadata"]
        return self.api.update(
            resource, meta.get("namespace", ""), meta["name"], value, api.SYSTEM, subresource
        )

    def delete(self, plural, namespace, name, group="", **body):
        return self.api.delete(self.registry.get(group, plural), namespace, name, body)

    def finalize(self, name, value):
        """A namespace's finalizers, which only its own subresource changes."""
        resource = self.registry.get("", "namespaces")
        old = copy(self.api.get(resource, "", name))
        old["spec"]["finalizers"] = (value.get("spec") or {}).get("finalizers") or []
        return self.api._save(resource, old)

    def logs(self, namespace, name):
        pods = self.registry.get("", "pods")
        self.api.get(pods, namespace, name)
        return self.manager.kubelet.logs(namespace, name)

    # Beginning ----------------------------------------------------------------------------------

    def _first_objects(self):
        for name in ("default", "kube-system", "kube-public", "kube-node-lease"):
            self.create("namespaces", "", {"metadata": {"name": name}})
        rbac = "rbac.authorization.k8s.io"
        discovery = {
            "verbs": ["get"],
            "nonResourceURLs": [
                "/api",
                "/api/*",
                "/apis",
                "/apis/*",
                "/healthz",
                "/livez",
                "/openapi",
                "/openapi/*",
                "/readyz",
                "/version",
                "/version/",
            ],
        }
        reviews = {
            "verbs": ["create"],
            "apiGroups": ["authorization.k8s.io"],
            "resources": ["selfsubjectaccessreviews", "selfsubjectrulesreviews"],
        }
        everything = [
            {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
            {"verbs": ["*"], "nonResourceURLs": ["*"]},
        ]
        roles = {
            "cluster-admin": everything,
            "system:discovery": [discovery],
            "system:basic-user": [reviews],
        }
        for name, rules in roles.items():
            self.create("clusterroles", "", {"metadata": {"name": name}, "rules": rules}, rbac)
        for role, group in (
            ("cluster-admin", access.MASTERS),
            ("system:discovery", "system:authenticated"),
            ("system:basic-user", "system:authenticated"),
        ):
            self.create(
                "clusterrolebindings",
                "",
                {
                    "metadata": {"name": role},
                    "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": role},
                    "subjects": [{"kind": "Group", "name": group}],
                },
                rbac,
            )

    # kubeconfig ---------------------------------------------------------------------------------

    def kubeconfig(self, users, current):
        """A kubeconfig for users by name, each with its credentials."""
        authority = (self.folder / "pki" / "ca.crt").read_bytes()
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [
                {
                    "name": "weir-test",
                    "cluster": {
                        "server": self.server.url,
                        "certificate-authority-data": base64.b64encode(authority).decode(),
                    },
                }
            ],
            "users": [{"name": name, "user": user} for name, user in users.items()],
            "contexts": [
                {
                    "name": name,
                    "context": {"cluster": "weir-test", "user": name, "namespace": "default"},
                }
                for name in users
            ],
            "current-context": current,
        }

    def write_kubeconfig(self):
        """kubeconfig: `admin` by a client certificate, `token` by the administrator's token."""
        pki = self.folder / "pki"
        users = {
            "admin": {
                "client-certificate-data": base64.b64encode(
                    (pki / "admin.crt").read_bytes()
                ).decode(),
                "client-key-data": base64.b64encode((pki / "admin.key").read_bytes()).decode(),
            },
            "token": {"token": self.admin_token},
        }
        path = self.folder / "kubeconfig"
        text = yaml.safe_dump(self.kubeconfig(users, "admin"), sort_keys=False)
        path.touch(mode=0o600)
        path.write_text(text, encoding="utf-8")
        return path
