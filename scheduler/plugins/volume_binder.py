"""Which volumes a pod's claims would get on a node, and whether they can. Pure but for the
lister that it reads (pkg/scheduler/framework/plugins/volumebinding/binder.go)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.object import Obj, get_nested, meta, name_of
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apis.core.volume_binding import (
    NO_PROVISIONER,
    SELECTED_NODE,
    annotations_of,
    capacity_of,
    claim_keys_of,
    class_of,
    find_matching_volume,
    is_delayed,
    is_fully_bound,
    node_matches,
    requested_size,
)
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.plugins.volume_lister import VolumeLister

BIND_CONFLICT = "node(s) didn't find available persistent volumes to bind"
NODE_CONFLICT = "node(s) didn't match PersistentVolume's node affinity"
NOT_ENOUGH_SPACE = "node(s) did not have enough free storage"
VOLUME_MISSING = "node(s) unavailable due to one or more pvc(s) bound to non-existent pv(s)"


@dataclass(slots=True)
class PodClaims:
    bound: list[Obj] = field(default_factory=list)
    delayed: list[Obj] = field(default_factory=list)
    immediate: list[Obj] = field(default_factory=list)
    """Not bound, and none of the scheduler's business: the binder must do it first."""


@dataclass(slots=True)
class PodVolumes:
    """What is to be done when the pod goes to the node."""

    bindings: list[tuple[Obj, Obj]] = field(default_factory=list)
    """(volume, claim)"""
    provisions: list[Obj] = field(default_factory=list)
    """Claims for which a volume is to be made on the node."""
    capacities: list[tuple[Obj, int]] = field(default_factory=list)
    """(such a claim, bytes that its driver has left for the node), when the driver says so."""


def pod_claims(lister: VolumeLister, pod: Obj) -> PodClaims:
    """:raises LookupError: a claim is not there."""
    claims = PodClaims()
    for key in claim_keys_of(pod):
        claim = lister.claims.get(key)
        if claim is None:
            name = key.rpartition("/")[2]
            raise LookupError(
                f'error getting PVC "{key}": could not find v1.PersistentVolumeClaim "{name}"'
            )
        if is_fully_bound(claim):
            claims.bound.append(claim)
        elif not claim["spec"].get("volumeName") and is_delayed(
            lister.classes.get(class_of(claim))
        ):
            claims.delayed.append(claim)
        else:
            claims.immediate.append(claim)
    return claims


def find_volumes(
    lister: VolumeLister, claims: PodClaims, node: NodeInfo
) -> PodVolumes | tuple[str, ...]:
    """What the pod gets on the node, or the reasons why it can't go there."""
    reasons = []
    problem = _check_bound(lister, claims.bound, node)
    if problem == NODE_CONFLICT:
        reasons.append(problem)
    found = _find_delayed(lister, claims.delayed, node)
    if isinstance(found, str):
        reasons.append(found)
    if problem == VOLUME_MISSING:
        reasons.append(problem)
    return tuple(reasons) if reasons or isinstance(found, str) else found


def _check_bound(lister: VolumeLister, claims: Sequence[Obj], node: NodeInfo) -> str:
    for claim in claims:
        volume = lister.volumes.get(claim["spec"]["volumeName"])
        if volume is None:
            return VOLUME_MISSING
        if not node_matches(volume, node.labels):
            return NODE_CONFLICT
    return ""


def _find_delayed(lister: VolumeLister, claims: Sequence[Obj], node: NodeInfo) -> PodVolumes | str:
    result = PodVolumes()
    free = []
    for claim in claims:
        selected = annotations_of(claim).get(SELECTED_NODE)
        if not selected:
            free.append(claim)
        elif selected == node.name:
            result.provisions.append(claim)
        else:
            return BIND_CONFLICT
    chosen: set[str] = set()
    for claim in sorted(free, key=lambda c: requested_size(c).value()):
        volume = find_matching_volume(
            claim,
            lister.of_class(class_of(claim)),
            node_labels=node.labels,
            excluded=chosen,
            delayed=True,
        )
        if volume is None:
            result.provisions.append(claim)
        else:
            chosen.add(name_of(volume))
            result.bindings.append((volume, claim))
    for claim in result.provisions:
        problem = _check_provision(lister, claim, node, result)
        if problem:
            return problem
    return result


