"""The API over HTTPS: from paths to verbs, and from stored objects to answers."""

import asyncio
import ssl
import urllib.parse

import orjson
import yaml
from aiohttp import web

from . import access, api as verbs, fields, kinds, lists, reviews, status, table, watches
from .documents import Documents

BODY_BYTES_MAX = 3 * 1024 * 1024
PATCH_KINDS = {
    "application/merge-patch+json": "merge",
    "application/json-patch+json": "json",
    "application/strategic-merge-patch+json": "strategic",
    "application/apply-patch+yaml": "apply",
    "application/apply-patch+cbor": None,
}
READ_VERBS = ("get", "list", "watch")


class Disconnect(Exception):
    """The connection is to be cut without an answer."""


class Asked:
    """A request after its path, its query and its user were looked at."""

    def __init__(self, http, request, user, resource=None, review=None):
        self.http, self.request, self.user = http, request, user
        self.resource, self.review = resource, review
        self.query = dict(http.query)
        self.options = None
        self.faults = {}

    @property
    def version(self):
        return self.request.version

    @property
    def namespace(self):
        """The namespace to look in; None for all."""
        if not self.resource.namespaced:
            return ""
        return self.request.namespace or None


def parse_path(method, path, query):
    """The resource's request that a path stands for, or None."""
    parts = [urllib.parse.unquote(part) for part in path.strip("/").split("/")]
    if parts[:2] == ["api", "v1"]:
        group, version, rest = "", "v1", parts[2:]
    elif parts[0] == "apis" and len(parts) > 3:
        group, version, rest = parts[1], parts[2], parts[3:]
    else:
        return None
    namespace = ""
    if rest and rest[0] == "watch":
        rest, query["watch"] = rest[1:], "true"
    if (
        len(rest) > 2
        and rest[0] == "namespaces"
        and not (len(rest) == 3 and rest[2] in ("status", "finalize"))
    ):
        namespace, rest = rest[1], rest[2:]
    elif len(rest) >= 2 and rest[0] == "namespaces":
        namespace = rest[1]
    if not rest or not rest[0]:
        return None
    name, sub = (rest[1:2] or [""])[0], "/".join(rest[2:])
    return access.Request(
        _verb(method, name, query), group, rest[0], sub, namespace, name, version=version
    )


def _verb(method, name, query):
    if method in ("GET", "HEAD"):
        if query.get("watch") in ("1", "true"):
            return "watch"
        return "get" if name else "list"
    if method == "DELETE":
        return "delete" if name else "deletecollection"
    return {"POST": "create", "PUT": "update", "PATCH": "patch"}.get(method, method.lower())


