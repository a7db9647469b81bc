"""The controllers that run beside the server, and the manager that runs them."""

from ..nodes.kubelet import Kubelet
from ..nodes.scheduler import Scheduler
from .base import Queue
from .budgets import Budgets, Quotas
from .definitions import DefinitionCleanup
from .deployments import Deployments
from .garbage import Garbage
from .namespaces import Namespaces
from .replicasets import ReplicaSets
from .slices import EndpointSlices
from .statefulsets import StatefulSets

KINDS = (
    Namespaces,
    Garbage,
    DefinitionCleanup,
    Deployments,
    ReplicaSets,
    StatefulSets,
    EndpointSlices,
    Budgets,
    Quotas,
    Scheduler,
)


class Manager:
    """Starts the controllers and feeds them the changes in the store."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.kubelet = Kubelet(cluster)
        self.controllers = [] if cluster.options.no_controllers else [k(cluster) for k in KINDS]
        self.queues = [Queue(cluster, controller) for controller in self.controllers]
        cluster.store.listeners.append(self._changed)

    def _changed(self, key, event):
        for controller in self.controllers:
            handler = controller.watches.get(key)
            if handler:
                for name in handler(event) or ():
                    controller.queue.add(name)
        self.kubelet.changed(key, event)

    async def start(self):
        for controller in self.controllers:
            for key, handler in controller.watches.items():
                for value in self.cluster.store.objects(key):
                    for name in handler(_Present(value)) or ():
                        controller.queue.add(name)
        for queue in self.queues:
            queue.start()
        await self.kubelet.start()

    async def stop(self):
        for queue in self.queues:
            queue.stop()
        await self.kubelet.stop()


class _Present:
    """An object that was there before the controllers, as an event."""

    def __init__(self, value):
        self.type, self.object, self.previous = "ADDED", value, None
