"""Which PersistentVolume belongs to which PersistentVolumeClaim. Pure.

The binder (controller manager), the VolumeBinding plugin (scheduler) and the kubelet share these
rules (component-helpers/storage/volume).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.object import (
    Obj,
    controller_of,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.apimachinery.quantity import Quantity

BIND_COMPLETED = "pv.kubernetes.io/bind-completed"
BOUND_BY_CONTROLLER = "pv.kubernetes.io/bound-by-controller"
PROVISIONED_BY = "pv.kubernetes.io/provisioned-by"
SELECTED_NODE = "volume.kubernetes.io/selected-node"
STORAGE_PROVISIONER = "volume.kubernetes.io/storage-provisioner"
BETA_STORAGE_PROVISIONER = "volume.beta.kubernetes.io/storage-provisioner"
BETA_STORAGE_CLASS = "volume.beta.kubernetes.io/storage-class"
DEFAULT_CLASS = "storageclass.kubernetes.io/is-default-class"
BETA_DEFAULT_CLASS = "storageclass.beta.kubernetes.io/is-default-class"
NO_PROVISIONER = "kubernetes.io/no-provisioner"
WAIT_FOR_FIRST_CONSUMER = "WaitForFirstConsumer"
ZERO = Quantity.parse("0")


def annotations_of(obj: Obj) -> Mapping[str, str]:
    return meta(obj).get("annotations") or {}


def class_of(obj: Obj) -> str:
    """The storage class of a claim or a volume; the beta annotation wins; '' for none."""
    beta = annotations_of(obj).get(BETA_STORAGE_CLASS)
    return beta if beta is not None else get_nested(obj, "spec", "storageClassName", default="")


def has_class(claim: Obj) -> bool:
    """Whether the claim says anything about its class ('' says: none)."""
    if BETA_STORAGE_CLASS in annotations_of(claim):
        return True
    return claim["spec"].get("storageClassName") is not None


def requested_size(claim: Obj) -> Quantity:
    text = get_nested(claim, "spec", "resources", "requests", "storage")
    return ZERO if text is None else Quantity.parse(text)


def capacity_of(volume: Obj) -> Quantity:
    text = get_nested(volume, "spec", "capacity", "storage")
    return ZERO if text is None else Quantity.parse(text)


def volume_mode(obj: Obj) -> str:
    return get_nested(obj, "spec", "volumeMode", default="") or "Filesystem"


def access_modes_match(claim: Obj, volume: Obj) -> bool:
    offered = get_nested(volume, "spec", "accessModes", default=())
    return all(mode in offered for mode in claim["spec"].get("accessModes") or ())


def is_delayed(storage_class: Obj | None) -> bool:
    """Whether claims of the class wait for a pod (and its node) before they are bound."""
    return (
        bool(storage_class)
        and (storage_class or {}).get("volumeBindingMode") == WAIT_FOR_FIRST_CONSUMER
    )


def is_bound_to(volume: Obj, claim: Obj) -> bool:
    """Whether the volume's claimRef means the claim; an empty uid means any of that name."""
    reference = volume["spec"].get("claimRef")
    if not reference:
        return False
    if (reference.get("namespace"), reference.get("name")) != (namespace_of(claim), name_of(claim)):
        return False
    return not reference.get("uid") or bool(reference["uid"] == uid_of(claim))


def is_fully_bound(claim: Obj) -> bool:
    return bool(claim["spec"].get("volumeName")) and BIND_COMPLETED in annotations_of(claim)


def with_annotation(obj: Obj, name: str, value: str) -> Obj:
    """A copy of ``obj`` with the annotation set."""
    new: Obj = copy_object(obj)
    new["metadata"]["annotations"] = {**(meta(new).get("annotations") or {}), name: value}
    return new


def claim_reference(claim: Obj) -> Obj:
    return {
        "kind": "PersistentVolumeClaim",
        "namespace": namespace_of(claim),
        "name": name_of(claim),
        "uid": uid_of(claim),
        "apiVersion": "v1",
        "resourceVersion": meta(claim).get("resourceVersion") or "",
    }


