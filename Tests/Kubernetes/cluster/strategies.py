"""What is particular to single built-in kinds: defaults, validation, and what a write may touch."""

import re

from . import quantity, selectors, status

NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
QUALIFIED = re.compile(r"([a-z0-9.-]+/)?([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]")
NAME_WORDS = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.',"
    " and must start and end with an alphanumeric character (e.g. 'example.com', regex used for"
    " validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
ANNOTATIONS_BYTES_MAX = 256 * 1024


def metadata_problems(resource, meta):
    """The problems of an object's metadata."""
    problems = []
    name = meta.get("name", "")
    relaxed = resource.group == "rbac.authorization.k8s.io"
    if not name:
        problems.append(status.required("metadata.name", "name or generateName is required"))
    elif relaxed:
        if name in (".", "..") or "/" in name or "%" in name:
            problems.append(
                status.invalid_value("metadata.name", name, "may not contain '/' or '%'")
            )
    elif len(name) > 253 or not NAME.fullmatch(name):
        problems.append(status.invalid_value("metadata.name", name, NAME_WORDS))
    elif resource.key in (("", "services"), ("", "namespaces")) and (
        len(name) > 63 or not LABEL.fullmatch(name)
    ):
        problems.append(
            status.invalid_value(
                "metadata.name", name, "must be no more than 63 characters of a DNS label"
            )
        )
    for key, value in (meta.get("labels") or {}).items():
        if not QUALIFIED.fullmatch(key):
            problems.append(
                status.invalid_value(
                    "metadata.labels",
                    key,
                    "name part must consist of alphanumeric characters, '-', '_' or '.'",
                )
            )
        if not isinstance(value, str) or len(value) > 63 or not LABEL_VALUE.fullmatch(value):
            problems.append(
                status.invalid_value(
                    "metadata.labels",
                    value,
                    "a valid label must be an"
                    " empty string or consist of alphanumeric characters, '-', '_' or '.',"
                    " and must start and end with an alphanumeric character",
                )
            )
    annotations = meta.get("annotations") or {}
    size = sum(len(k) + len(v) for k, v in annotations.items() if isinstance(v, str))
    if size > ANNOTATIONS_BYTES_MAX:
        problems.append(
            status.Problem(
                "FieldValueTooLong",
                "metadata.annotations",
                f"Too long: may not be more than {ANNOTATIONS_BYTES_MAX} bytes",
            )
        )
    for index, owner in enumerate(meta.get("ownerReferences") or ()):
        for field in ("apiVersion", "kind", "name", "uid"):
            if not owner.get(field):
                problems.append(
                    status.invalid_value(
                        f"metadata.ownerReferences[{index}].{field}", "", "must not be empty"
                    )
                )
    controllers = sum(bool(o.get("controller")) for o in meta.get("ownerReferences") or ())
    if controllers > 1:
        problems.append(
            status.invalid_value(
                "metadata.ownerReferences",
                meta["ownerReferences"],
                "Only one reference can have Controller set to true.",
            )
        )
    return problems


# Defaults ---------------------------------------------------------------------------------------


def _default(value, **fields):
    for name, inner in fields.items():
        if value.get(name) is None:
            value[name] = inner


def _default_probe(probe):
    _default(probe, timeoutSeconds=1, periodSeconds=10, successThreshold=1, failureThreshold=3)
    if probe.get("httpGet"):
        _default(probe["httpGet"], path="/", scheme="HTTP")