def _check_provision(lister: VolumeLister, claim: Obj, node: NodeInfo, result: PodVolumes) -> str:
    storage_class = lister.classes.get(class_of(claim))
    if storage_class is None:
        return BIND_CONFLICT
    provisioner = storage_class.get("provisioner") or ""
    if provisioner in ("", NO_PROVISIONER):
        return BIND_CONFLICT
    topologies = storage_class.get("allowedTopologies") or ()
    if topologies and not any(_topology_matches(t, node) for t in topologies):
        return BIND_CONFLICT
    driver = lister.csi_drivers.get(provisioner)
    if driver is None or not get_nested(driver, "spec", "storageCapacity"):
        return ""  # only CSI drivers that publish their capacity are asked for it
    available = _capacity(lister, claim, storage_class, node)
    if available is None:
        return NOT_ENOUGH_SPACE
    result.capacities.append((claim, available))
    return ""


def _topology_matches(term: Obj, node: NodeInfo) -> bool:
    return all(
        node.labels.get(e["key"]) in e.get("values", ())
        for e in term.get("matchLabelExpressions") or ()
    )


def _capacity(lister: VolumeLister, claim: Obj, storage_class: Obj, node: NodeInfo) -> int | None:
    """Of a segment that the node belongs to and that is large enough."""
    size = requested_size(claim)
    for capacity in lister.capacities.list():
        if capacity.get("storageClassName") != name_of(storage_class):
            continue
        limit = capacity.get("maximumVolumeSize") or capacity.get("capacity")
        if limit is None or Quantity.parse(limit) < size:
            continue
        topology = capacity.get("nodeTopology")
        if topology is not None and selector_from_label_selector(topology).matches(node.labels):
            return Quantity.parse(capacity.get("capacity") or "0").value()
    return None


def utilization(lister: VolumeLister, volumes: PodVolumes) -> dict[str, tuple[int, int]]:
    """(requested, capacity) by class: of the volumes that the claims would get, or, without any,
    of what CSI drivers say that they have left."""
    sums: dict[str, tuple[int, int]] = {}
    for volume, claim in volumes.bindings:
        requested, capacity = sums.get(class_of(volume), (0, 0))
        sums[class_of(volume)] = (
            requested + requested_size(claim).value(),
            capacity + capacity_of(volume).value(),
        )
    if volumes.bindings:
        return sums
    for claim, available in volumes.capacities:
        requested, _ = sums.get(class_of(claim), (0, 0))
        sums[class_of(claim)] = (requested + requested_size(claim).value(), available)
    return sums


def check_bindings(lister: VolumeLister, volumes: PodVolumes, node: Obj) -> bool:
    """Whether all claims are bound by now.

    :raises ValueError: they never will be: something was undone in the meantime.
    """
    labels = meta(node).get("labels") or {}
    done = True
    for volume, claim in volumes.bindings:
        current = lister.volumes.informer.get(name_of(volume))
        if current is None:
            raise ValueError(f'failed to check binding: persistentvolume "{name_of(volume)}" gone')
        if not node_matches(current, labels):
            raise ValueError(_mismatch(current, node))
        if _newer(volume, current):
            done = False
        elif not get_nested(current, "spec", "claimRef", "uid"):
            raise ValueError(f'ClaimRef got reset for pv "{name_of(current)}"')
        else:
            done = is_fully_bound(_claim(lister, claim)) and done
    for claim in volumes.provisions:
        current = _claim(lister, claim)
        if _newer(claim, current):
            done = False
            continue
        if annotations_of(current).get(SELECTED_NODE) != name_of(node):
            raise ValueError(f'provisioning failed for PVC "{name_of(claim)}"')
        volume_name = current["spec"].get("volumeName")
        made = lister.volumes.informer.get(volume_name) if volume_name else None
        if made is not None and not node_matches(made, labels):
            raise ValueError(_mismatch(made, node))
        done = is_fully_bound(current) and (made is not None) and done
    return done


def _claim(lister: VolumeLister, claim: Obj) -> Obj:
    current = lister.claims.informer.get(f"{meta(claim)['namespace']}/{name_of(claim)}")
    if current is None:
        raise ValueError(f'failed to check provisioning pvc: "{name_of(claim)}" is gone')
    return current


def _mismatch(volume: Obj, node: Obj) -> str:
    return f'pv "{name_of(volume)}" node affinity doesn\'t match node "{name_of(node)}"'


def _newer(ours: Obj, seen: Obj) -> bool:
    return int(meta(ours)["resourceVersion"]) > int(meta(seen)["resourceVersion"])