class Server:
    """Serves the API; can be stopped and started again, and keeps its address and its state."""

    def __init__(self, cluster, folder, address="127.0.0.1", port=0):
        self.cluster = cluster
        self.api = cluster.api
        self.folder = folder
        self.address, self.port = address, port
        self.documents = Documents(cluster)
        self.running = asyncio.Event()
        self.counts = {}
        self.streams = set()
        self._runner = None

    # Life ---------------------------------------------------------------------------------------

    async def start(self):
        if self._runner:
            return
        application = web.Application(client_max_size=BODY_BYTES_MAX)
        application.router.add_route("*", "/{path:.*}", self.handle)
        self._runner = web.AppRunner(
            application,
            access_log=None,
            shutdown_timeout=0.1,
            handle_signals=False,
            handler_cancellation=True,
        )
        await self._runner.setup()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.load_cert_chain(self.folder / "server.crt", self.folder / "server.key")
        context.load_verify_locations(self.folder / "ca.crt")
        context.verify_mode = ssl.CERT_OPTIONAL
        site = web.TCPSite(
            self._runner,
            self.address,
            self.port,
            ssl_context=context,
            reuse_address=True,
            backlog=1024,
        )
        await site.start()
        self.port = self._runner.addresses[0][1]
        self.running.set()

    async def stop(self):
        """Stops listening and cuts every connection; what is stored stays."""
        self.running.clear()
        self.cut_streams()
        runner, self._runner = self._runner, None
        if runner:
            await runner.cleanup()

    def cut_streams(self):
        """Cuts the connections of all watches."""
        for transport in tuple(self.streams):
            abort(transport)

    @property
    def url(self):
        host = f"[{self.address}]" if ":" in self.address else self.address
        return f"https://{host}:{self.port}"

    # One request --------------------------------------------------------------------------------

    async def handle(self, http):
        faults = {}
        try:
            asked = self._look(http)
            faults = asked.faults if isinstance(asked, Asked) else {}
            if not isinstance(asked, Asked):
                return asked
            if faults.get("delay"):
                await asyncio.sleep(faults["delay"])
            self._fail(asked, faults)
            response = await self._serve(asked)
            if faults.get("dropResponse"):
                raise Disconnect
        except status.ApiError as error:
            response = _refusal(error)
        except Disconnect:
            abort(http.transport)
            return web.Response(status=500)
        if faults.get("split") and isinstance(response, web.Response):
            return await _split(http, response, faults["split"])
        return response

    def _look(self, http):
        """The request behind an HTTP request; or its answer, where it is about no resource."""
        certificate = http.transport.get_extra_info("peercert") if http.transport else None
        user = self.cluster.access.user(http.headers.get("Authorization"), certificate)
        user = self._impersonated(user, http.headers)
        query = dict(http.query)
        request = parse_path(http.method, http.path, query)
        if request is None:
            asked = access.Request(http.method.lower(), path=http.path)
            self._count(asked, user)
            return self._document(http, user)
        self._count(request, user)
        faults = self.cluster.faults.meet(request, user)
        review = kinds.REVIEWS.get((request.group, request.version, request.resource))
        resource = self.cluster.registry.find(request.group, request.version, request.resource)
        self.cluster.access.require(user, request)
        if review is None and (resource is None or not _has_subresource(resource, request)):
            return web.Response(status=404, text="404 page not found\n")
        asked = Asked(http, request, user, resource, review)
        asked.faults = faults
        asked.query = query
        return asked

    def _impersonated(self, user, headers):
        name = headers.get("Impersonate-User")
        if not name:
            return user
        self.cluster.access.require(user, access.Request("impersonate", "", "users", name=name))
        groups = headers.getall("Impersonate-Group", [])
        return access.User(name, (*groups, "system:authenticated"))

    def _document(self, http, user):
        if http.path.rstrip("/") not in ("/healthz", "/livez", "/readyz", "/version"):
            self.cluster.access.require(
                user, access.Request("get", path=http.path.rstrip("/") or "/")
            )
        return self.documents.answer(http)

    def _count(self, request, user):
        key = (request.verb, request.resource or request.path, request.subresource, user.name)
        self.counts[key] = self.counts.get(key, 0) + 1

    def _fail(self, asked, faults):
        if faults.get("disconnect"):
            raise Disconnect
        if faults.get("tooLarge"):
            version = int(asked.query.get("resourceVersion") or 0)
            raise status.too_large(version or 10**9, self.api.store.version)
        code = faults.get("status")
        if code:
            raise status.ApiError(
                code,
                faults.get("message", f"a fault on purpose: {code}"),
                faults.get("reason"),
                {},
                retry_after=faults.get("retryAfter"),
            )

    async def _serve(self, asked):
        body = await asked.http.read()
        if asked.review:
            return _json(reviews.answer(self.cluster, asked, _decode(asked, body)), 201)
        verb = asked.request.verb
        if verb not in READ_VERBS:
            asked.options = self._options(asked)
        return await getattr(self, "_" + verb)(asked, body)

    def _options(self, asked):
        query = asked.query
        dry_run = query.get("dryRun", "")
        if dry_run not in ("", "All"):
            found = status.unsupported("dryRun", dry_run, ("All",))
            raise status.ApiError(
                422,
                f'CreateOptions.meta.k8s.io "" is invalid: {found}',
                "Invalid",
                {"causes": [found.cause()]},
            )
        agent = asked.http.headers.get("User-Agent", "unknown").split("/")[0]
        manager = query.get("fieldManager") or agent[: fields.MANAGER_CHARACTERS_MAX]
        fields.check_manager(manager)
        return verbs.Options(
            manager=manager,
            dry_run=bool(dry_run),
            force=query.get("force") in ("true", "1"),
            field_validation=query.get("fieldValidation") or "Warn",
            user=asked.user,
        )

    # Verbs --------------------------------------------------------------------------------------

    async def _get(self, asked, body):
        request, resource = asked.request, asked.resource
        if request.subresource == "scale":
            found = self.api.get_scale(resource, asked.version, asked.namespace, request.name)
            return _json(found)
        if request.subresource == "log":
            return web.Response(text=self.cluster.logs(asked.namespace, request.name))
        return self._object(asked, self.api.get(resource, asked.namespace, request.name))

    async def _list(self, asked, body):
        resource = asked.resource
        values, meta = lists.find(self.api.store, resource, asked.namespace, asked.query)
        shown = self.cluster.view(resource, asked.version)
        values = [shown(value) for value in values]
        if table.wanted(asked.http):
            return _json(
                table.of(resource, asked.version, values, meta, asked.query),
                warnings=_deprecation(asked),
            )
        if resource.custom is None:
            values = [
                {k: v for k, v in value.items() if k not in ("kind", "apiVersion")}
                for value in values
            ]
        return _json(
            {
                "kind": resource.list_kind,
                "apiVersion": resource.api_version(asked.version),
                "metadata": meta,
                "items": values,
            },
            warnings=_deprecation(asked),
        )

    async def _watch(self, asked, body):
        return await watches.stream(self, asked)

    async def _create(self, asked, body):
        request, resource = asked.request, asked.resource
        value = _decode(asked, body)
        if request.subresource == "eviction":
            self.api.evict(asked.namespace, request.name, value, asked.options)
            return _json(
                {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "metadata": {},
                    "status": "Success",
                    "code": 201,
                },
                201,
            )
        if request.subresource == "binding":
            node = (value.get("target") or {}).get("name", "")
            self.api.bind(asked.namespace, request.name, node)
            return _json(
                {
                    "kind": "Status",
                    "apiVersion": "v1",
                    "metadata": {},
                    "status": "Success",
                    "code": 201,
                },
                201,
            )
        if request.subresource == "token":
            return _json(reviews.token(self.cluster, asked, value), 201)
        if request.subresource or request.name:
            raise status.ApiError(
                405, "the server does not allow this method on the requested resource"
            )
        value = self._stored(asked, value)
        created = self.api.create(resource, asked.namespace, value, asked.options)
        return self._object(asked, created, 201)

    async def _update(self, asked, body):
        request, resource = asked.request, asked.resource
        value = _decode(asked, body)
        if request.subresource == "scale":
            return _json(
                self.api.put_scale(
                    resource, asked.version, asked.namespace, request.name, value, asked.options
                )
            )
        if request.subresource == "finalize":
            return self._object(asked, self.cluster.finalize(request.name, value))
        found = self.api.update(
            resource,
            asked.namespace,
            request.name,
            self._stored(asked, value),
            asked.options,
            request.subresource,
        )
        return self._object(asked, found)

    async def _patch(self, asked, body):
        request, resource = asked.request, asked.resource
        media = asked.http.content_type
        kind = PATCH_KINDS.get(media)
        if kind is None:
            raise status.ApiError(
                415,
                "the body of the request was in an unknown format - accepted media types include:"
                " application/json-patch+json, application/merge-patch+json,"
                " application/apply-patch+yaml",
            )
        if kind == "apply":
            return self._apply(asked, body)
        if asked.query.get("force"):
            raise status.bad_request("force is only allowed for apply patches")
        patch = _parse(body)
        if request.subresource == "scale":
            return _json(
                self.api.patch_scale(
                    resource,
                    asked.version,
                    asked.namespace,
                    request.name,
                    kind,
                    patch,
                    asked.options,
                )
            )
        found = self.api.patch(
            resource,
            asked.namespace,
            request.name,
            kind,
            patch,
            asked.options,
            request.subresource,
            asked.version,
        )
        return self._object(asked, found)

    def _apply(self, asked, body):
        request, resource = asked.request, asked.resource
        fields.check_manager(asked.query.get("fieldManager"), required_for_apply=True)
        try:
            value = yaml.load(body, yaml.CSafeLoader)
        except yaml.YAMLError as error:
            raise status.bad_request(f"error decoding YAML: {error}") from None
        if not isinstance(value, dict):
            raise status.bad_request("error decoding YAML: the body is no object")
        if request.subresource == "scale":
            return _json(
                self.api.patch_scale(
                    resource,
                    asked.version,
                    asked.namespace,
                    request.name,
                    "merge",
                    value,
                    asked.options,
                )
            )
        found, new = self.api.apply(
            resource,
            asked.namespace,
            request.name,
            self._stored(asked, value),
            asked.options,
            request.subresource,
        )
        return self._object(asked, found, 201 if new else 200)

    async def _delete(self, asked, body):
        request, resource = asked.request, asked.resource
        options = self._delete_options(asked, body)
        found, gone = self.api.delete(
            resource, asked.namespace, request.name, options, asked.options
        )
        if resource.returns_deleted or not gone:
            return self._object(asked, found)
        details = {"name": request.name, "kind": resource.plural, "uid": found["metadata"]["uid"]}
        if resource.group:
            details["group"] = resource.group
        return _json(
            {
                "kind": "Status",
                "apiVersion": "v1",
                "metadata": {},
                "status": "Success",
                "details": details,
            }
        )

    async def _deletecollection(self, asked, body):
        resource = asked.resource
        options = self._delete_options(asked, body)
        values, meta = lists.find(self.api.store, resource, asked.namespace, asked.query)
        for value in values:
            place = value["metadata"]
            self.api.delete(resource, place.get("namespace"), place["name"], options, asked.options)
        shown = self.cluster.view(resource, asked.version)
        return _json(
            {
                "kind": resource.list_kind,
                "apiVersion": resource.api_version(asked.version),
                "metadata": meta,
                "items": [shown(value) for value in values],
            }
        )

    def _delete_options(self, asked, body):
        options = _parse(body) if body else {}
        query = asked.query
        if query.get("gracePeriodSeconds"):
            options.setdefault("gracePeriodSeconds", int(query["gracePeriodSeconds"]))
        if query.get("propagationPolicy"):
            options.setdefault("propagationPolicy", query["propagationPolicy"])
        if options.get("dryRun") == ["All"]:
            asked.options.dry_run = True
        return options

    # Answers ------------------------------------------------------------------------------------

    def _stored(self, asked, value):
        """The object that a client sent, in the stored version."""
        resource, request = asked.resource, asked.request
        wanted = resource.api_version(request.version)
        if (
            value.get("kind", resource.kind) != resource.kind
            or value.get("apiVersion", wanted) != wanted
        ):
            raise status.bad_request(
                f"the API version in the data ({value.get('apiVersion')}) does not match the"
                f" expected API version ({wanted})"
                if value.get("apiVersion", wanted) != wanted
                else f"the object provided is unrecognized (must be of type {resource.kind}): got"
                f" {value.get('kind')}"
            )
        if resource.custom is not None and ("kind" not in value or "apiVersion" not in value):
            raise status.bad_request(
                "Object 'Kind' is missing in '" + orjson.dumps(value).decode() + "'"
            )
        if not isinstance(value.get("metadata", {}), dict):
            raise status.bad_request("metadata is no object")
        return resource.to_storage(value, request.version)

    def _object(self, asked, value, code=200):
        shown = self.cluster.view(asked.resource, asked.version)(value)
        warnings = list(asked.options.warnings) if asked.options else []
        if table.wanted(asked.http):
            meta = {"resourceVersion": value["metadata"].get("resourceVersion", "")}
            shown = table.of(asked.resource, asked.version, [shown], meta, asked.query)
        return _json(shown, code, warnings + _deprecation(asked))


