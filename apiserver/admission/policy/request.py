"""The variables ``request`` and ``namespaceObject`` of an admission expression; pure.

They look as Go encodes an AdmissionRequest and a Namespace: what is empty there is missing here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.admission.policy.matching import namespace_of

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupVersionKind, GroupVersionResource
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.admission.policy.matching import Match
    from pilothouse.apiserver.request.context import UserInfo

_NAMESPACE_METADATA = (
    "name",
    "generateName",
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "labels",
    "annotations",
    "finalizers",
)


def admission_request(attributes: Attributes, match: Match) -> Obj:
    """``match`` is what the policy's rules took the request for."""
    request: Obj = {
        "uid": "",
        "kind": _kind(match.kind),
        "resource": _resource(match.resource),
        "requestKind": _kind(attributes.kind),
        "requestResource": _resource(attributes.resource),
        "operation": attributes.operation,
        "userInfo": user_info(attributes.user),
        "object": None,
        "oldObject": None,
        "dryRun": attributes.dry_run,
        "options": attributes.options or None,
    }
    optional = {
        "subResource": attributes.subresource,
        "requestSubResource": attributes.subresource,
        "name": attributes.name,
        "namespace": namespace_of(attributes),
    }
    return request | {key: value for key, value in optional.items() if value}


def _kind(gvk: GroupVersionKind) -> dict[str, str]:
    return {"group": gvk.group, "version": gvk.version, "kind": gvk.kind}


def _resource(gvr: GroupVersionResource) -> dict[str, str]:
    return {"group": gvr.group, "version": gvr.version, "resource": gvr.resource}


def user_info(user: UserInfo) -> Obj:
    info: dict[str, Any] = {
        "username": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra},
    }
    return {key: value for key, value in info.items() if value}


def namespace_object(namespace: Obj | None) -> Obj | None:
    """Only what an expression may see of a Namespace."""
    if namespace is None:
        return None
    metadata = namespace.get("metadata") or {}
    return {
        "metadata": {key: metadata[key] for key in _NAMESPACE_METADATA if key in metadata},
        "spec": namespace.get("spec") or {},
        "status": namespace.get("status") or {},
    }
