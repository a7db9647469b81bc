"""The tests' own door to the cluster: faults, the clock, the server's life, nodes.

Plain HTTP on loopback, JSON in and out:

    GET    /state                 where everything is, and what there is
    POST   /faults                a fault (see faults.py) → {"id": n}
    GET    /faults                those that are active
    DELETE /faults[/ID]           one or all of them go
    POST   /server/stop|start     the API server goes and comes back; state and address stay
    POST   /watches/cut           cuts the connections of all watches
    POST   /compact               forgets all history: older versions are 410 from now on
    POST   /clock                 {"scale": 10} and/or {"advance": 3.5}
    POST   /options               {"watchList": false, "bookmarkSeconds": 1, "omitConditions": true,
                                  "duplicateEndpoints": true, "sliceEndpoints": 2, "coldStart": 0.5}
    POST   /nodes                 {"name": "gpu-1", "resources": {"nvidia.com/gpu": 8}}
    POST   /nodes/NAME/stop|start its kubelet is gone, or is back
    POST   /tokens                {"namespace": "x", "serviceAccount": "y", "seconds": 600} → token
    POST   /tokens/revoke         {"token": "…"}: 401 from now on
    POST   /users                 {"name": "jane", "groups": []}: a kubeconfig user's certificate
    GET    /requests              how many requests came, by verb, resource and user
    DELETE /requests              counts from nought again
    POST   /images                {"image": "broken:*=missing"}: what an image pattern stands for
"""

import base64

import orjson
from aiohttp import web

from . import certificates, status
from .nodes.images import Images

OPTIONS = {
    "omitConditions": "omit_conditions",
    "duplicateEndpoints": "duplicate_endpoints",
    "sliceEndpoints": "slice_endpoints",
    "coldStart": "cold_start",
}


def _json(value=None, code=200):
    return web.Response(
        body=orjson.dumps(value if value is not None else {}),
        status=code,
        content_type="application/json",
    )


class Control:
    def __init__(self, cluster, port):
        self.cluster, self.port = cluster, port
        self._runner = None

    async def start(self):
        application = web.Application()
        add = application.router.add_route
        add("GET", "/state", self.state)
        add("POST", "/faults", self.add_fault)
        add("GET", "/faults", self.faults)
        add("DELETE", "/faults", self.drop_fault)
        add("DELETE", "/faults/{id}", self.drop_fault)
        add("POST", "/server/{action}", self.server)
        add("POST", "/watches/cut", self.cut)
        add("POST", "/compact", self.compact)
        add("POST", "/clock", self.clock)
        add("POST", "/options", self.options)
        add("POST", "/nodes", self.add_node)
        add("POST", "/nodes/{name}/{action}", self.node)
        add("POST", "/tokens", self.token)
        add("POST", "/tokens/revoke", self.revoke)
        add("POST", "/users", self.user)
        add("GET", "/requests", self.requests)
        add("DELETE", "/requests", self.forget_requests)
        add("POST", "/images", self.image)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()
        self.port = self._runner.addresses[0][1]

    async def stop(self):
        if self._runner:
            await self._runner.cleanup()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    async def state(self, http):
        cluster = self.cluster
        counts = {
            ".".join(filter(None, reversed(key))): len(kind.objects)
            for key, kind in cluster.store.kinds.items()
            if kind.objects
        }
        return _json(
            {
                "server": cluster.server.url,
                "control": self.url,
                "folder": str(cluster.folder),
                "kubeconfig": str(cluster.folder / "kubeconfig"),
                "token": cluster.admin_token,
                "ca": str(cluster.folder / "pki" / "ca.crt"),
                "running": cluster.server.running.is_set(),
                "resourceVersion": cluster.store.version,
                "clock": cluster.clock.now(),
                "watches": len(cluster.server.streams),
                "objects": counts,
            }
        )

    async def add_fault(self, http):
        try:
            return _json({"id": self.cluster.faults.add(await http.json())})
        except ValueError as error:
            return _json({"error": str(error)}, 400)

    async def faults(self, http):
        return _json([{"id": n, **fault} for n, fault in self.cluster.faults.active.items()])

    async def drop_fault(self, http):
        number = http.match_info.get("id")
        self.cluster.faults.remove(int(number) if number else None)
        return _json()

    async def server(self, http):
        action = http.match_info["action"]
        if action not in ("stop", "start"):
            return _json({"error": "say stop or start"}, 404)
        await getattr(self.cluster.server, action)()
        return _json()

    async def cut(self, http):
        count = len(self.cluster.server.streams)
        self.cluster.server.cut_streams()
        return _json({"cut": count})

    async def compact(self, http):
        self.cluster.store.compact()
        return _json({"resourceVersion": self.cluster.store.version})

    async def clock(self, http):
        wanted = await http.json()
        if "scale" in wanted:
            self.cluster.clock.set_scale(float(wanted["scale"]))
        if "advance" in wanted:
            self.cluster.clock.advance(float(wanted["advance"]))
        return _json({"clock": self.cluster.clock.now()})

    async def options(self, http):
        wanted = await http.json()
        for name, value in wanted.items():
            if name == "watchList":
                self.cluster.watch_list = bool(value)
            elif name == "bookmarkSeconds":
                self.cluster.bookmark_seconds = float(value)
            elif name in OPTIONS:
                setattr(self.cluster.options, OPTIONS[name], value)
            else:
                return _json({"error": f"there is no option {name!r}"}, 400)
        return _json()

    async def add_node(self, http):
        wanted = await http.json()
        try:
            self.cluster.manager.kubelet.add_node(
                wanted["name"],
                {k: str(v) for k, v in (wanted.get("resources") or {}).items()},
                wanted.get("labels"),
            )
        except status.ApiError as error:
            return _json({"error": error.message}, error.code)
        return _json()

    async def node(self, http):
        name, action = http.match_info["name"], http.match_info["action"]
        if action not in ("stop", "start") or name not in self.cluster.manager.kubelet.nodes:
            return _json({"error": "no such node, or neither stop nor start"}, 404)
        self.cluster.manager.kubelet.set_node(name, action == "start")
        return _json()

    async def token(self, http):
        wanted = await http.json()
        try:
            token, expires = self.cluster.access.issue(
                wanted["namespace"], wanted["serviceAccount"], wanted.get("seconds", 3600)
            )
        except status.ApiError as error:
            return _json({"error": error.message}, error.code)
        return _json({"token": token, "expires": expires})

    async def revoke(self, http):
        self.cluster.access.revoked.add((await http.json())["token"])
        return _json()

    async def user(self, http):
        wanted = await http.json()
        pki, name = self.cluster.folder / "pki", wanted["name"]
        certificates.client(pki, name, name, *wanted.get("groups", ()))
        user = {
            "client-certificate-data": base64.b64encode(
                (pki / f"{name}.crt").read_bytes()
            ).decode(),
            "client-key-data": base64.b64encode((pki / f"{name}.key").read_bytes()).decode(),
        }
        return _json(self.cluster.kubeconfig({name: user}, name))

    async def requests(self, http):
        return _json(
            [
                {
                    "verb": verb,
                    "resource": resource,
                    "subresource": sub,
                    "user": user,
                    "count": count,
                }
                for (verb, resource, sub, user), count in self.cluster.server.counts.items()
            ]
        )

    async def forget_requests(self, http):
        self.cluster.server.counts.clear()
        return _json()

    async def image(self, http):
        images = Images([(await http.json())["image"]])
        self.cluster.manager.kubelet.images.entries[:0] = images.entries[:1]
        return _json()
