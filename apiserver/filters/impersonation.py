"""Acting as somebody else: Impersonate-User, -Group, -Uid and -Extra-* headers.

Each impersonated thing needs the verb ``impersonate`` on users, serviceaccounts, groups, uids
and userextras. Without a group the user gets the ones that authentication would have given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from pilothouse.apimachinery.errors import new_bad_request
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes
from pilothouse.apiserver.filters.authorization import check
from pilothouse.apiserver.request.context import UserInfo

if TYPE_CHECKING:
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response

_USER, _GROUP, _UID = "impersonate-user", "impersonate-group", "impersonate-uid"
_EXTRA = "impersonate-extra-"
_SERVICE_ACCOUNT = "system:serviceaccount:"
_AUTHENTICATED, _UNAUTHENTICATED = "system:authenticated", "system:unauthenticated"
_AUTHENTICATION = "authentication.k8s.io"


def with_impersonation(server: Server, handler: Handler) -> Handler:
    async def impersonated(request: Request) -> Response:
        headers = request.headers
        for name in headers:
            if name.startswith("impersonate-"):
                _impersonate(server.authorizer, request)
                break
        return await handler(request)

    return impersonated


def _impersonate(authorizer: Authorizer, request: Request) -> None:
    """:raises StatusError: 400, 403."""
    headers = request.headers
    user, uid = headers.get(_USER, ""), headers.get(_UID, "")
    groups = tuple(g for g in headers.get(_GROUP, "").split("\n") if g)
    extra = _extra(headers)
    if not user:
        if groups or uid or extra:
            raise new_bad_request(
                "requested [{}] without impersonating a user".format(
                    " ".join(_describe(groups, uid, extra))
                )
            )
        return
    actor = request.user
    assert actor is not None
    namespace, name = "", user
    if user.startswith(_SERVICE_ACCOUNT):
        namespace, _, name = user[len(_SERVICE_ACCOUNT) :].partition(":")
    if namespace and name:
        _check(authorizer, actor, "serviceaccounts", name, namespace=namespace)
    else:
        _check(authorizer, actor, "users", user)
    for group in groups:
        _check(authorizer, actor, "groups", group)
    for key, values in extra:
        for value in values:
            _check(authorizer, actor, "userextras", value, group=_AUTHENTICATION, subresource=key)
    if uid:
        _check(authorizer, actor, "uids", uid, group=_AUTHENTICATION)
    if not groups and namespace and name:
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    request.impersonator = actor
    request.user = UserInfo(user, _with_authenticated(user, groups), uid, extra)
    for header in [h for h in headers if h.startswith("impersonate-")]:
        del headers[header]


def _with_authenticated(user: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    if user == "system:anonymous":
        return groups if _UNAUTHENTICATED in groups else (*groups, _UNAUTHENTICATED)
    if _AUTHENTICATED in groups or _UNAUTHENTICATED in groups:
        return groups
    return (*groups, _AUTHENTICATED)


def _extra(headers: dict[str, str]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    found = []
    for header, value in headers.items():
        if header.startswith(_EXTRA):
            found.append((unquote(header[len(_EXTRA) :]), tuple(value.split("\n"))))
    return tuple(sorted(found))


def _describe(
    groups: tuple[str, ...], uid: str, extra: tuple[tuple[str, tuple[str, ...]], ...]
) -> list[str]:
    parts = [f"{{Group  {group}}}" for group in groups]
    parts += [f"{{UserExtra {key} {value}}}" for key, values in extra for value in values]
    return parts + ([f"{{UID  {uid}}}"] if uid else [])


def _check(
    authorizer: Authorizer,
    actor: UserInfo,
    resource: str,
    name: str,
    *,
    group: str = "",
    namespace: str = "",
    subresource: str = "",
) -> None:
    check(
        authorizer,
        AuthorizationAttributes(
            actor,
            "impersonate",
            group=group,
            version="v1",
            resource=resource,
            subresource=subresource,
            namespace=namespace,
            name=name,
        ),
    )
