"""The authorizer behind the variable ``authorizer``: the request's user asks ours."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.request.context import UserInfo

if TYPE_CHECKING:
    from pilothouse.apiserver.authorization.interfaces import Authorizer


class RequestAuthorizer:
    """Implements ``cel.interfaces.AuthorizerLike``; remembers decisions for one request."""

    def __init__(self, authorizer: Authorizer | None, user: UserInfo) -> None:
        self._authorizer = authorizer
        self._user = user
        self._decided: dict[AuthorizationAttributes, tuple[bool, str]] = {}

    def use(self, authorizer: Authorizer | None) -> None:
        """Asks another view of the same authorizer from now on (``authorization/remote.py``)."""
        self._authorizer = authorizer

    def check(
        self,
        *,
        verb: str,
        group: str = "",
        resource: str = "",
        subresource: str = "",
        namespace: str = "",
        name: str = "",
        path: str = "",
        service_account: tuple[str, str] | None = None,
    ) -> tuple[bool, str]:
        """(allowed, reason)."""
        user = self._user if service_account is None else account_user(*service_account)
        question = AuthorizationAttributes(
            user,
            verb,
            resource_request=not path,
            group=group,
            version="*" if not path else "",
            resource=resource,
            subresource=subresource,
            namespace=namespace,
            name=name,
            path=path,
        )
        known = self._decided.get(question)
        if known is None:
            known = self._decided[question] = self._ask(question)
        return known

    def _ask(self, question: AuthorizationAttributes) -> tuple[bool, str]:
        if self._authorizer is None:
            return True, ""
        decision, reason = self._authorizer.authorize(question)
        return decision is Decision.ALLOW, reason


def account_user(namespace: str, name: str) -> UserInfo:
    """As whom a service account acts."""
    groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}")
    return UserInfo(f"system:serviceaccount:{namespace}:{name}", (*groups, "system:authenticated"))
