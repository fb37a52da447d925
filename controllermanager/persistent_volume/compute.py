"""What is to be done about one claim or one volume. Pure: objects in, intents out.

A claim is bound from both sides: the volume's claimRef first, then the claim's volumeName; each
call gives the whole way to the wanted state, so it may be cut off anywhere and asked again
(pv_controller.go).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pilothouse.apimachinery.object import Obj, get_nested, meta, name_of, uid_of
from pilothouse.apis.core.volume_binding import (
    BETA_DEFAULT_CLASS,
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    DEFAULT_CLASS,
    PROVISIONED_BY,
    SELECTED_NODE,
    access_modes_match,
    annotations_of,
    attributes_class,
    capacity_of,
    class_of,
    find_matching_volume,
    has_class,
    is_bound_to,
    is_delayed,
    requested_size,
    volume_mode,
)

NO_VOLUME = "no persistent volumes available for this claim and no storage class is set"
LOST_REFERENCE = "Bound claim has lost reference to PersistentVolume. Data on the volume is lost!"
LOST_VOLUME = "Bound claim has lost its PersistentVolume. Data on the volume is lost!"
MISBOUND = "Two claims are bound to the same volume, this one is bound incorrectly"


@dataclass(frozen=True, slots=True)
class Bind:
    """Volume and claim come together: references, annotations, both phases."""

    volume: Obj


@dataclass(frozen=True, slots=True)
class ClaimPhase:
    phase: str


@dataclass(frozen=True, slots=True)
class VolumePhase:
    phase: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Lose:
    """The claim is lost, with an event when it was not yet."""

    reason: str
    message: str


@dataclass(frozen=True, slots=True)
class AssignClass:
    name: str


@dataclass(frozen=True, slots=True)
class Provision:
    """A volume is to be made by the provisioner of the claim's class."""


@dataclass(frozen=True, slots=True)
class Tell:
    """An event about the object of the sync (``about`` '') or about the other side."""

    type: str
    reason: str
    message: str
    about_claim: bool = True


@dataclass(frozen=True, slots=True)
class Reclaim:
    pass


@dataclass(frozen=True, slots=True)
class Unbind:
    pass


@dataclass(frozen=True, slots=True)
class SyncClaim:
    """The claim has the next move."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Try again later."""

    message: str


