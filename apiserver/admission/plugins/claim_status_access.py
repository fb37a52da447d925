"""Who may write which part of a ResourceClaim's status (registry/resource/utils.go), always on.

Allocation and reservations are for those who may ``update`` (or ``patch``)
``resourceclaims/binding``; what is told of a driver's devices for those who may
``arbitrary-node:update`` this driver of ``resourceclaims/driver``, or ``associated-node:update``
and run on the claim's node. Upstream asks in the validation of the status; at the end of the
validating phase it is the same question.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_invalid
from pilothouse.apis.meta.errors import forbidden
from pilothouse.apiserver.admission.plugin import Plugin
from pilothouse.apiserver.authentication.users import NODE_NAME
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.authorization.remote import resolve
from pilothouse.apiserver.authorization.union import PRIVILEGED_GROUP

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.authorization.interfaces import Authorizer
    from pilothouse.apiserver.request.context import UserInfo

_SERVICE_ACCOUNT = "system:serviceaccount:"


class ClaimStatusAccess(Plugin):
    async def validate(self, attributes: Attributes) -> None:
        if PRIVILEGED_GROUP not in attributes.user.groups:
            await resolve(self.context.hooks.authorizer, partial(self._check, attributes))

    def _check(self, attributes: Attributes, authorizer: Authorizer | None) -> None:
        if authorizer is None or attributes.obj is None:
            return
        new = attributes.obj.get("status") or {}
        old = (attributes.old_obj or {}).get("status") or {}
        errors = _binding(attributes, authorizer, new, old)
        if new.get("allocation"):
            errors += _devices(attributes, authorizer, new, old)
        if errors:
            raise new_invalid(attributes.kind.group_kind, attributes.name, errors)


def _binding(attributes: Attributes, authorizer: Authorizer, new: Obj, old: Obj) -> ErrorList:
    if all((new.get(p) or None) == (old.get(p) or None) for p in ("allocation", "reservedFor")):
        return []
    verb = _verb(attributes)
    problem = _problem(authorizer, _question(attributes, verb, "binding", "", ""))
    if not problem:
        return []
    text = (
        "changing status.allocation or status.reservedFor requires "
        f'resource="resourceclaims/binding", verb="{verb}" permission: {problem}'
    )
    return [forbidden("status.allocation", text)]


def _devices(attributes: Attributes, authorizer: Authorizer, new: Obj, old: Obj) -> ErrorList:
    errors: ErrorList = []
    verbs = [f"arbitrary-node:{_verb(attributes)}"]
    if runs_on(attributes.user, node_of(new["allocation"])):
        verbs.insert(0, f"associated-node:{_verb(attributes)}")
    for driver in sorted(changed_drivers(new, old)):
        questions = [
            _question(attributes, verb, "driver", attributes.namespace, driver) for verb in verbs
        ]
        problems = [_problem(authorizer, question) for question in questions]
        if all(problems):
            text = (
                'changing status.devices requires resource="resourceclaims/driver", '
                f'verb="[{" ".join(verbs)}]" permission: {problems[0]}'
            )
            errors.append(forbidden("status.devices", text))
    return errors


def _verb(attributes: Attributes) -> str:
    kind = attributes.options.get("kind")
    return "patch" if kind == "PatchOptions" else "update"


def _question(
    attributes: Attributes, verb: str, subresource: str, namespace: str, name: str
) -> AuthorizationAttributes:
    resource = attributes.resource
    return AuthorizationAttributes(
        attributes.user,
        verb,
        group=resource.group,
        version=resource.version,
        resource=resource.resource,
        subresource=subresource,
        namespace=namespace,
        name=name,
    )


def _problem(authorizer: Authorizer, question: AuthorizationAttributes) -> str:
    """Why it may not be, '' if it may."""
    decision, reason = authorizer.authorize(question)
    if decision is Decision.ALLOW:
        return ""
    what = f"{question.resource}.{question.group}"
    if question.name:
        what += f' "{question.name}"'
    scope = "at the cluster scope"
    if question.namespace:
        scope = f'in the namespace "{question.namespace}"'
    text = (
        f'{what} is forbidden: User "{question.user.name}" cannot {question.verb} resource '
        f'"{question.resource}/{question.subresource}" in API group "{question.group}" {scope}'
    )
    return f"{text}: {reason}" if reason else text


def changed_drivers(new: Obj, old: Obj) -> set[str]:
    """Whose devices' entries were added, changed or removed."""
    before, after = _entries(old), _entries(new)
    return {key[0] for key in before.keys() | after.keys() if before.get(key) != after.get(key)}


def _entries(status: Obj) -> dict[tuple[str, str, str, str], Obj]:
    return {
        (d["driver"], d["pool"], d["device"], d.get("shareID") or ""): d
        for d in status.get("devices") or ()
    }


def node_of(allocation: Obj) -> str:
    """The one node where the devices are, '' if there is no such."""
    terms: list[Obj] = (allocation.get("nodeSelector") or {}).get("nodeSelectorTerms") or []
    if len(terms) != 1 or terms[0].get("matchExpressions"):
        return ""
    fields: list[Obj] = terms[0].get("matchFields") or []
    if len(fields) != 1:
        return ""
    field = fields[0]
    values: list[str] = field.get("values") or []
    exact = field.get("key") == "metadata.name" and field.get("operator") == "In"
    return str(values[0]) if exact and len(values) == 1 else ""


def runs_on(user: UserInfo, node: str) -> bool:
    """Whether it is a service account whose token was made for a pod on the node."""
    names = dict(user.extra).get(NODE_NAME, ())
    return bool(node) and user.name.startswith(_SERVICE_ACCOUNT) and tuple(names) == (node,)


PLUGINS = {"ClaimStatusAccess": ClaimStatusAccess}
