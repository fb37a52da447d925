"""May the user do this? 403 in upstream's words otherwise."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, new_forbidden
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision

if TYPE_CHECKING:
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.request.context import Request, UserInfo

ANONYMOUS = "system:anonymous"
_AUDITED = {True: "allow", False: "forbid"}


def attributes_of(request: Request) -> AuthorizationAttributes:
    info = request.info
    assert request.user is not None
    if not info.is_resource_request:
        return AuthorizationAttributes(
            request.user, info.verb, resource_request=False, path=info.path
        )
    return AuthorizationAttributes(
        request.user,
        info.verb,
        True,
        info.api_group,
        info.api_version,
        info.resource,
        info.subresource,
        info.namespace,
        info.name,
        info.path,
        info.field_selector,
        info.label_selector,
    )


def authorize(authorizer: Authorizer, request: Request) -> None:
    """:raises StatusError: 403."""
    attributes = attributes_of(request)
    decision, reason = authorizer.authorize(attributes)
    if request.audit is not None:
        _annotate(request, decision is Decision.ALLOW, reason)
    if decision is not Decision.ALLOW:
        raise forbidden(attributes, reason)


def _annotate(request: Request, allowed: bool, reason: str) -> None:
    request.audit_annotations["authorization.k8s.io/decision"] = _AUDITED[allowed]
    request.audit_annotations["authorization.k8s.io/reason"] = reason


async def authorize_remotely(authorizer: Authorizer, request: Request) -> None:
    """The same when an authorizer may have to be asked over the network (``remote`` is true)."""
    from pilothouse.apiserver.authorization.remote import resolve

    attributes = attributes_of(request)

    def decide(view: Any) -> tuple[Decision, str, str]:
        decision, reason = view.authorize(attributes)
        return decision, reason, view.error

    decision, reason, error = await resolve(authorizer, decide)
    allowed = decision is Decision.ALLOW
    if error and not allowed:
        request.audit_annotations["authorization.k8s.io/reason"] = "internal error"
        text = f"Internal Server Error: {_quoted(request.path)}: {_sanitized(error)}"
        raise StatusError(500, "InternalError", text, {})
    if request.audit is not None:
        _annotate(request, allowed, reason)
    if not allowed:
        raise forbidden(attributes, reason)


async def check_remotely(authorizer: Authorizer, attributes: AuthorizationAttributes) -> None:
    """``check`` for callers that may wait; works with any authorizer."""
    from pilothouse.apiserver.authorization.remote import resolve

    await resolve(authorizer, lambda view: check(view, attributes))


def check(authorizer: Authorizer, attributes: AuthorizationAttributes) -> None:
    """The same for a question of its own (impersonation, create on update)."""
    decision, reason = authorizer.authorize(attributes)
    if decision is not Decision.ALLOW:
        raise forbidden(attributes, reason)


def forbidden(attributes: AuthorizationAttributes, reason: str) -> StatusError:
    message = _sanitized(_message(attributes, attributes.user))
    if reason:
        message = f"{message}: {reason}"
    resource = GroupResource(attributes.group, attributes.resource)
    return new_forbidden(resource, attributes.name, message)


def _message(attributes: AuthorizationAttributes, user: UserInfo) -> str:
    name, verb = _quoted(user.name), attributes.verb
    if not attributes.resource_request:
        return f"User {name} cannot {verb} path {_quoted(attributes.path)}"
    resource = attributes.resource
    if attributes.subresource:
        resource = f"{resource}/{attributes.subresource}"
    text = (
        f"User {name} cannot {verb} resource {_quoted(resource)} in API group "
        f"{_quoted(attributes.group)}"
    )
    if attributes.namespace:
        return f"{text} in the namespace {_quoted(attributes.namespace)}"
    return f"{text} at the cluster scope"


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _sanitized(text: str) -> str:
    """Errors must not look like HTML."""
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
