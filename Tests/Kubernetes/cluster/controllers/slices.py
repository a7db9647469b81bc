"""EndpointSlices: the addresses of every service's pods, and whether each may be used."""

from ..store import copy
from . import base

KEY = ("discovery.k8s.io", "endpointslices")
SERVICE = "kubernetes.io/service-name"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"
MANAGER = "endpointslice-controller.k8s.io"


class EndpointSlices(base.Controller):
    name = "endpoint-slice-controller"

    def __init__(self, cluster):
        super().__init__(cluster)
        self.watches = {
            ("", "services"): self._service_keys,
            ("", "pods"): self._pod_keys,
            KEY: self._slice_keys,
        }
        self.resource = cluster.registry.get("", "services")
        self.selecting = {}

    def _service_keys(self, event):
        """Keeps which services look for which label, by the first of each selector."""
        namespace = event.object["metadata"]["namespace"]
        key = base.key_of(event.object)
        for value in (event.previous, event.object):
            for name, wanted in (value or {}).get("spec", {}).get("selector", {}).items():
                services = self.selecting.setdefault((namespace, name, wanted), {})
                services.pop(key, None)
                if value is event.object and event.type != "DELETED":
                    services[key] = True
                if not services:
                    del self.selecting[(namespace, name, wanted)]
                break
        yield key

    def _pod_keys(self, event):
        namespace = event.object["metadata"]["namespace"]
        for value in (event.object, event.previous):
            for name, found in ((value or {}).get("metadata", {}).get("labels") or {}).items():
                yield from tuple(self.selecting.get((namespace, name, found), ()))

    def _slice_keys(self, event):
        labels = event.object["metadata"].get("labels") or {}
        if labels.get(MANAGED_BY) == MANAGER:
            yield (event.object["metadata"]["namespace"], labels.get(SERVICE, ""))

    def sync(self, key):
        service = self.find("services", *key)
        if (
            service is None
            or service["metadata"].get("deletionTimestamp")
            or not service["spec"].get("selector")
        ):
            return
        groups = {}
        for pod in self._pods(service):
            ports = self._ports(service, pod)
            groups.setdefault(str(ports), (ports, []))[1].append(self._endpoint(service, pod))
        labels = {SERVICE: key[1], MANAGED_BY: MANAGER}
        mine = sorted(self.store.select(KEY, key[0], labels), key=base.key_of)
        if not groups:
            groups[""] = (self._ports(service, None), [])
        for ports, endpoints in groups.values():
            same = [s for s in mine if (s.get("ports") or []) == ports]
            mine = [s for s in mine if s not in same]
            self._place(service, ports, endpoints, same)
        for leftover in mine:
            self.cluster.delete("endpointslices", key[0], leftover["metadata"]["name"], KEY[0])

    def _pods(self, service):
        selector = {"matchLabels": service["spec"]["selector"]}
        return [
            pod
            for pod in self.pods(service["metadata"]["namespace"], selector)
            if pod["status"].get("podIP")
            and pod["status"].get("phase") not in ("Succeeded", "Failed")
        ]

    def _ports(self, service, pod):
        ports = []
        for port in service["spec"].get("ports") or ():
            number = port.get("targetPort", port["port"])
            if isinstance(number, str):
                number = self._named(pod, number)
                if number is None:
                    continue
            shown = {"name": port.get("name", ""), "port": number, "protocol": port["protocol"]}
            if port.get("appProtocol"):
                shown["appProtocol"] = port["appProtocol"]
            ports.append(shown)
        return ports

    def _named(self, pod, name):
        for container in pod["spec"]["containers"] if pod else ():
            for port in container.get("ports") or ():
                if port.get("name") == name:
                    return port["containerPort"]
        return None

    def _endpoint(self, service, pod):
        ready = base.is_ready(pod)
        leaving = bool(pod["metadata"].get("deletionTimestamp"))
        shown = bool(service["spec"].get("publishNotReadyAddresses"))
        meta = pod["metadata"]
        endpoint = {
            "addresses": [pod["status"]["podIP"]],
            "conditions": {
                "ready": shown or ready and not leaving,
                "serving": ready,
                "terminating": leaving,
            },
            "targetRef": {
                "kind": "Pod",
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            },
        }
        node = self.find("nodes", "", pod["spec"].get("nodeName", ""))
        if node:
            endpoint["nodeName"] = node["metadata"]["name"]
            zone = (node["metadata"].get("labels") or {}).get("topology.kubernetes.io/zone")
            if zone:
                endpoint["zone"] = zone
        return self._as_wanted(endpoint)

    def _as_wanted(self, endpoint):
        """Leaves out conditions that have their default, if the tests want to see that."""
        if self.cluster.options.omit_conditions:
            conditions = endpoint["conditions"]
            defaults = {"ready": True, "serving": conditions["ready"], "terminating": False}
            endpoint["conditions"] = {k: v for k, v in conditions.items() if defaults[k] != v}
        return endpoint

    def _place(self, service, ports, endpoints, slices):
        """Puts endpoints into slices: where they are already, then where there is room."""
        room = self.cluster.options.slice_endpoints
        wanted = {e["targetRef"]["uid"]: e for e in endpoints}
        filled = []
        for each in slices:
            kept = [
                wanted.pop(e["targetRef"]["uid"])
                for e in each["endpoints"]
                if e.get("targetRef", {}).get("uid") in wanted
            ][:room]
            filled.append((each, kept))
        left = list(wanted.values())
        for _, kept in filled:
            while left and len(kept) < room:
                kept.append(left.pop(0))
        while left or not filled:
            filled.append((None, left[:room]))
            left = left[room:]
        self._duplicate(filled)
        for each, kept in filled:
            if each is None:
                self._create(service, ports, kept)
            elif not kept and len(filled) > 1:
                self.cluster.delete(
                    "endpointslices",
                    each["metadata"]["namespace"],
                    each["metadata"]["name"],
                    KEY[0],
                )
            elif each["endpoints"] != kept:
                changed = copy(each)
                changed["endpoints"] = kept
                self.cluster.update("endpointslices", changed, KEY[0])

    def _duplicate(self, filled):
        """The same endpoint in two slices, as happens while it moves, if the tests want that."""
        if self.cluster.options.duplicate_endpoints and len(filled) > 1:
            for (_, first), (_, second) in zip(filled, filled[1:]):
                if first and first[0] not in second:
                    second.append(first[0])

    def _create(self, service, ports, endpoints):
        meta = service["metadata"]
        labels = {**(meta.get("labels") or {}), SERVICE: meta["name"], MANAGED_BY: MANAGER}
        if service["spec"].get("clusterIP") == "None":
            labels["service.kubernetes.io/headless"] = ""
        self.cluster.create(
            "endpointslices",
            meta["namespace"],
            {
                "metadata": {
                    "generateName": meta["name"] + "-",
                    "labels": labels,
                    "ownerReferences": [base.reference(self.resource, service)],
                },
                "addressType": "IPv4",
                "endpoints": endpoints,
                "ports": ports,
            },
            KEY[0],
        )
