"""The API's errors: one exception class that carries a metav1.Status.

``StatusError`` is raised anywhere below the handlers and by clients; the constructors are
apimachinery/pkg/api/errors with the same messages, and the ``is_*`` predicates read the
reason. Translation to HTTP happens once, in ``apiserver/endpoints``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.fieldpath import FieldError
    from pilothouse.apimachinery.schema import GroupKind, GroupResource


class StatusError(Exception):
    """An API failure. ``status`` is the wire object (kind Status, status Failure)."""

    def __init__(
        self, code: int, reason: str, message: str, details: dict[str, Any] | None = None
    ) -> None:
        super().__init__(message)
        self.code = code
        self.reason = reason
        self.message = message
        self.details = details
        self.continue_token: str | None = None
        """Set on a 410 for an expired continue token: where an inconsistent list goes on."""

    @property
    def status(self) -> dict[str, Any]:
        metadata = {"continue": self.continue_token} if self.continue_token else {}
        status: dict[str, Any] = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
        }
        if self.message:
            status["message"] = self.message
        if self.reason:
            status["reason"] = self.reason
        if self.details is not None:
            status["details"] = self.details
        status["code"] = self.code
        return status

    @property
    def retry_after_seconds(self) -> int:
        return int((self.details or {}).get("retryAfterSeconds") or 0)

    def has_cause(self, reason: str) -> bool:
        causes = (self.details or {}).get("causes") or ()
        return any(cause.get("reason") == reason for cause in causes)


def from_status(status: dict[str, Any]) -> StatusError:
    """The error that a server's Status body stands for."""
    error = StatusError(
        int(status.get("code") or 500),
        status.get("reason") or "",
        status.get("message") or "",
        status.get("details"),
    )
    error.continue_token = (status.get("metadata") or {}).get("continue")
    return error


def _details(resource: GroupResource, name: str, **more: Any) -> dict[str, Any]:
    details: dict[str, Any] = {"name": name} if name else {}
    if resource.group:
        details["group"] = resource.group
    if resource.resource:
        details["kind"] = resource.resource
    return details | {k: v for k, v in more.items() if v}


def new_not_found(resource: GroupResource, name: str) -> StatusError:
    return StatusError(404, "NotFound", f'{resource} "{name}" not found', _details(resource, name))


def new_already_exists(resource: GroupResource, name: str) -> StatusError:
    message = f'{resource} "{name}" already exists'
    return StatusError(409, "AlreadyExists", message, _details(resource, name))


def new_generate_name_conflict(resource: GroupResource, name: str, retry: int) -> StatusError:
    message = (
        f'{resource} "{name}" already exists, the server was not able to generate a unique name '
        "for the object"
    )
    return StatusError(
        409, "AlreadyExists", message, _details(resource, name, retryAfterSeconds=retry)
    )


def new_conflict(resource: GroupResource, name: str, reason: str) -> StatusError:
    message = f'Operation cannot be fulfilled on {resource} "{name}": {reason}'
    return StatusError(409, "Conflict", message, _details(resource, name))


def new_apply_conflict(causes: list[dict[str, str]], message: str) -> StatusError:
    return StatusError(409, "Conflict", message, {"causes": causes})


def new_forbidden(resource: GroupResource, name: str, reason: str) -> StatusError:
    if not name:
        message = (
            f"{resource} is forbidden: {reason}" if resource.resource else f"forbidden: {reason}"
        )
    else:
        message = f'{resource} "{name}" is forbidden: {reason}'
    return StatusError(403, "Forbidden", message, _details(resource, name))


def new_unauthorized(reason: str = "Unauthorized") -> StatusError:
    return StatusError(401, "Unauthorized", reason)


def new_bad_request(reason: str) -> StatusError:
    return StatusError(400, "BadRequest", reason)