Intent = (
    Bind | ClaimPhase | VolumePhase | Lose | AssignClass | Provision | Tell | Reclaim | Unbind
    | SyncClaim | Trouble
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What a claim's fate depends on."""

    volumes: Sequence[Obj] = ()
    requested: Obj | None = None
    """The volume that the claim names, if it is there."""
    storage_class: Obj | None = None
    default_class: str = ""
    waiting_pods: Sequence[str] = ()
    """Names of pods without a node that use the claim."""


def plan_claim(claim: Obj, around: Surroundings) -> list[Intent]:
    if BIND_COMPLETED in annotations_of(claim):
        return _plan_bound_claim(claim, around.requested)
    if claim["spec"].get("volumeName"):
        return _plan_choosy_claim(claim, around.requested)
    return _plan_free_claim(claim, around)


def _plan_free_claim(claim: Obj, around: Surroundings) -> list[Intent]:
    delayed = is_delayed(around.storage_class)
    try:
        volume = best_volume(claim, around.volumes, delayed=delayed)
    except ValueError as error:
        return [Trouble(f"error finding PV for claim: {error}")]
    if volume is not None:
        return [Bind(volume)]
    if not has_class(claim) and around.default_class:
        return [AssignClass(around.default_class)]
    if delayed and SELECTED_NODE not in annotations_of(claim):
        return [_waiting(around.waiting_pods), ClaimPhase("Pending")]
    if class_of(claim):
        return [Provision()]
    return [Tell("Normal", "FailedBinding", NO_VOLUME), ClaimPhase("Pending")]


def best_volume(claim: Obj, volumes: Sequence[Obj], *, delayed: bool) -> Obj | None:
    """Of the volumes that offer all wanted access modes, those that offer least come first."""
    by_modes: dict[frozenset[str], list[Obj]] = {}
    for volume in volumes:
        if access_modes_match(claim, volume):
            modes = frozenset(volume["spec"].get("accessModes") or ())
            by_modes.setdefault(modes, []).append(volume)
    for modes in sorted(by_modes, key=lambda m: (len(m), sorted(m))):
        found = find_matching_volume(claim, by_modes[modes], delayed=delayed)
        if found is not None:
            return found
    return None


def _waiting(pods: Sequence[str]) -> Tell:
    if not pods:
        message = "waiting for first consumer to be created before binding"
        return Tell("Normal", "WaitForFirstConsumer", message)
    named = f"pod {pods[0]}" if len(pods) == 1 else f"pods {','.join(pods)}"
    return Tell("Normal", "WaitForPodScheduled", f"waiting for {named} to be scheduled")


def _plan_choosy_claim(claim: Obj, volume: Obj | None) -> list[Intent]:
    """The user wants a certain volume."""
    pending = ClaimPhase("Pending")
    if volume is None:
        return [pending]
    if not volume["spec"].get("claimRef"):
        problem = mismatch(volume, claim)
        if problem:
            message = f'Cannot bind to requested volume "{name_of(volume)}": {problem}'
            return [Tell("Warning", "VolumeMismatch", message), pending]
        return [Bind(volume)]
    if is_bound_to(volume, claim):
        return [Bind(volume)]
    message = f'volume "{name_of(volume)}" already bound to a different claim.'
    told = Tell("Warning", "FailedBinding", message)
    if BOUND_BY_CONTROLLER in annotations_of(claim):
        return [told, Trouble("invalid binding of claim")]
    return [told, pending]


def mismatch(volume: Obj, claim: Obj) -> str:
    """Why the volume does not satisfy the claim; '' when it does."""
    if meta(volume).get("deletionTimestamp"):
        return f'the volume is marked for deletion "{name_of(volume)}"'
    if capacity_of(volume).value() < requested_size(claim).value():
        return "requested PV is too small"
    if class_of(volume) != class_of(claim):
        return "storageClassName does not match"
    if attributes_class(volume) != attributes_class(claim):
        return "volumeAttributesClassName does not match"
    if volume_mode(volume) != volume_mode(claim):
        return "incompatible volumeMode"
    return "" if access_modes_match(claim, volume) else "incompatible accessMode"


def _plan_bound_claim(claim: Obj, volume: Obj | None) -> list[Intent]:
    if not claim["spec"].get("volumeName"):
        return [Lose("ClaimLost", LOST_REFERENCE)]
    if volume is None:
        return [Lose("ClaimLost", LOST_VOLUME)]
    reference = volume["spec"].get("claimRef")
    if not reference or reference.get("uid") == uid_of(claim):
        return [Bind(volume)]
    return [Lose("ClaimMisbound", MISBOUND)]


# Volumes.


def plan_volume(volume: Obj, claim: Obj | None) -> list[Intent]:
    """``claim``: the one of the claimRef's name, whatever its uid."""
    reference = volume["spec"].get("claimRef")
    if not reference:
        return [VolumePhase("Available")]
    if not reference.get("uid"):
        # Reserved beforehand: the claim makes the next move.
        available: list[Intent] = [VolumePhase("Available")]
        return available if claim is None else [*available, SyncClaim()]
    if claim is None or uid_of(claim) != reference["uid"]:
        return [*_released(volume), Reclaim()]
    wanted = claim["spec"].get("volumeName") or ""
    if not wanted:
        return _plan_half_bound(volume, claim)
    if wanted == name_of(volume):
        return [VolumePhase("Bound")]
    dynamic = PROVISIONED_BY in annotations_of(volume)
    if dynamic and volume["spec"].get("persistentVolumeReclaimPolicy") == "Delete":
        # Made for a claim that got another volume in the meantime.
        return [*_released(volume), Reclaim()]
    return [Unbind()]


def _released(volume: Obj) -> list[Intent]:
    phase = get_nested(volume, "status", "phase")
    return [] if phase in ("Released", "Failed") else [VolumePhase("Released")]


def _plan_half_bound(volume: Obj, claim: Obj) -> list[Intent]:
    if volume_mode(volume) == volume_mode(claim):
        return [SyncClaim()]
    about_volume = (
        f'Cannot bind PersistentVolume to requested PersistentVolumeClaim "{name_of(claim)}" '
        "due to incompatible volumeMode."
    )
    about_claim = (
        f'Cannot bind PersistentVolume "{name_of(volume)}" to requested PersistentVolumeClaim '
        "due to incompatible volumeMode."
    )
    return [
        Tell("Warning", "VolumeMismatch", about_volume, about_claim=False),
        Tell("Warning", "VolumeMismatch", about_claim),
    ]


def default_class_of(classes: Sequence[Obj]) -> str:
    """The newest of the classes that are marked as default, then the first by name."""
    names = (DEFAULT_CLASS, BETA_DEFAULT_CLASS)
    marked = [c for c in classes if any(annotations_of(c).get(n) == "true" for n in names)]
    if not marked:
        return ""
    newest = max(meta(c).get("creationTimestamp") or "" for c in marked)
    return min(name_of(c) for c in marked if (meta(c).get("creationTimestamp") or "") == newest)


def claim_status(claim: Obj, phase: str, volume: Obj | None) -> Obj | None:
    """The claim's new status; None when it stays as it is."""
    old = claim.get("status") or {}
    new = {**old, "phase": phase}
    if volume is None:
        for field in ("accessModes", "capacity", "currentVolumeAttributesClassName"):
            new.pop(field, None)
    else:
        spec = volume["spec"]
        new["accessModes"] = spec.get("accessModes") or []
        if old.get("phase") != phase:
            new["capacity"] = spec.get("capacity") or {}
        if old.get("phase") == "Pending" and phase == "Bound":
            if spec.get("volumeAttributesClassName"):
                new["currentVolumeAttributesClassName"] = spec["volumeAttributesClassName"]
    return None if new == old else new
