"""Authorizers: may they? (apiserver pkg/authorization/authorizer)"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from pilothouse.apiserver.request.context import UserInfo


class Decision(Enum):
    DENY = "deny"
    ALLOW = "allow"
    NO_OPINION = "no opinion"


@dataclass(frozen=True, slots=True)
class AuthorizationAttributes:
    """What is asked. For non-resource requests only ``user``, ``verb`` and ``path`` count."""

    user: UserInfo
    verb: str
    resource_request: bool = True
    group: str = ""
    version: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    path: str = ""
    field_selector: str = ""
    """As the request gave it: requirements that a text can't say are left out (that asks for
    more). The node authorizer (pods of one's own node) and webhooks read it."""
    label_selector: str = ""
    """The same for labels; only webhooks read it."""


class Authorizer(Protocol):
    def authorize(self, attributes: AuthorizationAttributes) -> tuple[Decision, str]:
        """The decision and the reason for it. Synchronous: works on informer caches only.

        With an authorizer that must be asked over the network (``remote.py``) what is not yet
        known is not allowed here: whoever may wait uses ``remote.resolve``.
        """
        ...
