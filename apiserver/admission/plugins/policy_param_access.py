"""Who configures a policy must be allowed to read its params (registry …/authz.go), always on.

Upstream asks when everything else about the object is right, in its validation; at the end of
the validating phase it is the same question.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_invalid
from pilothouse.apimachinery.schema import GroupVersionKind, parse_api_version
from pilothouse.apis.meta.errors import forbidden
from pilothouse.apiserver.admission.plugin import (
    MUTATING_POLICIES,
    VALIDATING_POLICIES,
    Plugin,
)
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.authorization.remote import resolve
from pilothouse.apiserver.authorization.union import PRIVILEGED_GROUP

if TYPE_CHECKING:
    from pilothouse.apimachinery.errors import StatusError
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.request.context import UserInfo


class PolicyParamAccess(Plugin):
    async def validate(self, attributes: Attributes) -> None:
        await resolve(self.context.hooks.authorizer, partial(self._check, attributes))

    def _check(self, attributes: Attributes, authorizer: Authorizer | None) -> None:
        obj = attributes.obj
        if obj is None or PRIVILEGED_GROUP in attributes.user.groups:
            return
        spec, old = obj.get("spec") or {}, (attributes.old_obj or {}).get("spec") or {}
        resource = attributes.resource.group_resource
        if resource in (VALIDATING_POLICIES, MUTATING_POLICIES):
            kind = spec.get("paramKind")
            if kind is not None and kind != old.get("paramKind"):
                self._check_policy(attributes, kind, authorizer)
            return
        reference = spec.get("paramRef")
        same = reference == old.get("paramRef") and spec.get("policyName") == old.get("policyName")
        if reference is not None and not (attributes.old_obj is not None and same):
            self._check_binding(attributes, spec, reference, authorizer)

    def _check_policy(
        self, attributes: Attributes, kind: Obj, authorizer: Authorizer | None
    ) -> None:
        group, version, resource, _ = self._resource_of(kind)
        question = AuthorizationAttributes(
            attributes.user,
            "get",
            group=group,
            version=version,
            resource=resource,
            namespace="*",
            name="*",
        )
        if not _allowed(authorizer, question):
            raise _refusal(
                attributes,
                "spec.paramKind",
                f'user {shown(attributes.user)} must have "get" permission on all objects of the '
                f"referenced paramKind (kind={kind.get('kind') or ''}, "
                f"apiVersion={kind.get('apiVersion') or ''})",
            )

    def _check_binding(
        self, attributes: Attributes, spec: Obj, reference: Obj, authorizer: Authorizer | None
    ) -> None:
        name, namespace = reference.get("name") or "", reference.get("namespace") or ""
        policy_name = spec.get("policyName") or ""
        policy = self._policy(attributes, policy_name)
        kind = None if policy is None else (policy.get("spec") or {}).get("paramKind")
        group, version, resource, problem = "*", "*", "*", ""
        if kind is not None:
            group, version, resource, problem = self._resource_of(kind)
        verb = "get" if name else "list"
        question = AuthorizationAttributes(
            attributes.user,
            verb,
            group=group,
            version=version,
            resource=resource,
            namespace=namespace,
            name=name,
        )
        if _allowed(authorizer, question):
            return
        user = shown(attributes.user)
        everywhere = (
            f'to determine minimum required permissions and user {user} does not have "{verb}" '
            "permission for all groups, versions and resources"
        )
        if policy is None:
            reason = f"unable to get policy {policy_name} {everywhere}"
        elif problem and kind is not None:
            text = f"&{{{kind['apiVersion']} {kind['kind']}}}"
            reason = f"unable to {problem} paramKind {text} {everywhere}"
        else:
            # Upstream has them the wrong way round for one of the two kinds.
            swapped = attributes.resource.resource.startswith("mutating")
            who, what = (verb, user) if swapped else (user, verb)
            reason = (
                f'user {who} does not have "{what}" permission on the object referenced by paramRef'
            )
        raise _refusal(attributes, "spec.paramRef", reason)

    def _policy(self, attributes: Attributes, name: str) -> Obj | None:
        validating = attributes.resource.resource.startswith("validating")
        resource = VALIDATING_POLICIES if validating else MUTATING_POLICIES
        return self.context.configuration[resource].get("", name)

    def _resource_of(self, kind: Obj) -> tuple[str, str, str, str]:
        """(group, version, resource, what could not be done)."""
        try:
            group, version = parse_api_version(kind.get("apiVersion") or "")
        except ValueError:
            return "*", "*", "*", "parse"
        registry = self.context.hooks.registry
        gvk = GroupVersionKind(group, version, kind.get("kind") or "")
        served = None if registry is None else registry.by_kind(gvk)
        if served is None:
            return group, version, "*", "resolve"
        return group, version, served.gvr.resource, ""


def _allowed(authorizer: Authorizer | None, question: AuthorizationAttributes) -> bool:
    return authorizer is None or authorizer.authorize(question)[0] is Decision.ALLOW


def shown(user: UserInfo) -> str:
    """As Go prints a pointer to a user.DefaultInfo."""
    extra = " ".join(f"{key}:[{' '.join(values)}]" for key, values in sorted(user.extra))
    return f"&{{{user.name} {user.uid} [{' '.join(user.groups)}] map[{extra}]}}"


def _refusal(attributes: Attributes, path: str, reason: str) -> StatusError:
    kind = attributes.kind.group_kind
    return new_invalid(kind, attributes.name, [forbidden(path, reason)])


PLUGINS = {"PolicyParamAccess": PolicyParamAccess}
