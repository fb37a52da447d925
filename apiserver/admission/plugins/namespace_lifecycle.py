"""NamespaceLifecycle: nothing new in namespaces that are missing or on their way out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_not_found, new_forbidden, new_not_found
from pilothouse.apimachinery.schema import GroupKind, GroupResource, GroupVersionResource
from pilothouse.apiserver.admission.plugin import NAMESPACES, Plugin, refuse

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes, Operation

IMMORTAL = frozenset({"default", "kube-system", "kube-public"})
_NAMESPACE_KIND = GroupKind("", "Namespace")
_ACCESS_REVIEWS = frozenset({GroupResource("authorization.k8s.io", "localsubjectaccessreviews")})


class NamespaceLifecycle(Plugin):
    def interested(self, operation: Operation, resource: GroupResource, subresource: str) -> bool:
        if resource == NAMESPACES:
            return operation == "DELETE"
        # Saying that a namespace is missing would tell too much to someone who only asks.
        return operation == "CREATE" and resource not in _ACCESS_REVIEWS

    async def admit(self, attributes: Attributes) -> None:
        if attributes.operation == "DELETE":
            if attributes.kind.group_kind == _NAMESPACE_KIND and attributes.name in IMMORTAL:
                reason = "this namespace may not be deleted"
                raise new_forbidden(NAMESPACES, attributes.name, reason)
            return
        name = attributes.namespace
        if not name:
            return
        namespace = self.listers.get(NAMESPACES, "", name)
        if namespace is None:
            namespace = await self._live(name)
        if (namespace.get("status") or {}).get("phase") == "Terminating":
            raise _terminating(attributes)

    async def _live(self, name: str) -> Obj:
        """Straight from the store: the cache may lag behind a namespace just made."""
        client = self.context.hooks.client
        if client is None:
            raise new_not_found(NAMESPACES, name)
        try:
            return await client.get(GroupVersionResource("", "v1", "namespaces"), name)
        except StatusError as error:
            if is_not_found(error):
                raise new_not_found(NAMESPACES, name) from None
            raise


def _terminating(attributes: Attributes) -> StatusError:
    name = attributes.namespace
    error = refuse(
        attributes,
        f"unable to create new content in namespace {name} because it is being terminated",
    )
    cause = {
        "reason": "NamespaceTerminating",
        "message": f"namespace {name} is being terminated",
        "field": "metadata.namespace",
    }
    error.details = {**(error.details or {}), "causes": [cause]}
    return error


PLUGINS = {"NamespaceLifecycle": NamespaceLifecycle}
