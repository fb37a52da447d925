"""Node selectors, affinity, topology spread, tolerations and taints."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery import names
from pilothouse.apimachinery.fieldpath import FieldError
from pilothouse.apimachinery.object import copy_object
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import (
    add_all,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
TAINT_EFFECTS = ("NoSchedule", "PreferNoSchedule", "NoExecute")


def validate_affinity(
    errors: ErrorList, affinity: Obj, path: str, *, allow_invalid_values: bool = False
) -> None:
    node = affinity.get("nodeAffinity")
    if node is not None:
        _node_affinity(errors, node, f"{path}.nodeAffinity", allow_invalid_values)
    for field in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(field)
        if terms is not None:
            _pod_affinity(errors, terms, f"{path}.{field}", allow_invalid_values)


def _node_affinity(errors: ErrorList, affinity: Obj, path: str, allow: bool) -> None:
    wanted = affinity.get(_REQUIRED)
    if wanted is not None:
        validate_node_selector(errors, wanted, f"{path}.{_REQUIRED}", allow_invalid_values=allow)
    for i, term in enumerate(affinity.get(_PREFERRED) or ()):
        at = f"{path}.{_PREFERRED}[{i}]"
        _weight(errors, term, at)
        _node_selector_term(errors, term.get("preference") or {}, f"{at}.preference", True)


def _weight(errors: ErrorList, term: Obj, path: str) -> None:
    weight = term.get("weight") or 0
    if not 0 < weight <= 100:
        errors.append(invalid(f"{path}.weight", weight, "must be in the range 1-100"))


def validate_node_selector(
    errors: ErrorList, selector: Obj, path: str, *, allow_invalid_values: bool = False
) -> None:
    terms = selector.get("nodeSelectorTerms")
    if not terms:
        message = "must have at least one node selector term"
        errors.append(required(f"{path}.nodeSelectorTerms", message))
        return
    for i, term in enumerate(terms):
        _node_selector_term(errors, term, f"{path}.nodeSelectorTerms[{i}]", allow_invalid_values)


def _node_selector_term(errors: ErrorList, term: Obj, path: str, allow: bool) -> None:
    for i, requirement in enumerate(term.get("matchExpressions") or ()):
        _node_requirement(errors, requirement, f"{path}.matchExpressions[{i}]", allow)
    for i, requirement in enumerate(term.get("matchFields") or ()):
        _node_field_requirement(errors, requirement, f"{path}.matchFields[{i}]")


def _node_requirement(errors: ErrorList, requirement: Obj, path: str, allow: bool) -> None:
    operator, values = requirement.get("operator") or "", requirement.get("values") or ()
    if operator in ("In", "NotIn"):
        if not values:
            message = "must be specified when `operator` is 'In' or 'NotIn'"
            errors.append(required(f"{path}.values", message))
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            message = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            errors.append(forbidden(f"{path}.values", message))
    elif operator in ("Gt", "Lt"):
        if len(values) != 1:
            message = "must be specified single value when `operator` is 'Lt' or 'Gt'"
            errors.append(required(f"{path}.values", message))
    else:
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    check.qualified_name(errors, requirement.get("key") or "", f"{path}.key")
    if not allow:
        for i, value in enumerate(values):
            messages = names.is_valid_label_value(value)
            if messages:
                add_all(errors, f"{path}.values[{i}]", value, messages)


def _node_field_requirement(errors: ErrorList, requirement: Obj, path: str) -> None:
    operator, values = requirement.get("operator") or "", requirement.get("values") or ()
    if operator in ("In", "NotIn"):
        if len(values) != 1:
            message = (
                "must be only one value when `operator` is 'In' or 'NotIn' for node field selector"
            )
            errors.append(required(f"{path}.values", message))
    else:
        errors.append(invalid(f"{path}.operator", operator, "not a valid selector operator"))
    key = requirement.get("key") or ""
    if key != "metadata.name":
        errors.append(invalid(f"{path}.key", key, "not a valid field selector key"))
        return
    for i, value in enumerate(values):
        messages = names.is_dns1123_subdomain(value)
        if messages:
            add_all(errors, f"{path}.values[{i}]", value, messages)


def _pod_affinity(errors: ErrorList, affinity: Obj, path: str, allow: bool) -> None:
    for i, term in enumerate(affinity.get(_REQUIRED) or ()):
        _pod_affinity_term(errors, term, f"{path}.{_REQUIRED}[{i}]", allow)
    for i, weighted in enumerate(affinity.get(_PREFERRED) or ()):
        at = f"{path}.{_PREFERRED}[{i}]"
        _weight(errors, weighted, at)
        _pod_affinity_term(
            errors, weighted.get("podAffinityTerm") or {}, f"{at}.podAffinityTerm", allow
        )


def _pod_affinity_term(errors: ErrorList, term: Obj, path: str, allow: bool) -> None:
    selector = term.get("labelSelector")
    check.label_selector(errors, selector, f"{path}.labelSelector", allow_invalid_values=allow)
    check.label_selector(
        errors,
        term.get("namespaceSelector"),
        f"{path}.namespaceSelector",
        allow_invalid_values=allow,
    )
    for name in term.get("namespaces") or ():
        messages = names.is_dns1123_label(name)
        if messages:
            add_all(errors, f"{path}.namespace", name, messages)
    match_keys, mismatch_keys = term.get("matchLabelKeys"), term.get("mismatchLabelKeys")
    if match_keys or mismatch_keys:
        label_keys(errors, match_keys or (), mismatch_keys or (), selector, path)
    key = term.get("topologyKey") or ""
    if not key:
        errors.append(required(f"{path}.topologyKey", "can not be empty"))
    check.qualified_name(errors, key, f"{path}.topologyKey")


def label_keys(
    errors: ErrorList,
    match_keys: Sequence[str],
    mismatch_keys: Sequence[str],
    selector: Obj | None,
    path: str,
) -> None:
    """ValidateMatchLabelKeysAndMismatchLabelKeys."""
    for field, keys in (("matchLabelKeys", match_keys), ("mismatchLabelKeys", mismatch_keys)):
        if not keys:
            continue
        if selector is None:
            message = "must not be specified when labelSelector is not set"
            errors.append(forbidden(f"{path}.{field}", message))
            continue
        for i, key in enumerate(keys):
            check.qualified_name(errors, key, f"{path}.{field}[{i}]")
    if selector is not None:
        position = {key: i for i, key in enumerate(match_keys)}
        seen = set(selector.get("matchLabels") or ())
        for expression in selector.get("matchExpressions") or ():
            key = expression.get("key") or ""
            if key in position and key in seen:
                message = "exists in both matchLabelKeys and labelSelector"
                errors.append(invalid(f"{path}[{position[key]}]", key, message))
            seen.add(key)
    for i, key in enumerate(match_keys):
        if key in mismatch_keys:
            message = "exists in both matchLabelKeys and mismatchLabelKeys"
            errors.append(invalid(f"{path}.matchLabelKeys[{i}]", key, message))


def validate_topology_spread(
    errors: ErrorList,
    constraints: Sequence[Obj],
    path: str,
    *,
    allow_invalid_selector: bool = False,
) -> None:
    for i, constraint in enumerate(constraints):
        at = f"{path}[{i}]"
        check.positive(errors, constraint.get("maxSkew") or 0, f"{at}.maxSkew")
        key = constraint.get("topologyKey") or ""
        if not key:
            errors.append(required(f"{at}.topologyKey", "can not be empty"))
        action = constraint.get("whenUnsatisfiable") or ""
        actions = ("DoNotSchedule", "ScheduleAnyway")
        if action not in actions:
            errors.append(not_supported(f"{at}.whenUnsatisfiable", action, actions))
        for other in constraints[i + 1 :]:
            if (other.get("topologyKey") or "", other.get("whenUnsatisfiable") or "") == (
                key,
                action,
            ):
                pair = f"{{{key}, {action}}}"
                errors.append(duplicate(f"{at}.{{topologyKey, whenUnsatisfiable}}", pair))
                break
        _spread_details(errors, constraint, action, at)
        if not allow_invalid_selector:
            check.label_selector(errors, constraint.get("labelSelector"), f"{at}.labelSelector")


def _spread_details(errors: ErrorList, constraint: Obj, action: str, path: str) -> None:
    domains = constraint.get("minDomains")
    if domains is not None:
        check.positive(errors, domains, f"{path}.minDomains")
        if action != "DoNotSchedule":
            message = f"can only use minDomains if whenUnsatisfiable=DoNotSchedule, not {action}"
            errors.append(invalid(f"{path}.minDomains", domains, message))
    for field in ("nodeAffinityPolicy", "nodeTaintsPolicy"):
        policy = constraint.get(field)
        if policy is not None and policy not in ("Honor", "Ignore"):
            errors.append(not_supported(f"{path}.{field}", policy, ("Honor", "Ignore")))
    keys = constraint.get("matchLabelKeys")
    if keys:
        label_keys(errors, keys, (), constraint.get("labelSelector"), path)


def validate_tolerations(errors: ErrorList, tolerations: Iterable[Obj], path: str) -> None:
    for i, toleration in enumerate(tolerations):
        _toleration(errors, toleration, f"{path}[{i}]")


def _toleration(errors: ErrorList, toleration: Obj, path: str) -> None:
    key, operator = toleration.get("key") or "", toleration.get("operator") or ""
    value, effect = toleration.get("value") or "", toleration.get("effect") or ""
    if key:
        check.qualified_name(errors, key, f"{path}.key")
    elif operator != "Exists":
        message = (
            'operator must be Exists when `key` is empty, which means "match all values and all '
            'keys"'
        )
        errors.append(invalid(f"{path}.operator", operator, message))
    if toleration.get("tolerationSeconds") is not None and effect != "NoExecute":
        message = "effect must be 'NoExecute' when `tolerationSeconds` is set"
        errors.append(invalid(f"{path}.effect", effect, message))
    if operator in ("", "Equal"):
        messages = names.is_valid_label_value(value)
        if messages:
            errors.append(invalid(f"{path}.operator", value, ";".join(messages)))
    elif operator == "Exists":
        if value:
            message = "value must be empty when `operator` is 'Exists'"
            errors.append(invalid(f"{path}.operator", value, message))
    elif operator in ("Lt", "Gt"):
        valid = ("Equal", "Exists", "Lt", "Gt")
        errors.append(not_supported(f"{path}.operator", operator, valid))
    else:
        errors.append(not_supported(f"{path}.operator", operator, ("Equal", "Exists")))
    if effect and effect not in TAINT_EFFECTS:
        errors.append(not_supported(f"{path}.effect", effect, TAINT_EFFECTS))


def only_added_tolerations(
    errors: ErrorList, new: Sequence[Obj], old: Sequence[Obj], path: str
) -> None:
    """An update may add tolerations and change their seconds."""
    for had in old:
        if not any(
            semantic_equal({**had, "tolerationSeconds": t.get("tolerationSeconds")}, t) for t in new
        ):
            message = "existing toleration can not be modified except its tolerationSeconds"
            errors.append(forbidden(path, message))
            return
    validate_tolerations(errors, new, path)


def validate_taints(errors: ErrorList, taints: Iterable[Obj], path: str) -> None:
    seen: set[tuple[str, str]] = set()
    for i, taint in enumerate(taints):
        at = f"{path}[{i}]"
        key, value = taint.get("key") or "", taint.get("value") or ""
        effect = taint.get("effect") or ""
        check.qualified_name(errors, key, f"{at}.key")
        messages = names.is_valid_label_value(value)
        if messages:
            errors.append(invalid(f"{at}.value", value, ";".join(messages)))
        check.one_of(errors, effect, TAINT_EFFECTS, f"{at}.effect")
        if (effect, key) in seen:
            errors.append(_duplicate_taint(taint, at))
        seen.add((effect, key))


def _duplicate_taint(taint: Obj, path: str) -> FieldError:

    shown = {
        "Key": taint.get("key") or "",
        "Value": taint.get("value") or "",
        "Effect": taint.get("effect") or "",
        "TimeAdded": taint.get("timeAdded"),
    }
    detail = "taints must be unique by key and effect pair"
    return FieldError("FieldValueDuplicate", path, shown, detail)


def node_selector_mutation(errors: ErrorList, new: Obj, old: Obj, path: str) -> None:
    """A gated pod's nodeSelector may only grow."""
    if any(new.get(key) != value for key, value in old.items()):
        message = "only additions to spec.nodeSelector are allowed (no mutations or deletions)"
        errors.append(invalid(path, new, message))


