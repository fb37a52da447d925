"""Which nodes a pod may go to by its nodeSelector and required node affinity
(component-helpers nodeaffinity.RequiredNodeAffinity). Pure."""

from __future__ import annotations

from pilothouse.apimachinery.object import Obj, get_nested, meta, name_of


def matches_node(pod_spec: Obj, node: Obj) -> bool:
    labels = meta(node).get("labels") or {}
    selector = pod_spec.get("nodeSelector") or {}
    if any(labels.get(key) != value for key, value in selector.items()):
        return False
    required = get_nested(
        pod_spec, "affinity", "nodeAffinity", "requiredDuringSchedulingIgnoredDuringExecution"
    )
    if required is None:
        return True
    return any(_matches_term(term, node) for term in required.get("nodeSelectorTerms") or ())


def _matches_term(term: Obj, node: Obj) -> bool:
    expressions = term.get("matchExpressions") or ()
    field_terms = term.get("matchFields") or ()
    if not expressions and not field_terms:
        return False
    labels = meta(node).get("labels") or {}
    return all(_matches(e, labels.get(e["key"])) for e in expressions) and all(
        _matches(f, name_of(node) if f["key"] == "metadata.name" else None) for f in field_terms
    )


def _matches(requirement: Obj, value: str | None) -> bool:
    operator: str = requirement["operator"]
    values: list[str] = requirement.get("values") or []
    if operator == "In":
        return value in values
    if operator == "NotIn":
        return value not in values
    if operator in ("Exists", "DoesNotExist"):
        return (value is not None) == (operator == "Exists")
    try:
        number, limit = int(value or ""), int(values[0])
    except (ValueError, IndexError):
        return False
    return number > limit if operator == "Gt" else number < limit