def bound_volume(volume: Obj, claim: Obj) -> Obj | None:
    """The volume as it must be to belong to the claim; None: it does already."""
    reference = volume["spec"].get("claimRef") or {}
    wanted = (name_of(claim), namespace_of(claim), uid_of(claim))
    complete = (reference.get("name"), reference.get("namespace"), reference.get("uid")) == wanted
    by_us = not is_bound_to(volume, claim) and BOUND_BY_CONTROLLER not in annotations_of(volume)
    if complete and not by_us:
        return None
    new = with_annotation(volume, BOUND_BY_CONTROLLER, "yes") if by_us else copy_object(volume)
    if not complete:
        new["spec"]["claimRef"] = claim_reference(claim)
    return new


def node_matches(volume: Obj, labels: Mapping[str, str]) -> bool:
    """Whether the volume can be used on a node with these labels (its node affinity)."""
    required = get_nested(volume, "spec", "nodeAffinity", "required")
    if required is None:
        return True
    return any(_term_matches(term, labels) for term in required.get("nodeSelectorTerms") or ())


def _term_matches(term: Obj, labels: Mapping[str, str]) -> bool:
    expressions = term.get("matchExpressions") or ()
    if not expressions or term.get("matchFields"):
        return False
    return all(_expression_matches(e, labels.get(e["key"])) for e in expressions)


def _expression_matches(expression: Obj, value: str | None) -> bool:
    operator: str = expression["operator"]
    values: list[str] = expression.get("values") or []
    if operator == "In":
        return any(value == each for each in values)
    if operator == "NotIn":
        return all(value != each for each in values)
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) == (operator == "Exists")
    try:
        number, limit = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return number > limit if operator == "Gt" else number < limit


def find_matching_volume(
    claim: Obj,
    volumes: Iterable[Obj],
    *,
    node_labels: Mapping[str, str] | None = None,
    excluded: Collection[str] = (),
    delayed: bool = False,
) -> Obj | None:
    """The volume that is bound to the claim already, or the smallest that satisfies it.

    ``node_labels`` are those of the node that the scheduler looks at; without a node, a claim
    whose binding is delayed gets only a volume that was bound to it beforehand.

    :raises ValueError: the claim's selector cannot be read.
    """
    raw = claim["spec"].get("selector")
    selector = None if raw is None else selector_from_label_selector(raw)
    size, best = requested_size(claim), None
    best_size = ZERO
    for volume in volumes:
        if name_of(volume) in excluded or not _is_candidate(claim, volume, size):
            continue
        reachable = node_labels is None or node_matches(volume, node_labels)
        if is_bound_to(volume, claim):
            return volume if reachable else None
        if (node_labels is None and delayed) or not reachable:
            continue
        if get_nested(volume, "status", "phase") != "Available":
            continue
        if selector is not None and not selector.matches(meta(volume).get("labels")):
            continue
        if class_of(volume) != class_of(claim):
            continue
        if node_labels is not None and not access_modes_match(claim, volume):
            continue
        if best is None or capacity_of(volume) < best_size:
            best, best_size = volume, capacity_of(volume)
    return best


def _is_candidate(claim: Obj, volume: Obj, size: Quantity) -> bool:
    if volume["spec"].get("claimRef") and not is_bound_to(volume, claim):
        return False
    return (
        not capacity_of(volume) < size
        and volume_mode(claim) == volume_mode(volume)
        and attributes_class(claim) == attributes_class(volume)
        and not meta(volume).get("deletionTimestamp")
    )


def attributes_class(obj: Obj) -> str:
    return str(get_nested(obj, "spec", "volumeAttributesClassName", default=""))


# Claims of pods.


def claim_name_of(pod: Obj, volume: Obj) -> str | None:
    """The claim behind one of a pod's volumes (a generic ephemeral one has its own); or None."""
    source = volume.get("persistentVolumeClaim")
    if source is not None:
        return source.get("claimName") or ""
    if volume.get("ephemeral") is not None:
        return f"{name_of(pod)}-{volume['name']}"
    return None


def claim_keys_of(pod: Obj) -> list[str]:
    """``namespace/name`` of each claim that the pod uses."""
    names = (claim_name_of(pod, v) for v in get_nested(pod, "spec", "volumes", default=()))
    return [f"{namespace_of(pod)}/{name}" for name in names if name is not None]


def ephemeral_claim_problem(pod: Obj, claim: Obj) -> str:
    """Why a claim is not the one made for the pod's ephemeral volume; '' when it is."""
    owner = controller_of(claim)
    if namespace_of(claim) == namespace_of(pod) and owner and owner.get("uid") == uid_of(pod):
        return ""
    return f"PVC {object_key(claim)} was not created for pod {object_key(pod)} (pod is not owner)"
