"""Which ResourceClaims a pod uses (dynamic-resource-allocation/resourceclaim). Pure."""

from __future__ import annotations

from pilothouse.apimachinery.object import (
    Obj,
    controller_of,
    get_nested,
    namespace_of,
    object_key,
    uid_of,
)

POD_CLAIM_ANNOTATION = "resource.kubernetes.io/pod-claim-name"


def claim_name_of(pod: Obj, entry: Obj) -> str | None:
    """The claim behind an entry of ``spec.resourceClaims``; '' while the one that a template asks
    for is not made yet; None when it turned out that none is needed."""
    if entry.get("resourceClaimName"):
        return str(entry["resourceClaimName"])
    for status in get_nested(pod, "status", "resourceClaimStatuses", default=()):
        if status["name"] == entry["name"]:
            name: str | None = status.get("resourceClaimName")
            return name
    return ""


def pod_claim_keys(pod: Obj) -> list[str]:
    """``namespace/name`` of the claims that are known."""
    entries = get_nested(pod, "spec", "resourceClaims", default=())
    names = (claim_name_of(pod, entry) for entry in entries)
    return [f"{namespace_of(pod)}/{name}" for name in names if name]


def all_claim_keys(pod: Obj) -> list[str]:
    """With the one that the scheduler wrote for the pod's extended resources."""
    extended = get_nested(pod, "status", "extendedResourceClaimStatus", "resourceClaimName")
    return pod_claim_keys(pod) + ([f"{namespace_of(pod)}/{extended}"] if extended else [])


def is_for_pod(pod: Obj, claim: Obj) -> bool:
    """Whether the claim was made for just this pod."""
    owner = controller_of(claim)
    return bool(
        owner and namespace_of(claim) == namespace_of(pod) and owner.get("uid") == uid_of(pod)
    )


def not_for_pod(pod: Obj, claim: Obj) -> str:
    return (
        f"ResourceClaim {object_key(claim)} was not created for pod {object_key(pod)} "
        "(pod is not owner)"
    )


def is_reserved_for(pod: Obj, claim: Obj) -> bool:
    reserved = get_nested(claim, "status", "reservedFor", default=())
    return any(r.get("uid") == uid_of(pod) for r in reserved)