def _default_container(container):
    image = container.get("image", "")
    latest = ":" not in image.rsplit("/", 1)[-1] or image.endswith(":latest")
    _default(
        container,
        resources={},
        terminationMessagePath="/dev/termination-log",
        terminationMessagePolicy="File",
        imagePullPolicy="Always" if latest and "@" not in image else "IfNotPresent",
    )
    for port in container.get("ports") or ():
        _default(port, protocol="TCP")
    for env in container.get("env") or ():
        reference = (env.get("valueFrom") or {}).get("fieldRef")
        if reference:
            _default(reference, apiVersion="v1")
    for name in ("livenessProbe", "readinessProbe", "startupProbe"):
        if container.get(name):
            _default_probe(container[name])
    limits = container["resources"].get("limits")
    if limits:
        requests = container["resources"].setdefault("requests", {})
        for name, value in limits.items():
            requests.setdefault(name, value)


def default_pod_spec(spec):
    _default(
        spec,
        restartPolicy="Always",
        terminationGracePeriodSeconds=30,
        dnsPolicy="ClusterFirst",
        securityContext={},
        schedulerName="default-scheduler",
    )
    for name in ("containers", "initContainers"):
        for container in spec.get(name) or ():
            _default_container(container)
    if spec.get("serviceAccountName"):
        spec["serviceAccount"] = spec["serviceAccountName"]
    for volume in spec.get("volumes") or ():
        for kind in ("configMap", "secret", "projected"):
            if volume.get(kind):
                _default(volume[kind], defaultMode=420)


def _default_pod(value):
    default_pod_spec(value["spec"])
    _default(
        value["spec"],
        serviceAccountName="default",
        serviceAccount="default",
        enableServiceLinks=True,
        preemptionPolicy="PreemptLowerPriority",
        priority=0,
    )
    if "tolerations" not in value["spec"]:
        value["spec"]["tolerations"] = [
            {
                "key": f"node.kubernetes.io/{taint}",
                "operator": "Exists",
                "effect": "NoExecute",
                "tolerationSeconds": 300,
            }
            for taint in ("not-ready", "unreachable")
        ]


def _template(value):
    template = value["spec"].setdefault("template", {})
    template.setdefault("metadata", {}).setdefault("creationTimestamp", None)
    default_pod_spec(template.setdefault("spec", {}))


def _default_deployment(value):
    spec = value["spec"]
    _default(spec, replicas=1, revisionHistoryLimit=10, progressDeadlineSeconds=600, strategy={})
    _default(spec["strategy"], type="RollingUpdate")
    if spec["strategy"]["type"] == "RollingUpdate":
        _default(spec["strategy"], rollingUpdate={})
        _default(spec["strategy"]["rollingUpdate"], maxUnavailable="25%", maxSurge="25%")
    _template(value)


def _default_replica_set(value):
    _default(value["spec"], replicas=1)
    _template(value)


