"""The schemas of all kinds, as OpenAPI v3 (one document for each group and version) and v2."""

import hashlib

import orjson
from aiohttp import web

from . import builtin


def definition_name(resource, version):
    """The name of a kind's schema: upstream's for built-in kinds, reversed domains for others."""
    if resource.custom is not None:
        reverse = ".".join(reversed(resource.group.split(".")))
        return f"{reverse}.{version}.{resource.kind}"
    group = resource.group.split(".")[0] or "core"
    return f"io.k8s.api.{group}.{version}.{resource.kind}"


def _reference(name, prefix):
    """A reference in a list, since a reference can have nothing beside it."""
    return {"$ref": prefix + name}


def _type_name(name):
    if name in ("ObjectMeta", "OwnerReference", "LabelSelector", "LabelSelectorRequirement"):
        return f"io.k8s.apimachinery.pkg.apis.meta.v1.{name}"
    return f"io.k8s.api.core.v1.{name}"


def _exported(schema, prefix, v2):
    """A schema with references as the document names them."""
    if isinstance(schema, list):
        return [_exported(item, prefix, v2) for item in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema and str(schema["$ref"]).startswith("#") and "/" not in schema["$ref"]:
        return _reference(_type_name(schema["$ref"][1:]), prefix)
    found = {}
    for key, value in schema.items():
        if v2 and key in ("oneOf", "anyOf", "allOf", "not", "nullable"):
            continue
        if key in ("properties", "patternProperties") and isinstance(value, dict):
            found[key] = {name: _exported(inner, prefix, v2) for name, inner in value.items()}
        elif key in ("items", "additionalProperties", "not", "allOf", "anyOf", "oneOf"):
            found[key] = _exported(value, prefix, v2)
        elif key == "x-kubernetes-int-or-string" and not schema.get("type"):
            found.update({"type": "string", "format": "int-or-string"})
        else:
            found[key] = value
    return found


def _kind_schema(resource, version, prefix, v2):
    schema = dict(
        resource.schema(version) or {"type": "object", "x-kubernetes-preserve-unknown-fields": True}
    )
    properties = dict(schema.get("properties", {}))
    properties.setdefault(
        "apiVersion", {"type": "string", "description": "The version of the schema of this object."}
    )
    properties.setdefault("kind", {"type": "string", "description": "The kind of this object."})
    properties["metadata"] = {"$ref": "#ObjectMeta"}
    schema["properties"] = properties
    exported = _exported(schema, prefix, v2)
    exported["x-kubernetes-group-version-kind"] = [
        {"group": resource.group, "version": version, "kind": resource.kind}
    ]
    return exported


def _schemas(registry, group, version, prefix, v2=False):
    found = {}
    for name, schema in builtin.types().items():
        if "apiVersion" in schema.get("properties", ()) and "metadata" in schema["properties"]:
            continue
        found[_type_name(name)] = _exported(schema, prefix, v2)
    for resource in registry.resources.values():
        for served in resource.served():
            if group is None or (resource.group, served) == (group, version):
                found[definition_name(resource, served)] = _kind_schema(
                    resource, served, prefix, v2
                )
    return found


_ACTIONS = {
    "get": "get",
    "list": "list",
    "post": "post",
    "put": "put",
    "patch": "patch",
    "delete": "delete",
}
_PATCHES = (
    "application/json-patch+json",
    "application/merge-patch+json",
    "application/apply-patch+yaml",
)


def _paths(registry, group, version):
    """The paths of each kind, with the kind and the query parameters that kubectl looks for."""
    found = {}
    for resource in registry.resources.values():
        for served in resource.served():
            if group is not None and (resource.group, served) != (group, version):
                continue
            root = f"/apis/{resource.group}/{served}" if resource.group else f"/api/{served}"
            if resource.namespaced:
                root += "/namespaces/{namespace}"
            kind = {"group": resource.group, "version": served, "kind": resource.kind}
            collection, item = f"{root}/{resource.plural}", f"{root}/{resource.plural}/{{name}}"
            found[collection] = _operations(kind, ("get", "post", "delete"), collection=True)
            found[item] = _operations(kind, ("get", "put", "patch", "delete"))
    return found


def _operations(kind, methods, collection=False):
    operations = {}
    for method in methods:
        action = (
            "list"
            if collection and method == "get"
            else "deletecollection"
            if collection and method == "delete"
            else method
        )
        operation = {
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": kind,
            "parameters": [
                {"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": True}}
                for name in ("dryRun", "fieldManager", "fieldValidation")
            ],
            "responses": {"200": {"description": "OK"}},
        }
        if method == "patch":
            operation["requestBody"] = {"content": {media: {} for media in _PATCHES}}
        operations[method] = operation
    return operations


def answer(cluster, http, parts):
    registry = cluster.registry
    if parts[:1] == ["v3"]:
        return _v3(registry, http, parts[1:])
    if parts == ["v2"]:
        return _v2(registry, http)
    return web.Response(status=404, text="404 page not found\n")


def _v3(registry, http, parts):
    places = {
        ("api/v1" if not group else f"apis/{group}/{version}"): (group, version)
        for group, versions in registry.groups().items()
        for version in versions
    }
    if not parts:
        paths = {}
        for place, (group, version) in places.items():
            kinds = [
                definition_name(r, version)
                for r in registry.resources.values()
                if r.group == group and version in r.served()
            ]
            schemas = [r.schema(version) for r in registry.resources.values() if r.group == group]
            mark = hashlib.sha256(orjson.dumps([kinds, schemas])).hexdigest()[:32].upper()
            paths[place] = {"serverRelativeURL": f"/openapi/v3/{place}?hash={mark}"}
        return _json({"paths": paths})
    if "/".join(parts) not in places:
        return web.Response(status=404, text="404 page not found\n")
    group, version = places["/".join(parts)]
    return _json(
        {
            "openapi": "3.0.0",
            "info": {"title": "Kubernetes", "version": "v1.34.0"},
            "paths": _paths(registry, group, version),
            "components": {"schemas": _schemas(registry, group, version, "#/components/schemas/")},
        }
    )


def _v2(registry, http):
    document = {
        "swagger": "2.0",
        "info": {"title": "Kubernetes", "version": "v1.34.0"},
        "paths": {},
        "definitions": _schemas(registry, None, None, "#/definitions/", v2=True),
    }
    if "proto-openapi" in http.headers.get("Accept", ""):
        from . import gnostic

        # The name in Accept is no media type that kubectl could parse in an answer.
        return web.Response(body=gnostic.encode(document), content_type="application/octet-stream")
    return _json(document)


def _json(value):
    return web.Response(body=orjson.dumps(value), content_type="application/json")
