"""Lists: which objects, at which version, in pages."""

import base64
import json

from . import selectors, status

EXPIRED = (
    "The provided continue parameter is too old to display a consistent list result. You can start"
    " a new list without the continue parameter, or use the continue token in this response to"
    " retrieve the remainder of the results. Continuing with the provided token results in an"
    " inconsistent list - objects that were created, modified, or deleted between the time the"
    " first chunk was returned and now may show up in the list."
)


def _token(version, start):
    data = {"v": "meta.k8s.io/v1", "rv": version, "start": start}
    return base64.urlsafe_b64encode(json.dumps(data).encode()).rstrip(b"=").decode()


def _read_token(text):
    try:
        data = json.loads(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)))
        return int(data["rv"]), str(data["start"])
    except (ValueError, KeyError, TypeError):
        raise status.bad_request("continue key is not valid: invalid token") from None


def version_number(text, name="resourceVersion"):
    """A version of a query; None where it is not said."""
    if not text:
        return None
    if not text.isdigit():
        raise status.ApiError(
            400, f'invalid value for {name}: strconv.ParseUint: parsing "{text}": invalid syntax'
        )
    return int(text)


def picker(resource, query):
    """A function that says whether the query's selectors pick an object."""
    labels, fields = query.get("labelSelector"), query.get("fieldSelector")
    if not labels and not fields:
        return None
    by_label = selectors.parse_labels(labels)
    by_field = selectors.parse_fields(fields, resource)
    return lambda value: by_label(value["metadata"].get("labels")) and by_field(value)


def _place(value):
    meta = value["metadata"]
    return f"{meta.get('namespace', '')}/{meta['name']}"


def find(store, resource, namespace, query):
    """The objects of a list and its metadata."""
    limit = int(query.get("limit") or 0)
    token = query.get("continue")
    match = query.get("resourceVersionMatch")
    asked = version_number(query.get("resourceVersion"))
    start = ""
    if token:
        if asked:
            raise status.bad_request(
                "specifying resource version is not allowed when using continue"
            )
        version, start = _read_token(token)
        objects = store.snapshot(resource.key, store.version if version < 0 else version)
        if objects is None:
            error = status.expired(EXPIRED)
            error.metadata = {"continue": _token(-1, start)}
            raise error
        version = store.version if version < 0 else version
    else:
        _check_match(match, asked, query)
        if asked is not None and asked > store.version:
            raise status.too_large(asked, store.version)
        version = store.version
        objects = store.kinds[resource.key].objects
        if asked == 0 and limit and not match:
            limit = 0  # the watch cache answers, and does not page
        elif match == "Exact" or (limit and asked and match is None):
            version = asked
            objects = store.snapshot(resource.key, asked)
            if objects is None:
                raise status.too_old(asked, store.compacted)
    picks = picker(resource, query)
    values = [
        objects[k]
        for k in sorted(objects, key=lambda k: f"{k[0]}/{k[1]}")
        if namespace is None or k[0] == namespace
    ]
    if start:
        values = [value for value in values if _place(value) >= start]
    if picks:
        values = [value for value in values if picks(value)]
    meta = {"resourceVersion": str(version)}
    if limit and len(values) > limit:
        meta["continue"] = _token(version, _place(values[limit - 1]) + "\0")
        if not picks:
            meta["remainingItemCount"] = len(values) - limit
        values = values[:limit]
    return values, meta


def _check_match(match, asked, query):
    if not match:
        return
    problem = None
    if asked is None:
        problem = "resourceVersionMatch is forbidden unless resourceVersion is provided"
    elif match == "Exact" and asked == 0:
        problem = 'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
    elif match not in ("Exact", "NotOlderThan"):
        found = status.unsupported("resourceVersionMatch", match, ("Exact", "NotOlderThan"))
        raise list_options_invalid(found)
    if problem:
        raise list_options_invalid(status.not_allowed("resourceVersionMatch", problem))


def list_options_invalid(problem):
    return status.ApiError(
        422,
        f'ListOptions.meta.k8s.io "" is invalid: {problem}',
        "Invalid",
        {"group": "meta.k8s.io", "kind": "ListOptions", "causes": [problem.cause()]},
    )