def _default_stateful_set(value):
    _default(
        value["spec"],
        replicas=1,
        revisionHistoryLimit=10,
        podManagementPolicy="OrderedReady",
        updateStrategy={"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        serviceName="",
    )
    _template(value)


def _default_service(value):
    spec = value["spec"]
    _default(
        spec,
        type="ClusterIP",
        sessionAffinity="None",
        internalTrafficPolicy="Cluster",
        ipFamilies=["IPv4"],
        ipFamilyPolicy="SingleStack",
    )
    for port in spec.get("ports") or ():
        _default(port, protocol="TCP", targetPort=port.get("port"))


def _default_disruption_budget(value):
    if value["spec"].get("minAvailable") is None and value["spec"].get("maxUnavailable") is None:
        value["spec"]["minAvailable"] = 1


def _default_autoscaler(value):
    _default(value["spec"], minReplicas=1)


def _default_binding(value):
    _default(value["roleRef"], apiGroup="rbac.authorization.k8s.io")
    for subject in value.get("subjects") or ():
        if subject.get("kind") in ("User", "Group"):
            _default(subject, apiGroup="rbac.authorization.k8s.io")


def _default_slice(value):
    for port in value.get("ports") or ():
        _default(port, name="", protocol="TCP")


def _default_namespace(value):
    value["spec"]["finalizers"] = value["spec"].get("finalizers") or ["kubernetes"]
    value["metadata"].setdefault("labels", {})["kubernetes.io/metadata.name"] = value[
        "metadata"
    ].get("name", "")


def _default_definition(value):
    spec = value["spec"]
    names = spec.setdefault("names", {})
    if names.get("kind"):
        _default(names, singular=names["kind"].lower(), listKind=names["kind"] + "List")
    _default(spec, conversion={"strategy": "None"})


_SPEC_DEFAULTS = {
    "pods": _default_pod,
    "deployments": _default_deployment,
    "replicasets": _default_replica_set,
    "statefulsets": _default_stateful_set,
    "services": _default_service,
    "poddisruptionbudgets": _default_disruption_budget,
    "horizontalpodautoscalers": _default_autoscaler,
    "namespaces": _default_namespace,
    "customresourcedefinitions": _default_definition,
}
_WHOLE_DEFAULTS = {
    "rolebindings": _default_binding,
    "clusterrolebindings": _default_binding,
    "endpointslices": _default_slice,
}


def default(resource, value):
    """Fills in the defaults of a built-in kind, in place."""
    if resource.plural in _SPEC_DEFAULTS:
        if not isinstance(value.get("spec"), dict):
            value["spec"] = {}
        _SPEC_DEFAULTS[resource.plural](value)
    elif resource.plural in _WHOLE_DEFAULTS:
        _WHOLE_DEFAULTS[resource.plural](value)
    elif resource.plural == "secrets":
        _default(value, type="Opaque")
        _encode_strings(value)


def _encode_strings(value):
    import base64

    for name, text in (value.pop("stringData", None) or {}).items():
        value.setdefault("data", {})[name] = base64.b64encode(text.encode()).decode()


# Validation -------------------------------------------------------------------------------------


def _pod_spec_problems(spec, path):
    problems = []
    if not spec.get("containers"):
        problems.append(status.required(f"{path}.containers"))
    names = set()
    for group in ("initContainers", "containers"):
        for index, container in enumerate(spec.get(group) or ()):
            place = f"{path}.{group}[{index}]"
            problems += _container_problems(container, place)
            if container.get("name") in names:
                problems.append(status.duplicate(f"{place}.name", container["name"]))
            names.add(container.get("name"))
    grace = spec.get("terminationGracePeriodSeconds", 0)
    if grace < 0:
        problems.append(
            status.invalid_value(
                f"{path}.terminationGracePeriodSeconds", grace, "must be greater than or equal to 0"
            )
        )
    if spec.get("restartPolicy") not in ("Always", "OnFailure", "Never"):
        problems.append(
            status.unsupported(
                f"{path}.restartPolicy", spec.get("restartPolicy"), ("Always", "OnFailure", "Never")
            )
        )
    return problems


def _container_problems(container, path):
    problems = []
    name = container.get("name", "")
    if not name:
        problems.append(status.required(f"{path}.name"))
    elif len(name) > 63 or not LABEL.fullmatch(name):
        problems.append(
            status.invalid_value(
                f"{path}.name",
                name,
                "a lowercase RFC 1123 label must"
                " consist of lower case alphanumeric characters or '-'",
            )
        )
    if not container.get("image"):
        problems.append(status.required(f"{path}.image"))
    for index, port in enumerate(container.get("ports") or ()):
        number = port.get("containerPort", 0)
        if not 0 < number < 65536:
            problems.append(
                status.invalid_value(
                    f"{path}.ports[{index}].containerPort",
                    number,
                    "must be between 1 and 65535, inclusive",
                )
            )
    resources = container.get("resources") or {}
    for group in ("limits", "requests"):
        for resource, amount in (resources.get(group) or {}).items():
            problems += _amount_problems(f"{path}.resources.{group}[{resource}]", resource, amount)
    for resource, limit in (resources.get("limits") or {}).items():
        asked = (resources.get("requests") or {}).get(resource, limit)
        if not _quantities(limit, asked):
            continue
        low, high = quantity.parse(asked), quantity.parse(limit)
        if low > high:
            problems.append(
                status.invalid_value(
                    f"{path}.resources.requests",
                    asked,
                    f"must be less than or equal to {resource} limit of {limit}",
                )
            )
        elif extended(resource) and low != high:
            problems.append(
                status.invalid_value(
                    f"{path}.resources.requests",
                    asked,
                    f"must be equal to {resource} limit of {limit}",
                )
            )
    for resource in resources.get("requests") or {}:
        if extended(resource) and resource not in (resources.get("limits") or {}):
            problems.append(
                status.required(
                    f"{path}.resources.limits",
                    "Limit must be set for non overcommitable resources",
                )
            )
    return problems


def extended(name):
    """Whether a resource is one of its own kind, such as nvidia.com/gpu: counted in wholes."""
    return "/" in name and "kubernetes.io/" not in name


def _quantities(*texts):
    try:
        for text in texts:
            quantity.parse(text)
    except ValueError:
        return False
    return True


def _amount_problems(path, resource, amount):
    if not _quantities(amount):
        return [
            status.invalid_value(
                path,
                amount,
                "quantities must match the regular expression"
                " '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
            )
        ]
    value = quantity.parse(amount)
    if value < 0:
        return [status.invalid_value(path, amount, "must be greater than or equal to 0")]
    if extended(resource) and value != int(value):
        return [status.invalid_value(path, amount, "must be an integer")]
    return []


def _workload_problems(value, old):
    spec, problems = value["spec"], []
    replicas = spec.get("replicas", 1)
    if replicas < 0:
        problems.append(
            status.invalid_value("spec.replicas", replicas, "must be greater than or equal to 0")
        )
    selector = spec.get("selector")
    if not selector:
        problems.append(status.required("spec.selector"))
    elif not (selector.get("matchLabels") or selector.get("matchExpressions")):
        problems.append(
            status.invalid_value(
                "spec.selector", selector, "empty selector is invalid for deployment"
            )
        )
    else:
        labels = (spec["template"].get("metadata") or {}).get("labels") or {}
        if not selectors.label_selector(selector)(labels):
            problems.append(
                status.invalid_value(
                    "spec.template.metadata.labels",
                    labels,
                    "`selector` does not match template `labels`",
                )
            )
    if old and old["spec"].get("selector") != selector:
        problems.append(status.invalid_value("spec.selector", selector, "field is immutable"))
    return problems + _pod_spec_problems(spec["template"]["spec"], "spec.template.spec")


def _deployment_problems(value, old):
    problems = _workload_problems(value, old)
    strategy = value["spec"]["strategy"]
    rolling = strategy.get("rollingUpdate")
    if strategy["type"] not in ("Recreate", "RollingUpdate"):
        problems.append(
            status.unsupported(
                "spec.strategy.type", strategy["type"], ("Recreate", "RollingUpdate")
            )
        )
    elif strategy["type"] == "Recreate" and rolling:
        problems.append(
            status.not_allowed(
                "spec.strategy.rollingUpdate",
                "may not be specified when strategy `type` is 'Recreate'",
            )
        )
    elif (
        rolling
        and str(rolling["maxSurge"]) in ("0", "0%")
        and str(rolling["maxUnavailable"]) in ("0", "0%")
    ):
        problems.append(
            status.invalid_value(
                "spec.strategy.rollingUpdate.maxUnavailable",
                rolling["maxUnavailable"],
                "may not be 0 when `maxSurge` is 0",
            )
        )
    return problems


# What of a pod's spec may change once it exists.
_POD_MUTABLE = ("activeDeadlineSeconds", "tolerations", "terminationGracePeriodSeconds")


def _pod_problems(value, old):
    problems = _pod_spec_problems(value["spec"], "spec")
    if old and _fixed(value["spec"]) != _fixed(old["spec"]):
        problems.append(
            status.not_allowed(
                "spec",
                "pod updates may not change fields other than"
                " `spec.containers[*].image`,`spec.initContainers[*].image`,"
                "`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to existing"
                " tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1"
                " if it was previously negative)",
            )
        )
    return problems


def _fixed(spec):
    fixed = {k: v for k, v in spec.items() if k not in _POD_MUTABLE}
    for name in ("containers", "initContainers"):
        fixed[name] = [{k: v for k, v in c.items() if k != "image"} for c in spec.get(name) or ()]
    return fixed


def _service_problems(value, old):
    problems, spec = [], value["spec"]
    if not spec.get("ports") and spec.get("clusterIP") != "None" and spec["type"] != "ExternalName":
        problems.append(status.required("spec.ports"))
    seen = set()
    for index, port in enumerate(spec.get("ports") or ()):
        place = f"spec.ports[{index}]"
        if not 0 < (port.get("port") or 0) < 65536:
            problems.append(
                status.invalid_value(
                    f"{place}.port", port.get("port"), "must be between 1 and 65535, inclusive"
                )
            )
        if len(spec["ports"]) > 1 and not port.get("name"):
            problems.append(status.required(f"{place}.name"))
        key = (port.get("port"), port.get("protocol"))
        if key in seen:
            problems.append(status.duplicate(place, {"port": key[0], "protocol": key[1]}))
        seen.add(key)
    before = (old or {}).get("spec", {}).get("clusterIP")
    if before and spec.get("clusterIP") and spec["clusterIP"] != before:
        problems.append(
            status.invalid_value(
                "spec.clusterIPs[0]", [spec["clusterIP"]], "may not change once set"
            )
        )
    return problems


def _lease_problems(value, old):
    spec, problems = value.get("spec") or {}, []
    seconds = spec.get("leaseDurationSeconds")
    if seconds is not None and seconds <= 0:
        problems.append(
            status.invalid_value("spec.leaseDurationSeconds", seconds, "must be greater than 0")
        )
    transitions = spec.get("leaseTransitions")
    if transitions is not None and transitions < 0:
        problems.append(
            status.invalid_value(
                "spec.leaseTransitions", transitions, "must be greater than or equal to 0"
            )
        )
    for name in ("acquireTime", "renewTime"):
        if spec.get(name) and not re.fullmatch(
            r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}(Z|[+-]\d\d:\d\d)", spec[name]
        ):
            raise status.bad_request(
                f'Lease in version "v1" cannot be handled as a Lease: parsing time'
                f' "{spec[name]}" as'
                ' "2006-01-02T15:04:05.000000Z07:00": cannot parse'
            )
    return problems


