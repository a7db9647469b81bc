"""Refusals as Kubernetes words them: an exception that carries a `Status` object."""

REASONS = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class ApiError(Exception):
    """A refused request: the HTTP status, and the `Status` that is its body."""

    def __init__(self, code, message, reason=None, details=None, retry_after=None, metadata=None):
        super().__init__(message)
        self.code = code
        self.message = message
        self.reason = REASONS.get(code, "") if reason is None else reason
        self.details = dict(details or {})
        self.retry_after = retry_after
        self.metadata = metadata or {}
        if retry_after is not None:
            self.details["retryAfterSeconds"] = retry_after

    def body(self):
        status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": self.metadata,
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            "code": self.code,
        }
        if self.details:
            status["details"] = self.details
        return status


def qualified(resource):
    """`deployments.apps`, or `pods` for the core group."""
    return f"{resource.plural}.{resource.group}" if resource.group else resource.plural


def details(resource, name, causes=None, by_kind=False):
    """The details of a Status; upstream puts the plural into `kind` but for invalid objects."""
    answer = {"name": name} if name else {}
    if resource.group:
        answer["group"] = resource.group
    answer["kind"] = resource.kind if by_kind else resource.plural
    if causes:
        answer["causes"] = causes
    return answer


def not_found(resource, name):
    return ApiError(
        404, f'{qualified(resource)} "{name}" not found', details=details(resource, name)
    )


def no_such_path():
    return ApiError(404, "the server could not find the requested resource", details={})


def already_exists(resource, name):
    return ApiError(
        409,
        f'{qualified(resource)} "{name}" already exists',
        "AlreadyExists",
        details(resource, name),
    )


MODIFIED = (
    "the object has been modified; please apply your changes to the latest version and try again"
)


def conflict(resource, name, why=MODIFIED):
    return ApiError(
        409,
        f'Operation cannot be fulfilled on {qualified(resource)} "{name}": {why}',
        details=details(resource, name),
    )


def bad_request(message):
    return ApiError(400, message)


def forbidden(resource, name, why, causes=None):
    subject = f'{qualified(resource)} "{name}"' if name else qualified(resource)
    return ApiError(403, f"{subject} is forbidden: {why}", details=details(resource, name, causes))


def expired(message):
    return ApiError(410, message, "Expired")


def too_old(asked, oldest):
    return expired(f"too old resource version: {asked} ({oldest})")


def too_large(asked, current):
    return ApiError(
        504,
        f"Too large resource version: {asked}, current: {current}",
        "Timeout",
        {
            "causes": [
                {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
            ]
        },
        retry_after=1,
    )


def internal(message):
    return ApiError(
        500,
        f"Internal error occurred: {message}",
        "InternalError",
        {"causes": [{"message": message}]},
    )


class Problem:
    """One fault of an object: the path of a field, what kind of fault, and the words."""

    def __init__(self, reason, field, message):
        self.reason, self.field, self.message = reason, field, message

    def cause(self):
        return {"reason": self.reason, "message": self.message, "field": self.field}

    def __str__(self):
        return f"{self.field}: {self.message}"


def show(value):
    """A value as an error message of the server quotes it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if value is None:
        return "null"
    if isinstance(value, (int, float)):
        return str(value)
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"') + '"'
    import json

    return json.dumps(value, separators=(",", ":"))


def invalid_value(field, value, why):
    return Problem("FieldValueInvalid", field, f"Invalid value: {show(value)}: {why}")


def required(field, why=""):
    return Problem("FieldValueRequired", field, f"Required value{': ' + why if why else ''}")


def not_allowed(field, why):
    return Problem("FieldValueForbidden", field, f"Forbidden: {why}")


def duplicate(field, value):
    return Problem("FieldValueDuplicate", field, f"Duplicate value: {show(value)}")


def unsupported(field, value, allowed):
    words = ", ".join(f'"{word}"' for word in allowed)
    return Problem(
        "FieldValueNotSupported",
        field,
        f"Unsupported value: {show(value)}: supported values: {words}",
    )


def invalid(resource, name, problems):
    """422 with one cause for each problem."""
    listed = ", ".join(str(problem) for problem in problems)
    if len(problems) > 1:
        listed = f"[{listed}]"
    kind = f"{resource.kind}.{resource.group}" if resource.group else resource.kind
    return ApiError(
        422,
        f'{kind} "{name}" is invalid: {listed}',
        "Invalid",
        details(resource, name, [problem.cause() for problem in problems], by_kind=True),
    )
