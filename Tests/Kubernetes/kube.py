"""A small client of the Kubernetes API: plain HTTP, nothing decided for the caller."""

import base64
import contextlib
import http.client
import json
import os
import ssl
import tempfile
import time
import urllib.parse

import yaml

MERGE = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
APPLY = "application/apply-patch+yaml"
WAIT_SECONDS = 60.0  # what takes so long does not come; a busy machine takes some of it
POLL_SECONDS = 0.02


def eventually(condition, what, timeout=WAIT_SECONDS):
    """Waits until condition() is true and returns its value; the error says what was waited for."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout:g} s: {what}; last: {value!r}"
        time.sleep(POLL_SECONDS)


class Answer:
    def __init__(self, response):
        self.code, self.headers, self.body = response.status, response.headers, response.read()

    def json(self):
        return json.loads(self.body)

    @property
    def warnings(self):
        return self.headers.get_all("Warning") or []

    def causes(self):
        """(reason, field) of each cause of a refusal."""
        return [(c.get("reason"), c.get("field")) for c in self.json()["details"].get("causes", ())]

    def expect(self, code):
        """The body, which must have come with this status."""
        assert self.code == code, f"{self.code}, not {code}: {self.body[:2000]!r}"
        return self.json()


class Watch:
    """A watch stream: next() gives an event, or None at its end."""

    def __init__(self, connection, response):
        self.connection, self.response = connection, response
        self.code, self.headers = response.status, response.headers

    def next(self):
        line = self.response.readline()
        return json.loads(line) if line else None

    def rest(self):
        """The events up to the end of the stream."""
        return list(iter(self.next, None))

    def close(self):
        self.response.close()
        self.connection.close()


class Kube:
    """The way to a server that a kubeconfig's current context describes."""

    def __init__(self, kubeconfig, token=None, anonymous=False):
        config = yaml.safe_load(open(kubeconfig, encoding="utf-8"))
        name = config["current-context"]
        context = next(c["context"] for c in config["contexts"] if c["name"] == name)
        cluster = next(c["cluster"] for c in config["clusters"] if c["name"] == context["cluster"])
        user = next(u["user"] for u in config["users"] if u["name"] == context["user"])
        self.kubeconfig = kubeconfig
        self.token = token or (None if anonymous else user.get("token"))
        self.server = urllib.parse.urlsplit(cluster["server"])
        self.context = ssl.create_default_context(cadata=_data(cluster, "certificate-authority"))
        if not token and not anonymous and _data(user, "client-certificate"):
            with tempfile.TemporaryDirectory() as folder:
                pair = os.path.join(folder, "pair.pem")
                with open(pair, "w", encoding="utf-8") as file:
                    file.write(_data(user, "client-certificate") + _data(user, "client-key"))
                self.context.load_cert_chain(pair)
        self._kept = None

    def _connection(self, timeout):
        return http.client.HTTPSConnection(
            self.server.hostname, self.server.port or 443, context=self.context, timeout=timeout
        )

    def _headers(self, kind, accept):
        headers = {"Accept": accept, "User-Agent": "weir-test/1.0"}
        if kind:
            headers["Content-Type"] = kind
        if self.token:
            headers["Authorization"] = f"Bearer {self.token}"
        return headers

    def call(self, method, path, value=None, kind=None, accept="application/json", **query):
        """One request; query parameters by their names."""
        if query:
            path += "?" + urllib.parse.urlencode(query)
        body = value
        if value is not None and not isinstance(value, (bytes, str)):
            body, kind = json.dumps(value), kind or "application/json"
        for attempt in (1, 2):  # an idle connection may have been closed meanwhile
            if self._kept is None:
                self._kept = self._connection(30)
            try:
                self._kept.request(method, path, body=body, headers=self._headers(kind, accept))
                return Answer(self._kept.getresponse())
            except (http.client.RemoteDisconnected, ConnectionError, BrokenPipeError):
                self.close()
                if attempt == 2:
                    raise
        return None

    def close(self):
        if self._kept:
            self._kept.close()
            self._kept = None

    def get(self, path, **query):
        return self.call("GET", path, **query)

    def post(self, path, value, **query):
        return self.call("POST", path, value, **query)

    def put(self, path, value, **query):
        return self.call("PUT", path, value, **query)

    def patch(self, path, value, kind=MERGE, **query):
        return self.call("PATCH", path, value, kind, **query)

    def delete(self, path, value=None, **query):
        return self.call("DELETE", path, value, **query)

    def apply(self, path, value, manager, **query):
        return self.call("PATCH", path, value, APPLY, fieldManager=manager, **query)

    @contextlib.contextmanager
    def watch(self, path, timeout=20.0, accept="application/json", **query):
        """A watch stream, on a connection of its own."""
        query = {"watch": "true", **query}
        connection = self._connection(timeout)
        connection.request(
            "GET", path + "?" + urllib.parse.urlencode(query), headers=self._headers(None, accept)
        )
        stream = Watch(connection, connection.getresponse())
        try:
            yield stream
        finally:
            stream.close()


def _data(entry, name):
    if entry.get(f"{name}-data"):
        return base64.b64decode(entry[f"{name}-data"]).decode()
    if entry.get(name):
        with open(entry[name], encoding="utf-8") as file:
            return file.read()
    return None
