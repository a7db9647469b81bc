"""Single requests, to look at answers rather than to make load."""

import http.client
import json
import ssl


class Answer:
    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    def json(self):
        return json.loads(self.body)


def call(port, method, path, body=None, headers=None, timeout=30.0, scheme="http"):
    if scheme == "https":
        # What is compared are proxies that this program has started itself.
        connection = http.client.HTTPSConnection(
            "127.0.0.1", port, timeout=timeout, context=ssl._create_unverified_context()
        )
    else:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    fields = dict(headers or {})
    if body is not None:
        fields.setdefault("content-type", "application/json")
    try:
        connection.request(method, path, body=body, headers=fields)
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
    finally:
        connection.close()