def abort(transport):
    """Cuts a connection, unless it is gone already."""
    if transport is not None and not transport.is_closing():
        transport.abort()


def _has_subresource(resource, request):
    if not request.subresource:
        return True
    if resource.custom is not None:
        return request.subresource in resource.custom[request.version]["subresources"]
    return request.subresource in resource.subresources


def _deprecation(asked):
    custom = asked.resource.custom
    warning = custom[asked.version]["warning"] if custom else None
    return [warning] if warning else []


def _json(value, code=200, warnings=()):
    response = web.Response(body=orjson.dumps(value), status=code, content_type="application/json")
    for warning in warnings:
        escaped = warning.replace("\\", "\\\\").replace('"', '\\"')
        response.headers.add("Warning", f'299 - "{escaped}"')
    return response


def _refusal(error):
    response = _json(error.body(), error.code)
    if error.retry_after is not None:
        response.headers["Retry-After"] = str(error.retry_after)
    return response


def _parse(body):
    try:
        return orjson.loads(body)
    except ValueError as error:
        raise status.bad_request(f"the body of the request is no JSON: {error}") from None


def _decode(asked, body):
    media = asked.http.content_type
    if media in ("application/yaml", "text/yaml"):
        try:
            value = yaml.load(body, yaml.CSafeLoader)
        except yaml.YAMLError as error:
            raise status.bad_request(f"error decoding YAML: {error}") from None
    elif media in ("application/json", "application/octet-stream", "text/plain"):
        value = _parse(body)
    else:
        raise status.ApiError(
            415,
            "the body of the request was in an unknown format - accepted media"
            " types include: application/json, application/yaml",
        )
    if not isinstance(value, dict):
        raise status.bad_request("the body of the request is no object")
    return value


async def _split(http, response, size):
    """An answer in pieces."""
    stream = web.StreamResponse(status=response.status, headers=response.headers)
    stream.headers.pop("Content-Length", None)
    await stream.prepare(http)
    for start in range(0, len(response.body), size):
        await stream.write(response.body[start : start + size])
    await stream.write_eof()
    return stream