def _event_problems(value, old):
    problems, old = [], old or value
    if not value.get("eventTime"):
        return problems  # an event of the core group's old form
    regarding = value.get("regarding") or {}
    namespace = value["metadata"].get("namespace")
    wanted = regarding.get("namespace") or "default"
    if namespace != wanted and not (not regarding.get("namespace") and namespace == "kube-system"):
        problems.append(
            status.invalid_value(
                "involvedObject.namespace",
                regarding.get("namespace", ""),
                "does not match event.namespace",
            )
        )
    for name in ("reportingController", "reportingInstance", "action", "reason"):
        if not value.get(name):
            problems.append(status.required(name))
        elif len(value[name]) > 128:
            problems.append(status.invalid_value(name, "", "can have at most 128 characters"))
    if value.get("reportingController") and not QUALIFIED.fullmatch(value["reportingController"]):
        problems.append(
            status.invalid_value(
                "reportingController",
                value["reportingController"],
                "name part must consist of alphanumeric characters",
            )
        )
    if value.get("type") not in ("Normal", "Warning"):
        problems.append(
            status.invalid_value("type", "", f"has invalid value: {value.get('type', '')}")
        )
    if len(value.get("note", "")) > 1024:
        problems.append(status.invalid_value("message", "", "can have at most 1024 characters"))
    series = value.get("series")
    if series and series.get("count", 0) < 2:
        problems.append(status.invalid_value("series.count", "", "should be at least 2"))
    for name in (
        "regarding",
        "reason",
        "action",
        "note",
        "reportingController",
        "eventTime",
        "type",
        "reportingInstance",
    ):
        if value.get(name) != old.get(name):
            problems.append(status.invalid_value(name, value.get(name), "field is immutable"))
    return problems


