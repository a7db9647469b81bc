"""What is decided besides the object itself: namespaces, quotas, budgets, classes."""

import decimal

from . import quantity, selectors, status
from .store import copy


def namespace_is_open(api, resource, namespace, name):
    """Things are created in namespaces that exist and are not on their way out."""
    if not resource.namespaced:
        return
    found = api.find("namespaces", "", namespace)
    if found is None:
        raise status.not_found(api.registry.get("", "namespaces"), namespace)
    if found["metadata"].get("deletionTimestamp"):
        raise status.forbidden(
            resource,
            name,
            f"unable to create new content in namespace {namespace} because it is being terminated",
            [
                {
                    "reason": "NamespaceTerminating",
                    "field": "metadata.namespace",
                    "message": f"namespace {namespace} is being terminated",
                }
            ],
        )


def admit_create(api, resource, value):
    if resource.key == ("", "pods"):
        _service_account(api, value)
        _priority(api, value)
        _quota(api, resource, value)
    elif resource.key == ("", "services"):
        _cluster_address(api, value)


def _service_account(api, pod):
    namespace, name = pod["metadata"]["namespace"], pod["spec"]["serviceAccountName"]
    if not api.find("serviceaccounts", namespace, name):
        raise status.forbidden(
            api.registry.get("", "pods"),
            pod["metadata"]["name"],
            f"error looking up service account {namespace}/{name}:"
            f' serviceaccount "{name}" not found',
        )


def _priority(api, pod):
    name = pod["spec"].get("priorityClassName")
    if not name:
        return
    found = api.find("priorityclasses", "", name, "scheduling.k8s.io")
    if found is None and not name.startswith("system-"):
        raise status.forbidden(
            api.registry.get("", "pods"),
            pod["metadata"]["name"],
            f"no PriorityClass with name {name} was found",
        )
    pod["spec"]["priority"] = found["value"] if found else 2_000_000_000


def _cluster_address(api, service):
    spec = service["spec"]
    if spec.get("clusterIP") or spec["type"] == "ExternalName":
        if spec.get("clusterIP"):
            spec["clusterIPs"] = [spec["clusterIP"]]
        return
    used = {s["spec"].get("clusterIP") for s in api.store.kinds[("", "services")].objects.values()}
    for number in range(1, 1 << 16):
        address = f"10.96.{number >> 8}.{number & 255}"
        if address not in used:
            spec["clusterIP"], spec["clusterIPs"] = address, [address]
            return


# Quotas -----------------------------------------------------------------------------------------


def pod_requests(pod):
    """What a pod asks for in all, by resource: the containers together, or the largest of the
    containers that run before them."""
    total = {}
    for container in pod["spec"].get("containers") or ():
        for name, amount in ((container.get("resources") or {}).get("requests") or {}).items():
            total[name] = total.get(name, decimal.Decimal(0)) + quantity.parse(amount)
    for container in pod["spec"].get("initContainers") or ():
        for name, amount in ((container.get("resources") or {}).get("requests") or {}).items():
            total[name] = max(total.get(name, decimal.Decimal(0)), quantity.parse(amount))
    return total


def _pod_usage(pod):
    """What a pod takes of a quota, under the names that quotas use."""
    usage = {"pods": decimal.Decimal(1), "count/pods": decimal.Decimal(1)}
    for name, amount in pod_requests(pod).items():
        usage[f"requests.{name}"] = amount
        if "/" not in name:
            usage[name] = amount
    for container in pod["spec"].get("containers") or ():
        for name, amount in ((container.get("resources") or {}).get("limits") or {}).items():
            key = f"limits.{name}"
            usage[key] = usage.get(key, decimal.Decimal(0)) + quantity.parse(amount)
    return usage


def _in_scope(pod, spec):
    for item in (spec.get("scopeSelector") or {}).get("matchExpressions") or ():
        if item.get("scopeName") != "PriorityClass":
            continue
        name, wanted = pod["spec"].get("priorityClassName"), item.get("values") or ()
        holds = {
            "In": name in wanted,
            "NotIn": name not in wanted,
            "Exists": bool(name),
            "DoesNotExist": not name,
        }[item["operator"]]
        if not holds:
            return False
    return True


def quota_usage(api, quota):
    """What is used of each resource that a quota bounds."""
    namespace, spec = quota["metadata"]["namespace"], quota["spec"]
    used = {name: decimal.Decimal(0) for name in spec.get("hard") or {}}
    for pod in api.store.objects(("", "pods"), namespace):
        if pod["status"].get("phase") in ("Succeeded", "Failed") or not _in_scope(pod, spec):
            continue
        for name, amount in _pod_usage(pod).items():
            if name in used:
                used[name] += amount
    for name in used:
        if name.startswith("count/") and name != "count/pods":
            plural, _, group = name[len("count/") :].partition(".")
            used[name] = decimal.Decimal(len(api.store.objects((group, plural), namespace)))
    return used


