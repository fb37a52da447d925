"""What a bootstrap role or binding must become at start (component-helpers reconciliation).

Missing rules, subjects, labels and annotations are added; nothing is taken away. An object with
the annotation autoupdate=false is left alone. Pure: objects in, object or None out.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.authorization.bootstrap_policy import AUTO_UPDATE
from pilothouse.apiserver.authorization.rules import missing_rules

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj


def _metadata(existing: Obj, expected: Obj) -> Obj | None:
    """The merged metadata; None when nothing is missing. What is there wins."""
    metadata = existing["metadata"]
    merged: Obj = {}
    for field in ("annotations", "labels"):
        have = metadata.get(field) or {}
        want = expected["metadata"].get(field) or {}
        if any(key not in have for key in want):
            merged[field] = {**want, **have}
    return {**metadata, **merged} if merged else None


def is_protected(existing: Obj) -> bool:
    annotations = existing["metadata"].get("annotations") or {}
    return annotations.get(AUTO_UPDATE) == "false"


def reconciled_role(existing: Obj, expected: Obj) -> Obj | None:
    """The role to write; None when it is as it should be, or protected."""
    if is_protected(existing):
        return None
    changes: Obj = {}
    metadata = _metadata(existing, expected)
    if metadata is not None:
        changes["metadata"] = metadata
    if "aggregationRule" in expected:
        # Its rules are the aggregation controller's business.
        have = (existing.get("aggregationRule") or {}).get("clusterRoleSelectors") or []
        want = expected["aggregationRule"]["clusterRoleSelectors"]
        missing = [selector for selector in want if selector not in have]
        if missing:
            changes["aggregationRule"] = {"clusterRoleSelectors": [*have, *missing]}
    else:
        rules = existing.get("rules") or []
        if rules != expected["rules"]:
            added = missing_rules(rules, expected["rules"])
            if added:
                changes["rules"] = [*rules, *added]
    result = {**existing, **changes} if changes else None
    if "aggregationRule" in existing and "aggregationRule" not in expected:
        result = {k: v for k, v in (result or existing).items() if k != "aggregationRule"}
    return result


def reconciled_binding(existing: Obj, expected: Obj) -> Obj | None:
    """The same for a binding; its ``roleRef`` cannot change (``needs_recreation``)."""
    if is_protected(existing):
        return None
    changes: Obj = {}
    metadata = _metadata(existing, expected)
    if metadata is not None:
        changes["metadata"] = metadata
    subjects = existing.get("subjects") or []
    keys = [_subject_key(subject) for subject in subjects]
    missing = [s for s in expected.get("subjects") or () if _subject_key(s) not in keys]
    if missing:
        changes["subjects"] = [*subjects, *missing]
    return {**existing, **changes} if changes else None


def needs_recreation(existing: Obj, expected: Obj) -> bool:
    """A binding to another role than it should be to is deleted and made anew."""
    if is_protected(existing):
        return False
    fields = ("kind", "name")
    have, want = existing.get("roleRef") or {}, expected["roleRef"]
    return any(have.get(field) != want.get(field) for field in fields)


def _subject_key(subject: Obj) -> tuple[str, ...]:
    return tuple(subject.get(f) or "" for f in ("kind", "apiGroup", "namespace", "name"))
