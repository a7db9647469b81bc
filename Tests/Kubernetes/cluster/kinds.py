"""The kinds that the server serves: the built-in ones, and those that definitions add."""

import dataclasses

from . import builtin, convert

META_FIELDS = frozenset({"metadata.name", "metadata.namespace"})
ALL_VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclasses.dataclass
class Resource:
    """One kind: its names, where it is served, and how it behaves."""

    group: str
    versions: tuple  # the first is the one that is stored
    plural: str
    kind: str
    namespaced: bool = True
    short_names: tuple = ()
    categories: tuple = ()
    subresources: tuple = ()
    schemas: dict = dataclasses.field(default_factory=dict)
    field_labels: frozenset = META_FIELDS
    # A write without a resourceVersion replaces whatever is there.
    unconditional_update: bool = True
    # The definition's versions by name, for custom resources.
    custom: dict | None = None
    singular: str = ""
    list_kind: str = ""
    verbs: tuple = ALL_VERBS
    has_generation: bool = False
    # Deletion answers with the object and not with a Status.
    returns_deleted: bool = False
    hidden_versions: frozenset = frozenset()
    # Another kind, as which the objects are stored: (group, plural, apiVersion).
    stored_as: tuple | None = None

    def __post_init__(self):
        self.singular = self.singular or self.kind.lower()
        self.list_kind = self.list_kind or self.kind + "List"

    @property
    def key(self):
        """Under which the objects are stored."""
        return self.stored_as[:2] if self.stored_as else (self.group, self.plural)

    @property
    def stored_api_version(self):
        return self.stored_as[2] if self.stored_as else self.api_version()

    @property
    def storage_version(self):
        return self.versions[0]

    def served(self):
        return [v for v in self.versions if v not in self.hidden_versions]

    def api_version(self, version=None):
        version = version or self.storage_version
        return f"{self.group}/{version}" if self.group else version

    def schema(self, version=None):
        return self.schemas.get(version or self.storage_version) or self.schemas.get(
            self.storage_version
        )

    def has_status(self, version=None):
        if self.custom is not None:
            return "status" in self.custom[version or self.storage_version]["subresources"]
        return "status" in self.subresources

    def to_storage(self, value, version):
        """An object as it is stored, from how a version has it."""
        value = convert.to_storage(self, value, version)
        return {**value, "apiVersion": self.stored_api_version, "kind": self.kind}

    def to_version(self, value, version):
        value = convert.to_version(self, value, version)
        return {**value, "apiVersion": self.api_version(version), "kind": self.kind}


def _builtin(group, versions, plural, kind, type_name=None, **named):
    name = type_name or kind
    versions = tuple(versions.split())
    if name in builtin.types():
        named["schemas"] = {versions[0]: builtin.types()[name]}
    return Resource(group, versions, plural, kind, **named)


def _labels(*names):
    return META_FIELDS | set(names)