def _quota(api, resource, pod):
    asked = _pod_usage(pod)
    for quota in api.store.objects(("", "resourcequotas"), pod["metadata"]["namespace"]):
        spec = quota["spec"]
        if not _in_scope(pod, spec):
            continue
        hard = {name: quantity.parse(text) for name, text in (spec.get("hard") or {}).items()}
        used = quota_usage(api, quota)
        missing = sorted(
            name
            for name in hard
            if name
            in ("cpu", "memory", "requests.cpu", "requests.memory", "limits.cpu", "limits.memory")
            and name not in asked
        )
        name = quota["metadata"]["name"]
        if missing:
            raise status.forbidden(
                resource,
                pod["metadata"]["name"],
                f"failed quota: {name}: must specify {','.join(missing)}",
            )
        over = sorted(n for n in hard if n in asked and used[n] + asked[n] > hard[n])
        if over:

            def listed(amounts):
                return ",".join(f"{n}={quantity.show(amounts[n])}" for n in over)

            raise status.forbidden(
                resource,
                pod["metadata"]["name"],
                f"exceeded quota: {name}, requested:"
                f" {listed(asked)}, used: {listed(used)}, limited: {listed(hard)}",
            )


def quality_of_service(pod):
    containers = pod["spec"].get("containers") or ()
    core = ("cpu", "memory")
    wanted = [c.get("resources") or {} for c in containers]
    if not any(n in (w.get(k) or {}) for w in wanted for k in ("limits", "requests") for n in core):
        return "BestEffort"
    for resources in wanted:
        limits, requests = resources.get("limits") or {}, resources.get("requests") or {}
        if any(n not in limits or requests.get(n, limits[n]) != limits[n] for n in core):
            return "Burstable"
    return "Guaranteed"


# Disruption budgets -----------------------------------------------------------------------------


def ready(pod):
    return any(
        c["type"] == "Ready" and c["status"] == "True"
        for c in pod["status"].get("conditions") or ()
    )


def disruption_allowed(api, pod, options):
    """Takes one disruption from the pod's budget, or refuses with 429."""
    if pod["status"].get("phase") in ("Succeeded", "Failed", "Pending") or pod["metadata"].get(
        "deletionTimestamp"
    ):
        return
    namespace, resource = (
        pod["metadata"]["namespace"],
        api.registry.get("policy", "poddisruptionbudgets"),
    )
    budgets = [
        b
        for b in api.store.objects(resource.key, namespace)
        if selectors.label_selector(b["spec"].get("selector"))(pod["metadata"].get("labels"))
    ]
    if not budgets:
        return
    if len(budgets) > 1:
        raise status.internal(
            "This pod has more than one PodDisruptionBudget, which the eviction"
            " subresource does not support."
        )
    budget = budgets[0]
    now = budget.get("status") or {}
    if not ready(pod) and (
        budget["spec"].get("unhealthyPodEvictionPolicy") == "AlwaysAllow"
        or now.get("currentHealthy", 0) >= now.get("desiredHealthy", 1) > 0
    ):
        return
    if now.get("observedGeneration", 0) < budget["metadata"]["generation"]:
        raise status.ApiError(
            429,
            "Cannot evict pod as it would violate the pod's disruption budget.",
            details={
                "causes": [
                    {
                        "reason": "DisruptionBudget",
                        "message": f"The disruption budget {budget['metadata']['name']} is"
                        " still being processed by the server.",
                    }
                ]
            },
            retry_after=10,
        )
    if now.get("disruptionsAllowed", 0) <= 0:
        raise status.ApiError(
            429,
            "Cannot evict pod as it would violate the pod's disruption budget.",
            details={
                "causes": [
                    {
                        "reason": "DisruptionBudget",
                        "message": f"The disruption budget {budget['metadata']['name']} needs"
                        f" {now.get('desiredHealthy', 0)} healthy pods and has"
                        f" {now.get('currentHealthy', 0)} currently",
                    }
                ]
            },
        )
    if options.dry_run:
        return
    changed = copy(budget)
    changed["status"]["disruptionsAllowed"] -= 1
    changed["status"].setdefault("disruptedPods", {})[pod["metadata"]["name"]] = pod["metadata"][
        "creationTimestamp"
    ]
    api.store.put(resource.key, changed)
