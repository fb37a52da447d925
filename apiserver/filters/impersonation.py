"""Acting as somebody else: Impersonate-User, -Group, -Uid and -Extra-* headers.

There are several ways to be allowed to (endpoints/filters/impersonation, KEP-5284). The
constrained modes come first: they take the right to impersonate that kind of user
(``impersonate:<mode>``) and the right to do what is asked in that mode
(``impersonate-on:<mode>:<verb>``). The old one takes the verb ``impersonate`` on each part of
the user and then allows everything. A requestor's last successful mode is tried first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import replace
from time import perf_counter
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

from pilothouse.apimachinery.errors import StatusError, new_bad_request
from pilothouse.apimachinery.names import is_dns1123_subdomain, is_http_path
from pilothouse.apiserver.authentication.users import (
    ALL_AUTHENTICATED,
    ALL_UNAUTHENTICATED,
    ANONYMOUS,
    NODE_NAME,
    SERVICE_ACCOUNTS_GROUP,
    split_service_account,
)
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.filters.authorization import attributes_of, forbidden
from pilothouse.apiserver.metrics_filters import FilterMetrics
from pilothouse.apiserver.request.context import UserInfo

if TYPE_CHECKING:
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.handler_chain import Handler
    from pilothouse.apiserver.request.context import Request, Response

_USER, _GROUP, _UID = "impersonate-user", "impersonate-group", "impersonate-uid"
_EXTRA = "impersonate-extra-"
_NODE_PREFIX = "system:node:"
_AUTHENTICATION = "authentication.k8s.io"
_MASTERS = "system:masters"
_MANY = 4
"""From so many groups or extras on, the right to all of them is asked for first."""
_REMEMBERED = 10_000
_ASSOCIATED_KEYS = "authentication.kubernetes.io/associated-node-keys"

Extra = tuple[tuple[str, tuple[str, ...]], ...]


def with_impersonation(server: Server, handler: Handler) -> Handler:
    impersonation = Impersonation(server.services["metrics"].filters)

    async def impersonated(request: Request) -> Response:
        headers = request.headers
        for name in headers:
            if name.startswith("impersonate-"):
                await impersonation.impersonate(server.authorizer, request)
                break
        return await handler(request)

    return impersonated


class Impersonation:
    """Remembers by which mode each requestor succeeded last."""

    def __init__(self, metrics: FilterMetrics | None = None) -> None:
        self._metrics = metrics or FilterMetrics()
        self._last: OrderedDict[str, int] = OrderedDict()

    async def impersonate(self, authorizer: Authorizer, request: Request) -> None:
        """Sets the request's user. :raises StatusError: 400, 403."""
        wanted = wanted_user(request.headers)
        if wanted is None:
            return
        from pilothouse.apiserver.authorization.remote import resolve

        attributes = attributes_of(request)
        start = perf_counter()
        try:
            user, mode = await resolve(
                authorizer, lambda view: self.allowed_user(view, wanted, attributes)
            )
        except StatusError:
            self._metrics.impersonated("", perf_counter() - start, allowed=False)
            raise
        self._metrics.impersonated(_METRIC_MODES[mode], perf_counter() - start, allowed=True)
        self._last[attributes.user.name] = mode
        if len(self._last) > _REMEMBERED:
            self._last.popitem(last=False)
        request.impersonator = request.user
        request.user = user
        if request.audit is not None:
            request.audit.constraint = _CONSTRAINTS[mode]
        for header in [h for h in request.headers if h.startswith("impersonate-")]:
            del request.headers[header]

    def allowed_user(
        self, authorizer: Any, wanted: UserInfo, attributes: AuthorizationAttributes
    ) -> tuple[UserInfo, int]:
        """Who the requestor becomes, and by which mode. :raises StatusError: 403."""
        last = self._last.get(attributes.user.name)
        order = list(range(len(_MODES)))
        if last is not None:
            order.remove(last)
            order.insert(0, last)
        first: StatusError | None = None
        for number in order:
            try:
                user = _MODES[number](authorizer, wanted, attributes)
            except StatusError as error:
                first = first or error
                continue
            if user is not None:
                return user, number
        assert first is not None  # the old mode is for everybody
        raise first


def wanted_user(headers: dict[str, str]) -> UserInfo | None:
    """As the headers say, nothing added. :raises StatusError: 400, parts without a name."""
    name, uid = headers.get(_USER, ""), headers.get(_UID, "")
    groups = tuple(headers[_GROUP].split("\n")) if _GROUP in headers else ()
    extra = tuple(
        sorted(
            (unquote(header[len(_EXTRA) :]), tuple(value.split("\n")))
            for header, value in headers.items()
            if header.startswith(_EXTRA)
        )
    )
    user = UserInfo(name, groups, uid, extra)
    if name:
        return user
    if groups or uid or extra:
        raise new_bad_request(f"requested {_go_syntax(user)} without impersonating a user name")
    return None


