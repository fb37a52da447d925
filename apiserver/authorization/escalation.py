"""Nobody grants what they don't hold (pkg/registry/rbac, policybased storage).

Called by the store of the four RBAC kinds right before the write is validated; ``check_role``
and ``check_binding`` raise 403 with upstream's text.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pilothouse.apimachinery.errors import new_forbidden, new_not_found
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.authorization.rbac import GROUP, RBACAuthorizer, RBACIndex
from pilothouse.apiserver.authorization.rules import (
    compact,
    compact_string,
    missing_rules,
    quoted_list,
)
from pilothouse.apiserver.authorization.union import PRIVILEGED_GROUP

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.request.context import UserInfo

_FULL_AUTHORITY: list[Obj] = [
    {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]},
    {"verbs": ["*"], "nonResourceURLs": ["*"]},
]


class EscalationChecker(Protocol):
    """What the RBAC kinds ask before they write."""

    def check_role(self, user: UserInfo, resource: str, obj: Obj, old: Obj | None) -> None: ...

    def check_binding(self, user: UserInfo, resource: str, obj: Obj, old: Obj | None) -> None: ...


class Escalation:
    def __init__(self, authorizer: Authorizer, index: RBACIndex) -> None:
        self._authorizer = authorizer
        self._rbac = RBACAuthorizer(index)
        self._index = index

    def _allowed(self, user: UserInfo, verb: str, resource: str, namespace: str, name: str) -> bool:
        attributes = AuthorizationAttributes(
            user, verb, group=GROUP, version="*", resource=resource, namespace=namespace, name=name
        )
        return self._authorizer.authorize(attributes)[0] is Decision.ALLOW

    def _missing(self, user: UserInfo, namespace: str, rules: list[Obj]) -> str:
        """Why ``user`` may not grant ``rules``; empty when it may."""
        owned, errors = self._rbac.rules_of_user(user, namespace)
        missing = missing_rules(owned, rules)
        if not missing:
            return ""
        lines = sorted({compact_string(rule) for rule in compact(missing)})
        text = (
            f'user "{user.name}" (groups={quoted_list(user.groups)}) is attempting to grant RBAC '
            "permissions not currently held:\n" + "\n".join(lines)
        )
        return f"{text}; resolution errors: [{' '.join(errors)}]" if errors else text

    def check_role(self, user: UserInfo, resource: str, obj: Obj, old: Obj | None) -> None:
        """``resource`` is ``roles`` or ``clusterroles``; ``old`` is None for a create.

        :raises StatusError: 403.
        """
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace") or "", metadata.get("name") or ""
        if PRIVILEGED_GROUP in user.groups or self._allowed(
            user, "escalate", resource, namespace, name if old else ""
        ):
            return
        if old is not None and only_gc_fields_differ(obj, old):
            return
        group_resource = GroupResource(GROUP, resource)
        if why := self._missing(user, namespace, obj.get("rules") or []):
            raise new_forbidden(group_resource, name, why)
        aggregates = any(
            (role.get("aggregationRule") or {}).get("clusterRoleSelectors")
            for role in (obj, old or {})
        )
        if aggregates and self._missing(user, namespace, _FULL_AUTHORITY):
            why = "must have cluster-admin privileges to use the aggregationRule"
            raise new_forbidden(group_resource, name, why)

    def check_binding(self, user: UserInfo, resource: str, obj: Obj, old: Obj | None) -> None:
        """``resource`` is ``rolebindings`` or ``clusterrolebindings``.

        :raises StatusError: 403; 404 when the role is not there (nobody can say what it grants).
        """
        if PRIVILEGED_GROUP in user.groups:
            return
        if old is not None and only_gc_fields_differ(obj, old):
            return
        metadata = obj["metadata"]
        namespace, name = metadata.get("namespace") or "", metadata.get("name") or ""
        role = obj.get("roleRef") or {}
        kind, role_name = role.get("kind") or "", role.get("name") or ""
        role_resource = {"ClusterRole": "clusterroles", "Role": "roles"}.get(kind)
        if role_resource and self._allowed(user, "bind", role_resource, namespace, role_name):
            return
        try:
            rules = self._index.rules_of(role, namespace)
        except LookupError:
            raise new_not_found(GroupResource(GROUP, kind.lower()), role_name) from None
        if why := self._missing(user, namespace, [rule.wire for rule in rules]):
            raise new_forbidden(GroupResource(GROUP, resource), name, why)


def only_gc_fields_differ(obj: Obj, old: Obj) -> bool:
    """Whether an update touches nothing but ownerReferences and finalizers."""
    new = copy_object(obj)
    for field in ("ownerReferences", "finalizers", "managedFields", "resourceVersion"):
        new["metadata"].pop(field, None)
        if field in old["metadata"]:
            new["metadata"][field] = old["metadata"][field]
    return bool(new == old)
