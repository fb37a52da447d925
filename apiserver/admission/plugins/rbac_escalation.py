"""Nobody grants what they don't hold: the check of the RBAC kinds, always on.

Upstream does this in the storage of the four kinds, between mutating admission and validation;
it stands at the end of the mutating phase here, which is the same place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.admission.plugin import Plugin

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Attributes

_ROLES = ("roles", "clusterroles")


class RBACEscalation(Plugin):
    async def admit(self, attributes: Attributes) -> None:
        checker = getattr(self.context.hooks.authorizer, "escalation", None)
        obj = attributes.obj
        if checker is None or obj is None:
            return
        resource = attributes.resource.resource
        if resource in _ROLES:
            checker.check_role(attributes.user, resource, obj, attributes.old_obj)
        else:
            checker.check_binding(attributes.user, resource, obj, attributes.old_obj)


PLUGINS = {"RBACEscalation": RBACEscalation}