def builtin_resources():
    status, scaled = ("status",), ("status", "scale")
    pod_fields = _labels(
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "status.phase",
        "status.podIP",
        "status.nominatedNodeName",
    )
    event_fields = _labels(
        "involvedObject.kind",
        "involvedObject.name",
        "involvedObject.namespace",
        "involvedObject.uid",
        "involvedObject.apiVersion",
        "reason",
        "reportingComponent",
        "source",
        "type",
    )
    rbac = "rbac.authorization.k8s.io"
    admission = "admissionregistration.k8s.io"
    return [
        _builtin(
            "",
            "v1",
            "namespaces",
            "Namespace",
            namespaced=False,
            short_names=("ns",),
            subresources=("status", "finalize"),
            field_labels=_labels("status.phase"),
            returns_deleted=True,
            verbs=tuple(v for v in ALL_VERBS if v != "deletecollection"),
        ),
        _builtin(
            "",
            "v1",
            "nodes",
            "Node",
            namespaced=False,
            short_names=("no",),
            subresources=status,
            field_labels=_labels("spec.unschedulable"),
        ),
        _builtin(
            "",
            "v1",
            "pods",
            "Pod",
            short_names=("po",),
            categories=("all",),
            subresources=("status", "eviction", "binding", "log"),
            field_labels=pod_fields,
            returns_deleted=True,
        ),
        _builtin(
            "",
            "v1",
            "services",
            "Service",
            short_names=("svc",),
            categories=("all",),
            subresources=status,
            returns_deleted=True,
        ),
        _builtin("", "v1", "endpoints", "Endpoints", short_names=("ep",)),
        _builtin("", "v1", "configmaps", "ConfigMap", short_names=("cm",)),
        _builtin("", "v1", "secrets", "Secret", field_labels=_labels("type")),
        _builtin(
            "",
            "v1",
            "serviceaccounts",
            "ServiceAccount",
            short_names=("sa",),
            subresources=("token",),
            returns_deleted=True,
        ),
        _builtin(
            "",
            "v1",
            "resourcequotas",
            "ResourceQuota",
            short_names=("quota",),
            subresources=status,
            returns_deleted=True,
        ),
        _builtin(
            "",
            "v1",
            "persistentvolumeclaims",
            "PersistentVolumeClaim",
            short_names=("pvc",),
            subresources=status,
            returns_deleted=True,
        ),
        _builtin(
            "",
            "v1",
            "events",
            "Event",
            "CoreEvent",
            short_names=("ev",),
            field_labels=event_fields,
            stored_as=("events.k8s.io", "events", "events.k8s.io/v1"),
        ),
        _builtin(
            "apps",
            "v1",
            "deployments",
            "Deployment",
            short_names=("deploy",),
            categories=("all",),
            subresources=scaled,
            has_generation=True,
        ),
        _builtin(
            "apps",
            "v1",
            "replicasets",
            "ReplicaSet",
            short_names=("rs",),
            categories=("all",),
            subresources=scaled,
            has_generation=True,
            field_labels=_labels("status.replicas"),
        ),
        _builtin(
            "apps",
            "v1",
            "statefulsets",
            "StatefulSet",
            short_names=("sts",),
            categories=("all",),
            subresources=scaled,
            has_generation=True,
        ),
        _builtin("apps", "v1", "controllerrevisions", "ControllerRevision"),
        _builtin(
            "apps",
            "v1",
            "daemonsets",
            "DaemonSet",
            short_names=("ds",),
            categories=("all",),
            subresources=status,
            has_generation=True,
        ),
        _builtin(
            "events.k8s.io",
            "v1",
            "events",
            "Event",
            short_names=("ev",),
            field_labels=_labels(
                "reason",
                "regarding.kind",
                "regarding.name",
                "regarding.namespace",
                "reportingController",
                "type",
            ),
        ),
        _builtin(
            "discovery.k8s.io", "v1 v1beta1", "endpointslices", "EndpointSlice", has_generation=True
        ),
        _builtin("coordination.k8s.io", "v1", "leases", "Lease", unconditional_update=False),
        _builtin(
            "policy",
            "v1 v1beta1",
            "poddisruptionbudgets",
            "PodDisruptionBudget",
            short_names=("pdb",),
            subresources=status,
            has_generation=True,
        ),
        _builtin(
            "autoscaling",
            "v2 v1",
            "horizontalpodautoscalers",
            "HorizontalPodAutoscaler",
            short_names=("hpa",),
            categories=("all",),
            subresources=status,
        ),
        _builtin(
            "networking.k8s.io",
            "v1",
            "networkpolicies",
            "NetworkPolicy",
            short_names=("netpol",),
            has_generation=True,
        ),
        _builtin(
            "networking.k8s.io",
            "v1",
            "ingresses",
            "Ingress",
            short_names=("ing",),
            subresources=status,
            has_generation=True,
        ),
        _builtin(
            "scheduling.k8s.io",
            "v1",
            "priorityclasses",
            "PriorityClass",
            namespaced=False,
            short_names=("pc",),
        ),
        _builtin(rbac, "v1", "roles", "Role"),
        _builtin(rbac, "v1", "rolebindings", "RoleBinding"),
        _builtin(rbac, "v1", "clusterroles", "ClusterRole", namespaced=False),
        _builtin(rbac, "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False),
        _builtin(
            "apiextensions.k8s.io",
            "v1",
            "customresourcedefinitions",
            "CustomResourceDefinition",
            namespaced=False,
            short_names=("crd", "crds"),
            subresources=status,
            has_generation=True,
            unconditional_update=False,
            categories=("api-extensions",),
            returns_deleted=True,
        ),
        _builtin(
            admission,
            "v1",
            "validatingadmissionpolicies",
            "ValidatingAdmissionPolicy",
            namespaced=False,
            subresources=status,
            has_generation=True,
        ),
        _builtin(
            admission,
            "v1",
            "validatingadmissionpolicybindings",
            "ValidatingAdmissionPolicyBinding",
            namespaced=False,
            has_generation=True,
        ),
    ]


# Kinds that are answered and never stored: (group, version, plural) to (kind, namespaced).
REVIEWS = {
    ("authentication.k8s.io", "v1", "tokenreviews"): ("TokenReview", False),
    ("authorization.k8s.io", "v1", "subjectaccessreviews"): ("SubjectAccessReview", False),
    ("authorization.k8s.io", "v1", "localsubjectaccessreviews"): ("LocalSubjectAccessReview", True),
    ("authorization.k8s.io", "v1", "selfsubjectaccessreviews"): ("SelfSubjectAccessReview", False),
    ("authorization.k8s.io", "v1", "selfsubjectrulesreviews"): ("SelfSubjectRulesReview", False),
}


class Registry:
    """What is served, by group and plural."""

    def __init__(self):
        self.resources = {(r.group, r.plural): r for r in builtin_resources()}

    def find(self, group, version, plural):
        resource = self.resources.get((group, plural))
        return resource if resource and version in resource.served() else None

    def get(self, group, plural):
        return self.resources[(group, plural)]

    def by_kind(self, group, kind):
        for resource in self.resources.values():
            if resource.group == group and resource.kind == kind:
                return resource
        return None

    def add(self, resource):
        self.resources[resource.key] = resource

    def drop(self, key):
        self.resources.pop(key, None)

    def groups(self):
        """The versions of each group, preferred first."""
        found = {}
        for resource in self.resources.values():
            versions = found.setdefault(resource.group, [])
            versions += [v for v in resource.served() if v not in versions]
        for group, version, _ in REVIEWS:
            versions = found.setdefault(group, [])
            if version not in versions:
                versions.append(version)
        return {
            group: sorted(versions, key=_preference)
            for group, versions in found.items()
            if versions
        }

    # Discovery ----------------------------------------------------------------------------------

    def group_list(self):
        groups = [self.group_object(g) for g in sorted(self.groups()) if g]
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}

    def group_object(self, group):
        versions = [
            {"groupVersion": f"{group}/{version}", "version": version}
            for version in self.groups()[group]
        ]
        return {"name": group, "versions": versions, "preferredVersion": versions[0]}

    def resource_list(self, group, version):
        entries = []
        for resource in sorted(self.resources.values(), key=lambda r: r.plural):
            if resource.group == group and version in resource.served():
                entries += _entries(resource, version)
        for (g, v, plural), (kind, namespaced) in REVIEWS.items():
            if (g, v) == (group, version):
                entries.append(
                    {
                        "name": plural,
                        "singularName": kind.lower(),
                        "kind": kind,
                        "namespaced": namespaced,
                        "verbs": ["create"],
                    }
                )
        return {
            "kind": "APIResourceList",
            "apiVersion": "v1",
            "groupVersion": f"{group}/{version}" if group else version,
            "resources": entries,
        }


