"""Conditions and accepted names of a CRD (apiextensions pkg/apihelpers, pkg/controller/status).

Pure: functions take a CRD (read-only) and give what its status should hold.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from pilothouse.apimachinery.fieldpath import Path, invalid
from pilothouse.apiserver.apiextensions.structural import conversion_error, structural_errors

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj

ESTABLISHED, NAMES_ACCEPTED = "Established", "NamesAccepted"
NON_STRUCTURAL, TERMINATING = "NonStructuralSchema", "Terminating"
APPROVED = "KubernetesAPIApprovalPolicyConformant"
FINALIZER = "customresourcecleanup.apiextensions.k8s.io"
APPROVAL_ANNOTATION = "api-approved.kubernetes.io"
_PULL = "see https://github.com/kubernetes/enhancements/pull/1111"


def condition(type_: str, status: str, reason: str, message: str) -> Obj:
    return {"type": type_, "status": status, "reason": reason, "message": message}


def find_condition(crd: Obj, type_: str) -> Obj | None:
    for each in (crd.get("status") or {}).get("conditions") or ():
        if each.get("type") == type_:
            found: Obj = each
            return found
    return None


def is_true(crd: Obj, type_: str) -> bool:
    found = find_condition(crd, type_)
    return found is not None and found.get("status") == "True"


def set_condition(status: Obj, new: Obj, now: str) -> None:
    """Puts ``new`` into a status (the caller's own); the time changes with the value."""
    new = {**new, "lastTransitionTime": now}
    conditions: list[Obj] = list(status.get("conditions") or ())
    for index, old in enumerate(conditions):
        if old.get("type") == new["type"]:
            if old.get("status") == new["status"] and old.get("lastTransitionTime"):
                new["lastTransitionTime"] = old["lastTransitionTime"]
            conditions[index] = new
            break
    else:
        conditions.append(new)
    status["conditions"] = conditions


def same_condition(left: Obj | None, right: Obj | None) -> bool:
    if left is None or right is None:
        return left is right
    keys = ("type", "status", "reason", "message")
    return all((left.get(key) or "") == (right.get(key) or "") for key in keys)


def stored_versions(crd: Obj) -> list[str]:
    return list((crd.get("status") or {}).get("storedVersions") or ())


def storage_version(crd: Obj) -> str:
    for version in crd["spec"].get("versions") or ():
        if version.get("storage"):
            return str(version["name"])
    return ""


@dataclass(slots=True)
class Names:
    """Names that a CRD may use, and the two conditions about it."""

    accepted: Obj
    names_accepted: Obj
    established: Obj


def names_and_conditions(crd: Obj, others: Iterable[Obj]) -> Names:
    """``others`` are all CRDs, this one included or not; only its own group counts."""
    resources, kinds = set[str](), set[str]()
    name = crd["metadata"].get("name")
    group = crd["spec"].get("group")
    for other in others:
        if other["spec"].get("group") != group or other["metadata"].get("name") == name:
            continue
        taken = (other.get("status") or {}).get("acceptedNames") or {}
        resources |= {taken.get("plural") or "", taken.get("singular") or ""}
        resources |= set(taken.get("shortNames") or ())
        kinds |= {taken.get("kind") or "", taken.get("listKind") or ""}
    wanted = crd["spec"]["names"]
    before = (crd.get("status") or {}).get("acceptedNames") or {}
    accepted, conflict = dict(before), None
    for key, taken_names in (("plural", resources), ("singular", resources)):
        conflict = _take(key, wanted, before, accepted, taken_names) or conflict
    conflict = _take_short_names(wanted, before, accepted, resources) or conflict
    for key, taken_names in (("kind", kinds), ("listKind", kinds)):
        conflict = _take(key, wanted, before, accepted, taken_names) or conflict
    accepted.pop("categories", None)
    if wanted.get("categories"):
        accepted["categories"] = list(wanted["categories"])
    if conflict is None:
        names = condition(NAMES_ACCEPTED, "True", "NoConflicts", "no conflicts found")
    else:
        names = condition(NAMES_ACCEPTED, "False", *conflict)
    established = find_condition(crd, ESTABLISHED) or condition(
        ESTABLISHED, "False", "NotAccepted", "not all names are accepted"
    )
    if established.get("status") != "True" and names["status"] == "True":
        message = "the initial names have been accepted"
        established = condition(ESTABLISHED, "True", "InitialNamesAccepted", message)
    return Names(accepted, names, established)


def _take(
    key: str, wanted: Obj, before: Obj, accepted: Obj, taken: set[str]
) -> tuple[str, str] | None:
    name = wanted.get(key) or ""
    if name != (before.get(key) or "") and name in taken:
        return f"{key[0].upper()}{key[1:]}Conflict", f'"{name}" is already in use'
    accepted[key] = name
    return None


def _take_short_names(
    wanted: Obj, before: Obj, accepted: Obj, taken: set[str]
) -> tuple[str, str] | None:
    names, own = list(wanted.get("shortNames") or ()), set(before.get("shortNames") or ())
    used = [name for name in names if name not in own and name in taken]
    if used:
        texts = [f'"{name}" is already in use' for name in used]
        message = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
        return "ShortNamesConflict", message
    accepted.pop("shortNames", None)
    if names:
        accepted["shortNames"] = names
    return None


def non_structural_condition(crd: Obj) -> Obj | None:
    """None when all schemas are structural."""
    errors: list[Any] = []
    if crd["spec"].get("preserveUnknownFields"):
        errors.append(invalid(Path("spec.preserveUnknownFields"), True, "must be false"))
    for index, version in enumerate(crd["spec"].get("versions") or ()):
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is None:
            continue
        text = conversion_error(schema)
        if text:
            message = f"failed to check validation schema for version {version['name']}: {text}"
            return condition(NON_STRUCTURAL, "Unknown", "StructuralError", message)
        path = Path("spec.versions").index(index).child("schema", "openAPIV3Schema")
        errors += structural_errors(path, schema)
    if not errors:
        return None
    texts = list(dict.fromkeys(str(error) for error in errors))
    message = texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
    return condition(NON_STRUCTURAL, "True", "Violations", message)


def is_protected_group(group: str) -> bool:
    """Groups of the Kubernetes community, whose CRDs must name their approval."""
    return any(group == own or group.endswith(f".{own}") for own in ("k8s.io", "kubernetes.io"))


def approval_state(crd: Obj) -> tuple[str, str]:
    """(Missing, Bypassed, Approved or Invalid; upstream's reason)."""
    annotations = crd["metadata"].get("annotations") or {}
    value = annotations.get(APPROVAL_ANNOTATION) or ""
    if not value:
        text = f'protected groups must have approval annotation "{APPROVAL_ANNOTATION}", {_PULL}'
        return "Missing", text
    if value.startswith("unapproved"):
        return "Bypassed", f'not approved: "{value}"'
    try:
        parts = urlsplit(value)
    except ValueError:
        parts = urlsplit("")
    if parts.scheme and parts.netloc:
        return "Approved", f"approved in {value}"
    return "Invalid", (
        f'protected groups must have approval annotation "{APPROVAL_ANNOTATION}" with either a '
        f'URL or a reason starting with "unapproved", {_PULL}'
    )


def approval_condition(crd: Obj) -> Obj | None:
    if not is_protected_group(crd["spec"].get("group") or ""):
        return None
    state, reason = approval_state(crd)
    name = {"Bypassed": "Unapproved"}.get(state, state)
    status = "True" if state == "Approved" else "False"
    return condition(APPROVED, status, f"{name}Annotation", reason)
