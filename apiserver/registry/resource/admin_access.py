"""Admin access to devices: only in namespaces that say so by a label (pkg/registry/resource)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.meta.errors import forbidden

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

LABEL = "resource.kubernetes.io/admin-access"
_NAMESPACES = GroupResource("", "namespaces")


def of_requests(context: RegistryContext, obj: Obj, spec: Obj) -> ErrorList:
    """Errors of a new claim or template whose ``spec`` asks for it."""
    requests = ((spec.get("devices") or {}).get("requests")) or ()
    wanted = ((request.get("exactly") or {}).get("adminAccess") for request in requests)
    return _errors(context, obj, wanted, "spec.devices.requests")


def of_results(context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
    """Errors of a claim's new status that grants it."""
    if any(_granted(old)):
        return []
    return _errors(context, obj, _granted(obj), "status.allocation.devices.results")


def _granted(claim: Obj) -> list[bool]:
    allocation = (claim.get("status") or {}).get("allocation") or {}
    results = (allocation.get("devices") or {}).get("results") or ()
    return [bool(result.get("adminAccess")) for result in results]


def _errors(
    context: RegistryContext, obj: Obj, wanted: Iterable[bool | None], path: str
) -> ErrorList:
    index = next((i for i, each in enumerate(wanted) if each), None)
    if index is None:
        return []
    namespace = context.listers.get(_NAMESPACES, "", obj["metadata"]["namespace"]) or {}
    labels = (namespace.get("metadata") or {}).get("labels") or {}
    if labels.get(LABEL) == "true":
        return []
    message = (
        f"admin access to devices requires the `{LABEL}: true` label on the containing namespace"
    )
    return [forbidden(f"{path}[{index}].adminAccess", message)]