def _go_syntax(user: UserInfo) -> str:
    def strings(values: tuple[str, ...]) -> str:
        return "{" + ", ".join(f'"{value}"' for value in values) + "}"

    groups = f"[]string{strings(user.groups)}" if user.groups else "[]string(nil)"
    extra = "map[string][]string(nil)"
    if user.extra:
        items = ", ".join(f'"{key}":[]string{strings(values)}' for key, values in user.extra)
        extra = f"map[string][]string{{{items}}}"
    return f'&user.DefaultInfo{{Name:"", UID:"{user.uid}", Groups:{groups}, Extra:{extra}}}'


# The modes: None when they are not for such a user, 403 when the requestor may not.


def _associated_node(
    authorizer: Any, wanted: UserInfo, attributes: AuthorizationAttributes
) -> UserInfo | None:
    """A service account becomes the node that its pod runs on, whichever that is."""
    requestor = attributes.user
    node = _node_of(wanted)
    own = dict(requestor.extra).get(NODE_NAME) or ()
    if node is None or split_service_account(requestor.name) is None or own != (node,):
        return None
    keys = tuple(sorted(key for key, _ in requestor.extra))
    anywhere = replace(requestor, extra=((_ASSOCIATED_KEYS, keys),))
    attributes = replace(attributes, user=anywhere)
    return _constrained(authorizer, "associated-node", wanted, attributes, node="*")


def _arbitrary_node(
    authorizer: Any, wanted: UserInfo, attributes: AuthorizationAttributes
) -> UserInfo | None:
    node = _node_of(wanted)
    if node is None:
        return None
    return _constrained(authorizer, "arbitrary-node", wanted, attributes, node=node)


def _service_account(
    authorizer: Any, wanted: UserInfo, attributes: AuthorizationAttributes
) -> UserInfo | None:
    if not _only_name(wanted) or split_service_account(wanted.name) is None:
        return None
    return _constrained(authorizer, "serviceaccount", wanted, attributes)


def _user_info(
    authorizer: Any, wanted: UserInfo, attributes: AuthorizationAttributes
) -> UserInfo | None:
    if _node_name(wanted.name) is not None or split_service_account(wanted.name) is not None:
        return None
    return _constrained(authorizer, "user-info", wanted, attributes)


def _legacy(
    authorizer: Any, wanted: UserInfo, attributes: AuthorizationAttributes
) -> UserInfo | None:
    return _Check(authorizer, attributes.user, "impersonate", constrained=False).run(wanted)


_MODES = (_associated_node, _arbitrary_node, _service_account, _user_info, _legacy)
_CONSTRAINTS = (
    "impersonate:associated-node",
    "impersonate:arbitrary-node",
    "impersonate:serviceaccount",
    "impersonate:user-info",
    "",
)
"""What the audit log calls them; the old one has no name there."""
_METRIC_MODES = ("associated-node", "arbitrary-node", "serviceaccount", "user-info", "legacy")


def _only_name(user: UserInfo) -> bool:
    return not (user.groups or user.uid or user.extra)


def _node_name(user_name: str) -> str | None:
    if not user_name.startswith(_NODE_PREFIX):
        return None
    name = user_name[len(_NODE_PREFIX) :]
    return None if is_dns1123_subdomain(name) else name


def _node_of(wanted: UserInfo) -> str | None:
    return _node_name(wanted.name) if _only_name(wanted) else None


def _constrained(
    authorizer: Any,
    mode: str,
    wanted: UserInfo,
    attributes: AuthorizationAttributes,
    *,
    node: str = "",
) -> UserInfo:
    """``node``: as which the node is asked for."""
    _ask(authorizer, replace(attributes, verb=f"impersonate-on:{mode}:{attributes.verb}"))
    check = _Check(authorizer, attributes.user, f"impersonate:{mode}", constrained=True)
    return check.run(wanted, node)


def _ask(authorizer: Any, attributes: AuthorizationAttributes) -> None:
    decision, reason = authorizer.authorize(attributes)
    if decision is not Decision.ALLOW:
        # Of a webhook that could not be asked.
        error = getattr(authorizer, "error", "")
        raise forbidden(attributes, ": ".join(text for text in (error, reason) if text))