def _slice_problems(value, old):
    problems = []
    kind = value.get("addressType")
    if kind not in ("IPv4", "IPv6", "FQDN"):
        problems.append(
            status.required("addressType")
            if not kind
            else status.unsupported("addressType", kind, ("FQDN", "IPv4", "IPv6"))
        )
    elif old and old.get("addressType") != kind:
        problems.append(status.invalid_value("addressType", kind, "field is immutable"))
    endpoints = value.get("endpoints") or ()
    if len(endpoints) > 1000:
        problems.append(
            status.Problem(
                "FieldValueTooMany",
                "endpoints",
                f"Too many: {len(endpoints)}: must have at most 1000 items",
            )
        )
    for index, endpoint in enumerate(endpoints):
        if not endpoint.get("addresses"):
            problems.append(
                status.required(f"endpoints[{index}].addresses", "must contain at least 1 address")
            )
    return problems


def _budget_problems(value, old):
    spec = value["spec"]
    if spec.get("minAvailable") is not None and spec.get("maxUnavailable") is not None:
        return [
            status.invalid_value("spec", spec, "minAvailable and maxUnavailable cannot be both set")
        ]
    return []


def _binding_problems(value, old):
    if old and old["roleRef"] != value["roleRef"]:
        return [status.invalid_value("roleRef", value["roleRef"], "cannot change roleRef")]
    if value["roleRef"].get("kind") not in ("Role", "ClusterRole"):
        return [
            status.unsupported(
                "roleRef.kind", value["roleRef"].get("kind"), ("Role", "ClusterRole")
            )
        ]
    return []


