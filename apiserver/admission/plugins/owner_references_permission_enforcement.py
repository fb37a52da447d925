"""OwnerReferencesPermissionEnforcement: owners are set only by those who may delete."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import meta
from pilothouse.apimachinery.schema import GroupKind, parse_api_version
from pilothouse.apiserver.admission.plugin import Plugin, refuse
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.authorization.remote import resolve

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.authorization.interfaces import Authorizer

_UNDELETABLE = "cannot set an ownerRef on a resource you can't delete"
_UNFINALIZABLE = (
    "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set "
    "finalizers on"
)


class OwnerReferencesPermissionEnforcement(Plugin):
    async def validate(self, attributes: Attributes) -> None:
        authorizer = self.context.hooks.authorizer
        if attributes.obj is not None and authorizer is not None:
            await resolve(authorizer, lambda view: self._check(view, attributes))

    def _check(self, authorizer: Authorizer, attributes: Attributes) -> None:
        obj, old = attributes.obj, attributes.old_obj
        assert obj is not None
        if (attributes.resource.resource, attributes.subresource) == ("pods", "status"):
            return
        references = meta(obj).get("ownerReferences") or []
        old_references = meta(old or {}).get("ownerReferences") or []
        if references == old_references:
            return
        if attributes.operation != "CREATE":
            question = AuthorizationAttributes(
                attributes.user,
                "delete",
                group=attributes.resource.group,
                version=attributes.resource.version,
                resource=attributes.resource.resource,
                subresource=attributes.subresource,
                namespace=attributes.namespace,
                name=attributes.name,
            )
            decision, reason = authorizer.authorize(question)
            if decision is not Decision.ALLOW:
                raise refuse(attributes, f"{_UNDELETABLE}: {reason}, <nil>")
        for reference in _newly_blocking(references, old_references):
            self._check_owner(authorizer, attributes, reference)

    def _may_finalize(
        self,
        authorizer: Authorizer,
        attributes: Attributes,
        group: str,
        resource: str,
        *,
        namespace: str,
        name: str,
    ) -> tuple[bool, str]:
        question = AuthorizationAttributes(
            attributes.user,
            "update",
            group=group,
            version="*",
            resource=resource,
            subresource="finalizers",
            namespace=namespace,
            name=name,
        )
        decision, reason = authorizer.authorize(question)
        return decision is Decision.ALLOW, reason

    def _check_owner(self, authorizer: Authorizer, attributes: Attributes, reference: Obj) -> None:
        if self._may_finalize(authorizer, attributes, "*", "*", namespace="", name="*")[0]:
            return
        lookup = self.context.hooks.resources_for_kind
        api_version, kind = reference.get("apiVersion") or "", reference.get("kind") or ""
        group, version = parse_api_version(api_version)
        mappings = lookup(GroupKind(group, kind), version) if lookup else []
        if not mappings:
            raise refuse(
                attributes,
                "cannot set blockOwnerDeletion in this case because cannot find RESTMapping for "
                f'APIVersion {api_version} Kind {kind}: no matches for kind "{kind}" in version '
                f'"{api_version}"',
            )
        for resource, namespaced in mappings:
            namespace = attributes.namespace if namespaced else ""
            name = reference.get("name") or ""
            allowed, reason = self._may_finalize(
                authorizer,
                attributes,
                resource.group,
                resource.resource,
                namespace=namespace,
                name=name,
            )
            if not allowed:
                raise refuse(attributes, f"{_UNFINALIZABLE}: {reason}, <nil>")


def _newly_blocking(references: list[Obj], old_references: list[Obj]) -> list[Obj]:
    known = {r.get("uid") for r in old_references if r.get("blockOwnerDeletion")}
    return [r for r in references if r.get("blockOwnerDeletion") and r.get("uid") not in known]


PLUGINS = {"OwnerReferencesPermissionEnforcement": OwnerReferencesPermissionEnforcement}
