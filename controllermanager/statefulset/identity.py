"""Names, labels and claims that a StatefulSet's pods keep for ever. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from pilothouse.apimachinery.object import Obj, copy_object, get_nested, meta, name_of, namespace_of
from pilothouse.controllermanager.controller_ref import controller_reference
from pilothouse.controllermanager.pods import pod_from_template
from pilothouse.controllermanager.revision_history import HASH_LABEL

POD_NAME_LABEL = "statefulset.kubernetes.io/pod-name"
POD_INDEX_LABEL = "apps.kubernetes.io/pod-index"
_POD_NAME = re.compile(r"(.*)-([0-9]+)", re.ASCII | re.DOTALL)


def parent_and_ordinal(pod: Obj) -> tuple[str, int]:
    """("", -1) for a name that no StatefulSet gives."""
    return _parsed(name_of(pod))


@lru_cache(maxsize=16_384)
def _parsed(name: str) -> tuple[str, int]:
    # Each look at a set asks for this of each of its pods, several times.
    match = _POD_NAME.fullmatch(name)
    return (match[1], int(match[2])) if match else ("", -1)


def ordinal_of(pod: Obj) -> int:
    return parent_and_ordinal(pod)[1]


def is_member(stateful_set: Obj, pod: Obj) -> bool:
    return parent_and_ordinal(pod)[0] == name_of(stateful_set)


def start_ordinal(stateful_set: Obj) -> int:
    return int(get_nested(stateful_set, "spec", "ordinals", "start", default=0))


def revision_of(pod: Obj) -> str:
    return (meta(pod).get("labels") or {}).get(HASH_LABEL) or ""


def make_pod(stateful_set: Obj, template: Obj, ordinal: int, revision: str) -> Obj:
    """The pod with that ordinal, made from one revision's template."""
    pod = pod_from_template(copy_object(template), stateful_set, controller_reference(stateful_set))
    name = f"{name_of(stateful_set)}-{ordinal}"
    metadata, spec = pod["metadata"], pod["spec"]
    metadata["name"] = name
    metadata["labels"] = {
        **metadata.get("labels", {}),
        **_identity_labels(name, ordinal),
        HASH_LABEL: revision,
    }
    spec["hostname"] = name
    if stateful_set["spec"].get("serviceName"):
        spec["subdomain"] = stateful_set["spec"]["serviceName"]
    set_storage(stateful_set, pod)
    return pod


def _identity_labels(name: str, ordinal: int) -> dict[str, str]:
    return {POD_NAME_LABEL: name, POD_INDEX_LABEL: str(ordinal)}


def claim_name(stateful_set: Obj, template: Obj, ordinal: int) -> str:
    return f"{name_of(template)}-{name_of(stateful_set)}-{ordinal}"


