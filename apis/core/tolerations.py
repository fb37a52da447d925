"""Taints and tolerations (component-helpers/scheduling/corev1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apimachinery.object import Obj


def tolerates_taint(toleration: Obj, taint: Obj) -> bool:
    """Whether the toleration matches the taint's effect, key and value."""
    effect = toleration.get("effect")
    if effect and effect != taint.get("effect"):
        return False
    key = toleration.get("key")
    if key and key != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if operator == "Equal":
        # An empty key with Equal is refused by validation; upstream still compares values.
        return (toleration.get("value") or "") == (taint.get("value") or "")
    return False


def tolerates_all(tolerations: Iterable[Obj], taints: Iterable[Obj]) -> bool:
    listed = list(tolerations)
    return all(any(tolerates_taint(t, taint) for t in listed) for taint in taints)


def find_untolerated_taint(
    taints: Iterable[Obj],
    tolerations: Iterable[Obj],
    include: Callable[[Obj], bool] | None = None,
) -> Obj | None:
    """The first taint that ``include`` accepts and nothing tolerates."""
    listed = list(tolerations)
    for taint in taints:
        if include is not None and not include(taint):
            continue
        if not any(tolerates_taint(t, taint) for t in listed):
            return taint
    return None


def matching_tolerations(taints: Iterable[Obj], tolerations: Iterable[Obj]) -> list[Obj] | None:
    """The tolerations in use; None when a taint is not tolerated (GetMatchingTolerations)."""
    listed, used = list(tolerations), []
    for taint in taints:
        found = next((t for t in listed if tolerates_taint(t, taint)), None)
        if found is None:
            return None
        used.append(found)
    return used


def is_superset(super_set: Obj, sub_set: Obj) -> bool:
    """Whether ``super_set`` tolerates all that ``sub_set`` tolerates (tolerations.isSuperset)."""
    if super_set == sub_set:
        return True
    key = super_set.get("key")
    if key != sub_set.get("key") and not (not key and super_set.get("operator") == "Exists"):
        return False
    effect = super_set.get("effect")
    if effect and effect != sub_set.get("effect"):
        return False
    if (effect or "") in ("", "NoExecute") and super_set.get("tolerationSeconds") is not None:
        seconds = sub_set.get("tolerationSeconds")
        if seconds is None or seconds > super_set["tolerationSeconds"]:
            return False
    if (super_set.get("operator") or "Equal") == "Equal":
        return (sub_set.get("operator") or "Equal") == "Equal" and (
            super_set.get("value") or ""
        ) == (sub_set.get("value") or "")
    return super_set.get("operator") == "Exists"