def _preference(version):
    """Kubernetes' order of versions: stable before beta before alpha, and newer before older."""
    import re

    match = re.fullmatch(r"v(\d+)(?:(alpha|beta)(\d+))?", version)
    if not match:
        return (1, 0, 0, 0, version)
    stage = {None: 2, "beta": 1, "alpha": 0}[match[2]]
    return (0, -stage, -int(match[1]), -int(match[3] or 0), version)


_SCALE = {"group": "autoscaling", "version": "v1", "kind": "Scale"}
_SUBRESOURCES = {
    "eviction": {"group": "policy", "version": "v1", "kind": "Eviction", "verbs": ["create"]},
    "binding": {"kind": "Binding", "verbs": ["create"]},
    "token": {
        "group": "authentication.k8s.io",
        "version": "v1",
        "kind": "TokenRequest",
        "verbs": ["create"],
    },
    "log": {"kind": "Pod", "verbs": ["get"]},
    "finalize": {"kind": "Namespace", "verbs": ["update"]},
}


def _entries(resource, version):
    entry = {
        "name": resource.plural,
        "singularName": resource.singular,
        "namespaced": resource.namespaced,
        "kind": resource.kind,
        "verbs": list(resource.verbs),
        "storageVersionHash": _storage_hash(resource),
    }
    if resource.short_names:
        entry["shortNames"] = list(resource.short_names)
    if resource.categories:
        entry["categories"] = list(resource.categories)
    subresources = resource.subresources
    if resource.custom is not None:
        subresources = tuple(resource.custom[version]["subresources"])
    found = [entry]
    for name in subresources:
        sub = {
            "name": f"{resource.plural}/{name}",
            "singularName": "",
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": ["get", "patch", "update"],
        }
        if name == "scale":
            sub.update(_SCALE)
        sub.update(_SUBRESOURCES.get(name, {}))
        found.append(sub)
    return found


def _storage_hash(resource):
    import base64
    import hashlib

    text = f"{resource.group}/{resource.storage_version}/{resource.kind}"
    return base64.b64encode(hashlib.sha256(text.encode()).digest()[:8]).decode()