def claims_of(stateful_set: Obj, pod: Obj) -> dict[str, Obj]:
    """The claims that the pod needs, by volume name."""
    if not stateful_set["spec"].get("volumeClaimTemplates"):
        return {}
    ordinal = ordinal_of(pod)
    labels = get_nested(stateful_set, "spec", "selector", "matchLabels", default={})
    claims: dict[str, Obj] = {}
    for template in stateful_set["spec"].get("volumeClaimTemplates") or ():
        claim: Obj = copy_object(template)
        claim.pop("status", None)
        claim |= {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
        metadata = claim["metadata"]
        metadata["name"] = claim_name(stateful_set, template, ordinal)
        metadata["namespace"] = namespace_of(stateful_set)
        metadata["labels"] = {**(metadata.get("labels") or {}), **labels}
        claims[name_of(template)] = claim
    return claims


def set_storage(stateful_set: Obj, pod: Obj) -> None:
    """Points the pod's volumes at its claims. In place."""
    claims = claims_of(stateful_set, pod)
    if not claims:
        return
    volumes = [
        {"name": name, "persistentVolumeClaim": {"claimName": name_of(claim)}}
        for name, claim in claims.items()
    ]
    kept = [v for v in pod["spec"].get("volumes") or () if v["name"] not in claims]
    pod["spec"]["volumes"] = volumes + kept


def identity_matches(stateful_set: Obj, pod: Obj) -> bool:
    parent, ordinal = parent_and_ordinal(pod)
    labels = meta(pod).get("labels") or {}
    return (
        ordinal >= 0
        and parent == name_of(stateful_set)
        and labels.get(POD_NAME_LABEL) == name_of(pod)
    )


def storage_matches(stateful_set: Obj, pod: Obj) -> bool:
    if not stateful_set["spec"].get("volumeClaimTemplates"):
        return True
    volumes = {v["name"]: v for v in get_nested(pod, "spec", "volumes", default=())}
    return all(
        get_nested(volumes.get(name), "persistentVolumeClaim", "claimName") == name_of(claim)
        for name, claim in claims_of(stateful_set, pod).items()
    )


def with_identity(stateful_set: Obj, pod: Obj) -> Obj:
    """The pod put right."""
    new: Obj = copy_object(pod)
    labels = _identity_labels(name_of(pod), ordinal_of(pod))
    new["metadata"]["labels"] = {**(meta(new).get("labels") or {}), **labels}
    if not storage_matches(stateful_set, new):
        set_storage(stateful_set, new)
    return new


# Who owns a claim, by persistentVolumeClaimRetentionPolicy.


def wanted_claim_owners(stateful_set: Obj, claim: Obj, pod: Obj) -> list[Obj] | None:
    """The claim's owner references as the retention policy wants them; None: as they are."""
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    when_deleted = policy.get("whenDeleted", "Retain") == "Delete"
    when_scaled = policy.get("whenScaled", "Retain") == "Delete"
    references = list(meta(claim).get("ownerReferences") or ())
    pod = {**pod, "apiVersion": "v1", "kind": "Pod"}
    if any(_is_stale(ref, stateful_set) or _is_stale(ref, pod) for ref in references):
        return None
    ours = [ref for ref in references if _same(ref, stateful_set) or _same(ref, pod)]
    others = [ref for ref in references if ref not in ours]
    wanted = list(others)
    foreign = (when_deleted or when_scaled) and any(ref.get("controller") for ref in others)
    if not foreign:
        condemned = not in_range(stateful_set, ordinal_of(pod))
        if when_scaled and condemned:
            wanted.append(controller_reference(pod))
        elif when_deleted:
            wanted.append(controller_reference(stateful_set))
    key = sorted((r["uid"], bool(r.get("controller"))) for r in references)
    if key == sorted((r["uid"], bool(r.get("controller"))) for r in wanted):
        return None
    return wanted


def has_unexpected_controller(stateful_set: Obj, claim: Obj, pod: Obj) -> bool:
    """Whether the retention policy wants the claim, and somebody else manages it (or a set or pod
    of the same name that is gone)."""
    policy = stateful_set["spec"].get("persistentVolumeClaimRetentionPolicy") or {}
    if "Delete" not in (policy.get("whenDeleted"), policy.get("whenScaled")):
        return False
    pod = {**pod, "apiVersion": "v1", "kind": "Pod"}
    return any(
        _is_stale(ref, stateful_set)
        or _is_stale(ref, pod)
        or bool(ref.get("controller") and not _same(ref, stateful_set) and not _same(ref, pod))
        for ref in meta(claim).get("ownerReferences") or ()
    )


def in_range(stateful_set: Obj, ordinal: int) -> bool:
    start = start_ordinal(stateful_set)
    replicas = get_nested(stateful_set, "spec", "replicas", default=1)
    return bool(start <= ordinal < start + replicas)


def _same(reference: Obj, owner: Obj) -> bool:
    return (
        reference.get("apiVersion") == owner["apiVersion"]
        and reference.get("kind") == owner["kind"]
        and reference.get("name") == name_of(owner)
    )


def _is_stale(reference: Obj, owner: Obj) -> bool:
    return _same(reference, owner) and reference.get("uid") != meta(owner).get("uid", "")
