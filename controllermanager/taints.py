"""Taints of nodes and tolerations of pods (component-helpers scheduling/corev1). Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pilothouse.apimachinery.object import Obj, get_nested

NOT_READY = "node.kubernetes.io/not-ready"
UNREACHABLE = "node.kubernetes.io/unreachable"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
UNSCHEDULABLE = "node.kubernetes.io/unschedulable"


def taints_of(node: Obj) -> list[Obj]:
    return get_nested(node, "spec", "taints", default=[])  # type: ignore[no-any-return]


def no_execute(node: Obj) -> list[Obj]:
    return [taint for taint in taints_of(node) if taint.get("effect") == "NoExecute"]


def has_taint(node: Obj, key: str, effect: str) -> bool:
    return any(t.get("key") == key and t.get("effect") == effect for t in taints_of(node))


def tolerates(toleration: Obj, taint: Obj) -> bool:
    """v1.Toleration.ToleratesTaint"""
    if toleration.get("effect") and toleration["effect"] != taint.get("effect"):
        return False
    if toleration.get("key") and toleration["key"] != taint.get("key"):
        return False
    operator = toleration.get("operator") or "Equal"
    if operator == "Exists":
        return True
    if operator != "Equal":
        return _compares(operator, toleration.get("value") or "", taint.get("value") or "")
    if not toleration.get("key"):
        return False
    return (toleration.get("value") or "") == (taint.get("value") or "")


def _compares(operator: str, wanted: str, value: str) -> bool:
    try:
        threshold, number = int(wanted), int(value)
    except ValueError:
        return False
    return number > threshold if operator == "Gt" else operator == "Lt" and number < threshold


def matching_tolerations(taints: Iterable[Obj], tolerations: Sequence[Obj]) -> list[Obj] | None:
    """The toleration that covers each taint (the first that does); None: one has none."""
    used = []
    for taint in taints:
        for toleration in tolerations:
            if tolerates(toleration, taint):
                used.append(toleration)
                break
        else:
            return None
    return used


def least_toleration_seconds(tolerations: Iterable[Obj]) -> float | None:
    """How long all of them tolerate; None: for ever."""
    given = [
        float(toleration["tolerationSeconds"])
        for toleration in tolerations
        if toleration.get("tolerationSeconds") is not None
    ]
    return max(0.0, min(given)) if given else None


def swapped(taints: Sequence[Obj], add: Sequence[Obj], remove: Sequence[Obj]) -> list[Obj] | None:
    """The taints after adding and removing by key and effect; None when nothing changes."""
    gone = {(t["key"], t.get("effect")) for t in remove}
    present = {(t.get("key"), t.get("effect")) for t in taints}
    new = [t for t in taints if (t.get("key"), t.get("effect")) not in gone]
    new += [t for t in add if (t["key"], t.get("effect")) not in present]
    return None if new == list(taints) else new