def node_affinity_mutation(errors: ErrorList, new: Obj | None, old: Obj | None, path: str) -> None:
    """A gated pod's required node affinity may only become narrower."""
    old_required = (old or {}).get(_REQUIRED)
    if old_required is None:
        return
    old_terms = old_required.get("nodeSelectorTerms") or []
    new_terms = ((new or {}).get(_REQUIRED) or {}).get("nodeSelectorTerms") or []
    at = f"{path}.{_REQUIRED}.nodeSelectorTerms"
    if old_terms and len(old_terms) != len(new_terms):
        message = "no additions/deletions to non-empty NodeSelectorTerms list are allowed"
        errors.append(invalid(at, copy_object(new_terms), message))
        return
    for i, term in enumerate(old_terms):
        if not _only_additions(new_terms[i], term):
            message = "only additions are allowed (no mutations or deletions)"
            errors.append(invalid(f"{at}[{i}]", copy_object(new_terms[i]), message))


def _only_additions(new: Obj, old: Obj) -> bool:
    fields = ("matchExpressions", "matchFields")
    if not any(old.get(f) for f in fields):
        return not any(new.get(f) for f in fields)
    for field in fields:
        before, after = old.get(field) or [], new.get(field) or []
        if before and not semantic_equal(after[: len(before)], before):
            return False
    return True