CONFIG_KEY = re.compile(r"[-._a-zA-Z0-9]+")


def _map_problems(value, old):
    wrong = [
        key
        for name in ("data", "binaryData")
        for key in value.get(name) or ()
        if not CONFIG_KEY.fullmatch(key) or len(key) > 253
    ]
    if wrong:
        return [
            status.invalid_value(
                f"data[{key}]",
                key,
                "a valid config key must consist of"
                " alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or"
                " 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')",
            )
            for key in wrong
        ]
    if (
        old
        and old.get("immutable")
        and (old.get("data") != value.get("data") or not value.get("immutable"))
    ):
        return [status.not_allowed("data", "field is immutable when `immutable` is set")]
    return []


def _autoscaler_problems(value, old):
    spec = value["spec"]
    if (spec.get("maxReplicas") or 0) < 1:
        return [
            status.invalid_value(
                "spec.maxReplicas", spec.get("maxReplicas", 0), "must be greater than 0"
            )
        ]
    return []


_VALIDATORS = {
    "pods": _pod_problems,
    "deployments": _deployment_problems,
    "replicasets": _workload_problems,
    "statefulsets": _workload_problems,
    "services": _service_problems,
    "leases": _lease_problems,
    "events": _event_problems,
    "endpointslices": _slice_problems,
    "poddisruptionbudgets": _budget_problems,
    "rolebindings": _binding_problems,
    "clusterrolebindings": _binding_problems,
    "configmaps": _map_problems,
    "secrets": _map_problems,
    "horizontalpodautoscalers": _autoscaler_problems,
}


def problems(resource, value, old=None):
    """What is wrong with an object of a built-in kind; `old` is what it replaces."""
    check = _VALIDATORS.get(resource.plural)
    return check(value, old) if check else []