def new_invalid(kind: GroupKind, name: str, errors: Iterable[FieldError]) -> StatusError:
    """422 with a cause per error; the message joins them as utilerrors.Aggregate does."""
    listed = list(errors)
    causes = [{"reason": e.reason, "message": e.body(), "field": e.field} for e in listed]
    details: dict[str, Any] = {"name": name} if name else {}
    if kind.group:
        details["group"] = kind.group
    if kind.kind:
        details["kind"] = kind.kind
    if causes:
        details["causes"] = causes
    texts = list(dict.fromkeys(str(e) for e in listed))
    message = f'{kind} "{name}" is invalid'
    if len(texts) == 1:
        message += f": {texts[0]}"
    elif texts:
        message += f": [{', '.join(texts)}]"
    return StatusError(422, "Invalid", message, details)


def new_gone(message: str) -> StatusError:
    return StatusError(410, "Gone", message)


def new_resource_expired(message: str) -> StatusError:
    return StatusError(410, "Expired", message)


def new_method_not_supported(resource: GroupResource, action: str) -> StatusError:
    message = f'{action} is not supported on resources of kind "{resource}"'
    return StatusError(405, "MethodNotAllowed", message, _details(resource, ""))


def new_timeout(
    message: str, retry_after: int, causes: list[dict[str, str]] | None = None
) -> StatusError:
    details: dict[str, Any] = {"retryAfterSeconds": retry_after} if retry_after else {}
    if causes:
        details["causes"] = causes
    return StatusError(504, "Timeout", message, details)


def new_too_large_resource_version(wanted: int, current: int, retry_after: int = 1) -> StatusError:
    message = f"Timeout: Too large resource version: {wanted}, current: {current}"
    cause = {"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}
    return new_timeout(message, retry_after, [cause])


def new_server_timeout(resource: GroupResource, operation: str, retry_after: int) -> StatusError:
    message = (
        f"The {operation} operation against {resource} could not be completed at this time, "
        "please try again."
    )
    details = _details(resource, "", retryAfterSeconds=retry_after)
    return StatusError(500, "ServerTimeout", message, details)


def new_too_many_requests(message: str, retry_after: int) -> StatusError:
    return StatusError(429, "TooManyRequests", message, {"retryAfterSeconds": retry_after})


def new_request_entity_too_large(message: str) -> StatusError:
    return StatusError(413, "RequestEntityTooLarge", f"Request entity too large: {message}")


def new_unsupported_media_type(supported: Iterable[str]) -> StatusError:
    message = (
        "the body of the request was in an unknown format - accepted media types include: "
        f"{', '.join(supported)}"
    )
    return StatusError(415, "UnsupportedMediaType", message)


def new_generic(code: int, reason: str, message: str) -> StatusError:
    """What upstream's router, which knows no resource, answers: empty details."""
    return StatusError(code, reason, message, {})


def new_not_acceptable(supported: Iterable[str]) -> StatusError:
    message = f"only the following media types are accepted: {', '.join(supported)}"
    return StatusError(406, "NotAcceptable", message)


def new_internal_error(message: str) -> StatusError:
    details = {"causes": [{"message": message}]}
    return StatusError(500, "InternalError", f"Internal error occurred: {message}", details)


def new_unclassified(message: str) -> StatusError:
    """A client's mistake that kube-apiserver has no status for: it answers 500 without a reason.
    What a client does wrong is no error of this server: it is a 400 here, with upstream's text."""
    return StatusError(400, "BadRequest", message)


def new_service_unavailable(message: str) -> StatusError:
    return StatusError(503, "ServiceUnavailable", message)


def new_generic_not_found() -> StatusError:
    """A path that no route serves."""
    message = "the server could not find the requested resource"
    return StatusError(404, "NotFound", message, {})


def is_not_found(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.code == 404


def is_already_exists(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.reason == "AlreadyExists"


def is_conflict(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.reason == "Conflict"


def is_expired(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.code == 410


def is_forbidden(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.code == 403


def is_invalid(error: BaseException) -> bool:
    return isinstance(error, StatusError) and error.reason == "Invalid"
