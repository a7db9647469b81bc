"""What the server says about itself: versions, health, discovery, and its schemas."""

import orjson
from aiohttp import web

from . import openapi

VERSION = {
    "major": "1",
    "minor": "34",
    "gitVersion": "v1.34.0+test-cluster",
    "gitCommit": "",
    "gitTreeState": "clean",
    "buildDate": "2026-01-01T00:00:00Z",
    "goVersion": "",
    "compiler": "",
    "platform": "linux/amd64",
}
HEALTH = ("healthz", "livez", "readyz")


def _json(value):
    return web.Response(body=orjson.dumps(value), content_type="application/json")


class Documents:
    def __init__(self, cluster):
        self.cluster = cluster

    def answer(self, http):
        parts = http.path.strip("/").split("/")
        registry = self.cluster.registry
        if parts[0] in HEALTH:
            return web.Response(text="ok")
        if parts == ["version"]:
            return _json(VERSION)
        if parts == ["api"]:
            return _json(
                {
                    "kind": "APIVersions",
                    "versions": ["v1"],
                    "serverAddressByClientCIDRs": [
                        {"clientCIDR": "0.0.0.0/0", "serverAddress": http.host}
                    ],
                }
            )
        if parts == ["apis"]:
            return _json({**registry.group_list()})
        if parts == ["api", "v1"]:
            return _json(registry.resource_list("", "v1"))
        if parts[0] == "apis" and len(parts) in (2, 3):
            return self._group(parts)
        if parts[0] == "openapi":
            return openapi.answer(self.cluster, http, parts[1:])
        if parts == [""]:
            return _json(
                {
                    "paths": [
                        "/api",
                        "/apis",
                        "/healthz",
                        "/livez",
                        "/readyz",
                        "/version",
                        "/openapi/v2",
                        "/openapi/v3",
                    ]
                }
            )
        return web.Response(status=404, text="404 page not found\n")

    def _group(self, parts):
        registry = self.cluster.registry
        groups = registry.groups()
        if parts[1] not in groups or (len(parts) == 3 and parts[2] not in groups[parts[1]]):
            return web.Response(status=404, text="404 page not found\n")
        if len(parts) == 2:
            return _json(
                {"kind": "APIGroup", "apiVersion": "v1", **registry.group_object(parts[1])}
            )
        return _json(registry.resource_list(parts[1], parts[2]))
