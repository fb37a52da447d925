"""What a ResourceClaim counts for of the extended resources that its device classes stand for.

Pure; admission charges by it and the ResourceQuota controller recounts by it
(pkg/quota/v1/evaluator/core/resource_claims.go). A pod's request for an extended resource counts
for the pod; the claim that the scheduler makes of it counts only for what is above that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.quota_usage import (
    DEVICE_CLASS_SUFFIX,
    IMPLICIT_PREFIX,
    PODS,
    RESOURCE_CLAIMS,
    is_extended_request,
    usage,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apis.core.resource_requests import ResourceList

EXTENDED_RESOURCE_CLAIM = "resource.kubernetes.io/extended-resource-claim"


def counts_extended(hard: Iterable[str]) -> bool:
    """Whether a quota has a name that a device class may stand for."""
    return any(map(is_extended_request, hard))


def extended_names(classes: Iterable[Obj]) -> dict[str, str]:
    """Names of device classes with the extended resource of each that has one."""
    named = ((c["metadata"]["name"], c.get("spec") or {}) for c in classes)
    return {name: spec.get("extendedResourceName") or "" for name, spec in named}


def owner_of(claim: Obj) -> tuple[str, str] | None:
    """Name and uid of the pod whose extended resources became this claim."""
    metadata = claim.get("metadata") or {}
    if (metadata.get("annotations") or {}).get(EXTENDED_RESOURCE_CLAIM) != "true":
        return None
    for owner in metadata.get("ownerReferences") or ():
        if owner.get("controller"):
            is_pod = owner.get("kind") == "Pod" and owner.get("apiVersion") == "v1"
            return (owner.get("name") or "", owner.get("uid") or "") if is_pod else None
    return None


def claim_usage(
    claim: Obj,
    pod: Obj | None,
    claims: Iterable[Obj],
    classes: Mapping[str, str],
    now: datetime,
) -> ResourceList:
    """All that ``claim`` counts for. ``pod`` is the one that ``owner_of`` names, ``claims`` are
    those of the namespace, ``classes`` come from ``extended_names``."""
    found = usage(RESOURCE_CLAIMS, claim, now)
    counted = usage(PODS, pod, now) if pod is not None and _stands_for(claim, pod, claims) else {}
    extended: ResourceList = {}
    for name, quantity in found.items():
        device_class = name.removesuffix(DEVICE_CLASS_SUFFIX)
        if device_class == name or not device_class:
            continue
        extended[IMPLICIT_PREFIX + device_class] = quantity
        if classes.get(device_class):
            extended[f"requests.{classes[device_class]}"] = quantity
    for name, quantity in extended.items():
        rest = quantity - counted[name] if name in counted else quantity
        if rest.sign() > 0:
            found[name] = rest
    return found


def _stands_for(claim: Obj, pod: Obj, claims: Iterable[Obj]) -> bool:
    """Whether this is the claim of the pod's extended resources: the one its status names, or,
    until that is there, the first."""
    owner = owner_of(claim)
    metadata = pod.get("metadata") or {}
    if owner is None or owner != (metadata.get("name"), metadata.get("uid")):
        return False
    status = (pod.get("status") or {}).get("extendedResourceClaimStatus")
    if status is not None:
        return bool(status.get("resourceClaimName") == claim["metadata"].get("name"))
    mine = _age(claim)
    return not any(owner_of(other) == owner and _age(other) < mine for other in claims)


def _age(claim: Obj) -> tuple[str, str]:
    metadata = claim["metadata"]
    return metadata.get("creationTimestamp") or "", metadata.get("name") or ""