class _Check:
    """May the requestor impersonate each part of a user with this verb?"""

    def __init__(
        self, authorizer: Any, requestor: UserInfo, verb: str, *, constrained: bool
    ) -> None:
        self._authorizer = authorizer
        self._requestor = requestor
        self._verb = verb
        self._constrained = constrained
        self._group = _AUTHENTICATION if constrained else ""

    def run(self, wanted: UserInfo, node: str = "") -> UserInfo:
        """The user with the groups that it must have. :raises StatusError: 403."""
        groups = self._name(wanted, node)
        if wanted.uid:
            _ask(self._authorizer, self._question("uids", wanted.uid, group=_AUTHENTICATION))
        self._groups(wanted.groups)
        self._extra(wanted.extra)
        return UserInfo(wanted.name, _completed(wanted.name, groups), wanted.uid, wanted.extra)

    def _question(
        self,
        resource: str,
        name: str,
        *,
        group: str | None = None,
        namespace: str = "",
        subresource: str = "",
    ) -> AuthorizationAttributes:
        return AuthorizationAttributes(
            self._requestor,
            self._verb,
            group=self._group if group is None else group,
            version="v1",
            resource=resource,
            subresource=subresource,
            namespace=namespace,
            name=name,
        )

    def _name(self, wanted: UserInfo, node: str) -> tuple[str, ...]:
        """Asks for the name; returns the user's groups."""
        groups = wanted.groups
        question = self._question("users", wanted.name)
        account = split_service_account(wanted.name)
        if node:
            question = self._question("nodes", node)
            groups = ("system:nodes",)
        elif account is not None:
            namespace, name = account
            question = self._question("serviceaccounts", name, namespace=namespace)
            groups = groups or (SERVICE_ACCOUNTS_GROUP, f"{SERVICE_ACCOUNTS_GROUP}:{namespace}")
        _ask(self._authorizer, question)
        return groups

    def _groups(self, groups: tuple[str, ...]) -> None:
        if self._constrained and "" in groups:
            raise forbidden(
                self._question("groups", ""),
                "impersonating the empty string group is not allowed",
            )
        if self._constrained and _MASTERS in groups:
            raise forbidden(
                self._question("groups", _MASTERS),
                "impersonating the system:masters group is not allowed",
            )
        if self._constrained and len(groups) >= _MANY and self._may("groups"):
            return
        for group in groups:
            _ask(self._authorizer, self._question("groups", group))

    def _may(self, resource: str, subresource: str = "") -> bool:
        """All of them."""
        group = _AUTHENTICATION if subresource else None
        question = self._question(resource, "*", group=group, subresource=subresource)
        return bool(self._authorizer.authorize(question)[0] is Decision.ALLOW)

    def _extra(self, extra: Extra) -> None:
        if self._constrained:
            if problem := _extra_problem(extra):
                raise forbidden(self._question("userextras", "", group=_AUTHENTICATION), problem)
            count = sum(len(values) for _, values in extra)
            if count >= _MANY and self._may("userextras", "*"):
                return
        for key, values in extra:
            for value in values:
                question = self._question(
                    "userextras", value, group=_AUTHENTICATION, subresource=key
                )
                _ask(self._authorizer, question)


def _completed(name: str, groups: tuple[str, ...]) -> tuple[str, ...]:
    if name == ANONYMOUS.name:
        return groups if ALL_UNAUTHENTICATED in groups else (*groups, ALL_UNAUTHENTICATED)
    if ALL_AUTHENTICATED in groups or ALL_UNAUTHENTICATED in groups:
        return groups
    return (*groups, ALL_AUTHENTICATED)


def _extra_problem(extra: Extra) -> str:
    """What the constrained modes don't accept in extras."""
    for key, values in extra:
        if not key:
            return "impersonating the empty string key in extra is not allowed"
        if problem := _path_problem(key):
            return f"impersonating an invalid key in extra is not allowed: extra.key: {problem}"
        if key != key.lower():
            return f'impersonating a non-lowercase key in extra is not allowed: "{key}"'
        if "" in values:
            return "impersonating the empty string value in extra is not allowed"
    return ""


def _path_problem(key: str) -> str:
    """Why this is no ``example.com/some/path``; empty when it is one."""
    domain, _, path = key.partition("/")
    if not domain or not path:
        return f'Invalid value: "{key}": must be a domain-prefixed path (such as "acme.io/foo")'
    problems = [f'Invalid value: "{domain}": {text}' for text in is_dns1123_subdomain(domain)]
    problems += [f'Invalid value: "{path}": {text}' for text in is_http_path(path)]
    return problems[0] if problems else ""
