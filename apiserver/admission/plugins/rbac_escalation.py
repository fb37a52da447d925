"""Nobody grants what they don't hold: the check of the RBAC kinds, always on.

Upstream does this in the storage of the four kinds, between mutating admission and validation;
it stands at the end of the mutating phase here, which is the same place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.admission.plugin import Plugin
from pilothouse.apiserver.authorization.remote import resolve

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.authorization.escalation import EscalationChecker

_ROLES = ("roles", "clusterroles")


class RBACEscalation(Plugin):
    async def admit(self, attributes: Attributes) -> None:
        authorizer = self.context.hooks.authorizer
        if getattr(authorizer, "escalation", None) is None or attributes.obj is None:
            return
        await resolve(authorizer, lambda view: self._check(view.escalation, attributes))

    def _check(self, checker: EscalationChecker, attributes: Attributes) -> None:
        obj, resource = attributes.obj, attributes.resource.resource
        assert obj is not None
        if resource in _ROLES:
            checker.check_role(attributes.user, resource, obj, attributes.old_obj)
        else:
            checker.check_binding(attributes.user, resource, obj, attributes.old_obj)


PLUGINS = {"RBACEscalation": RBACEscalation}
