"""Validation of metadata that all kinds share (api/validation/objectmeta.go, metav1/validation).

Pure functions that give an error list; the registry calls :func:`validate_object_meta` on
create and :func:`validate_object_meta_update` on update. Label selectors, conditions and the
options of requests are validated here too.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery import names
from pilothouse.apimachinery.fieldpath import (
    ErrorList,
    Path,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_long,
)
from pilothouse.apimachinery.schema import parse_api_version

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from pilothouse.apimachinery.object import Obj

    NameFunction = Callable[[str, bool], list[str]]
    """(name, prefix) -> messages, as Strategy.name_errors."""

TOTAL_ANNOTATION_SIZE_LIMIT = 256 * 1024
FIELD_IMMUTABLE = "field is immutable"
NOT_NEGATIVE = "must be greater than or equal to 0"
FINALIZER_ORPHAN = "orphan"
FINALIZER_FOREGROUND = "foregroundDeletion"
MAX_FIELD_MANAGER = 128
MAX_SUBRESOURCE_NAME = 256


def validate_object_meta(
    metadata: Obj, *, namespaced: bool, name_errors: NameFunction, path: Path
) -> ErrorList:
    """On create, after a generateName was used."""
    errors: ErrorList = []
    prefix = metadata.get("generateName")
    if prefix:
        at = path.child("generateName")
        errors += [invalid(at, prefix, text) for text in name_errors(prefix, True)]
    name = metadata.get("name")
    if not name:
        errors.append(required(path.child("name"), "name or generateName is required"))
    else:
        errors += [invalid(path.child("name"), name, text) for text in name_errors(name, False)]
    namespace = metadata.get("namespace")
    if not namespaced:
        if namespace:
            errors.append(forbidden(path.child("namespace"), "not allowed on this type"))
    elif not namespace:
        errors.append(required(path.child("namespace")))
    else:
        at = path.child("namespace")
        errors += [invalid(at, namespace, text) for text in names.is_dns1123_label(namespace)]
    errors += validate_nonnegative(metadata.get("generation") or 0, path.child("generation"))
    errors += _validate_lists(metadata, path)
    if metadata.get("finalizers"):
        errors += validate_finalizers(metadata["finalizers"], path.child("finalizers"))
    return errors


def _validate_lists(metadata: Obj, path: Path) -> ErrorList:
    errors: ErrorList = []
    if metadata.get("labels"):
        errors += validate_labels(metadata["labels"], path.child("labels"))
    if metadata.get("annotations"):
        errors += validate_annotations(metadata["annotations"], path.child("annotations"))
    if metadata.get("ownerReferences"):
        at = path.child("ownerReferences")
        errors += validate_owner_references(metadata["ownerReferences"], at)
    if metadata.get("managedFields"):
        errors += validate_managed_fields(metadata["managedFields"], path.child("managedFields"))
    return errors


_IMMUTABLE = (
    "name",
    "namespace",
    "uid",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
)
_EMPTY_STRINGS = frozenset({"name", "namespace", "uid"})


def validate_object_meta_update(new: Obj, old: Obj, path: Path) -> ErrorList:
    """On update; the registry has put in what clients may leave out."""
    errors: ErrorList = []
    if old.get("deletionTimestamp") is not None:
        errors += validate_no_new_finalizers(
            new.get("finalizers") or [], old.get("finalizers") or [], path.child("finalizers")
        )
    if not new.get("resourceVersion"):
        text = "must be specified for an update"
        errors.append(invalid(path.child("resourceVersion"), "", text))
    generation = new.get("generation") or 0
    errors += validate_nonnegative(generation, path.child("generation"))
    if generation < (old.get("generation") or 0):
        errors.append(invalid(path.child("generation"), generation, "must not be decremented"))
    for field in _IMMUTABLE:
        after, before = new.get(field), old.get(field)
        if after != before:
            if field in _EMPTY_STRINGS:
                after, before = after or "", before or ""
            errors += validate_immutable_field(after, before, path.child(field))
    return errors + _validate_lists(new, path)


def validate_immutable_field(new: Any, old: Any, path: Path) -> ErrorList:
    return [] if new == old else [invalid(path, new, FIELD_IMMUTABLE)]


def validate_nonnegative(value: int, path: Path) -> ErrorList:
    return [] if value >= 0 else [invalid(path, value, NOT_NEGATIVE)]


def validate_label_name(name: str, path: Path) -> ErrorList:
    return [invalid(path, name, text) for text in names.is_qualified_name(name)]


def validate_labels(labels: Mapping[str, str] | None, path: Path) -> ErrorList:
    errors: ErrorList = []
    for key, value in (labels or {}).items():
        errors += validate_label_name(key, path)
        errors += [invalid(path, value, text) for text in names.is_valid_label_value(value)]
    return errors


def validate_annotations(annotations: Mapping[str, str] | None, path: Path) -> ErrorList:
    errors: ErrorList = []
    for key in annotations or ():
        # As label keys, but in any case.
        errors += [invalid(path, key, text) for text in names.is_qualified_name(key.lower())]
    if annotations and annotations_size(annotations) > TOTAL_ANNOTATION_SIZE_LIMIT:
        errors.append(too_long(path, TOTAL_ANNOTATION_SIZE_LIMIT))
    return errors


def annotations_size(annotations: Mapping[str, str]) -> int:
    """Bytes of all keys and values."""
    total = sum(len(key) + len(value) for key, value in annotations.items())
    if total * 4 <= TOTAL_ANNOTATION_SIZE_LIMIT:
        return total
    return sum(
        len(key.encode("utf-8", "surrogatepass")) + len(value.encode("utf-8", "surrogatepass"))
        for key, value in annotations.items()
    )


def validate_owner_references(references: Sequence[Obj], path: Path) -> ErrorList:
    errors: ErrorList = []
    controller = ""
    for i, reference in enumerate(references):
        errors += _validate_owner_reference(reference, path.index(i))
        if reference.get("controller"):
            current = f"{reference.get('kind') or ''}/{reference.get('name') or ''}"
            if controller:
                text = (
                    'Only one reference can have Controller set to true. Found "true" in '
                    f"references for {controller} and {current}"
                )
                errors.append(invalid(path, list(references), text))
            else:
                controller = current
    return errors


def _validate_owner_reference(reference: Obj, path: Path) -> ErrorList:
    errors: ErrorList = []
    api_version = reference.get("apiVersion") or ""
    group, version = "", ""
    if not api_version:
        errors.append(required(path.child("apiVersion"), "must not be empty"))
    else:
        try:
            group, version = parse_api_version(api_version)
        except ValueError:
            version = ""
        if not version:
            text = "must be <group>/<version> or <version>"
            errors.append(invalid(path.child("apiVersion"), api_version, text))
    for field in ("kind", "name", "uid"):
        if not reference.get(field):
            errors.append(required(path.child(field), "must not be empty"))
    if (group, version, reference.get("kind")) == ("", "v1", "Event"):
        text = "/v1, Kind=Event is disallowed from being an owner"
        errors.append(invalid(path, reference, text))
    return errors


def validate_finalizer_name(name: str, path: Path) -> ErrorList:
    return [invalid(path, name, text) for text in names.is_qualified_name(name)]


def validate_finalizers(finalizers: Sequence[str], path: Path) -> ErrorList:
    errors: ErrorList = []
    for name in finalizers:
        errors += validate_finalizer_name(name, path)
    if FINALIZER_ORPHAN in finalizers and FINALIZER_FOREGROUND in finalizers:
        text = f"finalizer {FINALIZER_ORPHAN} and {FINALIZER_FOREGROUND} cannot be both set"
        errors.append(invalid(path, list(finalizers), text))
    return errors


def validate_no_new_finalizers(new: Sequence[str], old: Sequence[str], path: Path) -> ErrorList:
    extra = sorted(set(new) - set(old))
    if not extra:
        return []
    shown = ", ".join(json.dumps(name, ensure_ascii=False) for name in extra)
    text = (
        "no new finalizers can be added if the object is being deleted, found new finalizers "
        f"[]string{{{shown}}}"
    )
    return [forbidden(path, text)]


def validate_managed_fields(entries: Sequence[Obj], path: Path) -> ErrorList:
    errors: ErrorList = []
    for i, entry in enumerate(entries):
        if _is_plain(entry):
            continue
        at = path.index(i)
        operation = entry.get("operation") or ""
        if not operation:
            errors.append(required(at.child("operation"), "must not be empty"))
        elif operation not in ("Apply", "Update"):
            errors.append(not_supported(at.child("operation"), operation, ("Apply", "Update")))
        fields_type = entry.get("fieldsType")
        if fields_type and fields_type != "FieldsV1":
            errors.append(invalid(at.child("fieldsType"), fields_type, "must be `FieldsV1`"))
        errors += validate_field_manager(entry.get("manager") or "", at.child("manager"))
        if len((entry.get("subresource") or "").encode()) > MAX_SUBRESOURCE_NAME:
            errors.append(too_long(at.child("subresource"), MAX_SUBRESOURCE_NAME))
    return errors


def _is_plain(entry: Obj) -> bool:
    """Whether an entry is as nearly all are: nothing to complain about, known without a path."""
    manager, subresource = entry.get("manager") or "", entry.get("subresource") or ""
    return (
        entry.get("operation") in ("Apply", "Update")
        and entry.get("fieldsType") in ("FieldsV1", None, "")
        and len(manager) <= MAX_FIELD_MANAGER
        and manager.isascii()
        and manager.isprintable()
        and len(subresource) <= MAX_SUBRESOURCE_NAME // 4
    )


def validate_field_manager(manager: str, path: Path) -> ErrorList:
    errors: ErrorList = []
    if len(manager.encode("utf-8", "surrogatepass")) > MAX_FIELD_MANAGER:
        errors.append(too_long(path, MAX_FIELD_MANAGER))
    if not manager.isprintable() or not manager.isascii():
        position = 0
        for c in manager:
            if not _is_print(c):
                text = f"invalid character U+{ord(c):04X} (at position {position})"
                errors.append(invalid(path, manager, text))
            position += len(c.encode("utf-8", "surrogatepass"))
    return errors


def _is_print(c: str) -> bool:
    """unicode.IsPrint: of all spaces only U+0020."""
    return c == " " or (c.isprintable() and not c.isspace())


def validate_dry_run(dry_run: Sequence[str], path: Path) -> ErrorList:
    if all(value == "All" for value in dry_run):
        return []
    return [not_supported(path, list(dry_run), ("All",))]


def validate_field_validation(value: str, path: Path) -> ErrorList:
    if value in ("", "Ignore", "Warn", "Strict"):
        return []
    return [not_supported(path, value, ("", "Ignore", "Strict", "Warn"))]


def validate_write_options(options: Obj) -> ErrorList:
    """CreateOptions and UpdateOptions."""
    return (
        validate_field_manager(options.get("fieldManager") or "", Path("fieldManager"))
        + validate_dry_run(options.get("dryRun") or (), Path("dryRun"))
        + validate_field_validation(options.get("fieldValidation") or "", Path("fieldValidation"))
    )


def validate_patch_options(options: Obj, *, apply: bool) -> ErrorList:
    errors: ErrorList = []
    if apply:
        if not options.get("fieldManager"):
            errors.append(required(Path("fieldManager"), "is required for apply patch"))
    elif options.get("force") is not None:
        errors.append(forbidden(Path("force"), "may not be specified for non-apply patch"))
    return errors + validate_write_options(options)


def validate_delete_options(options: Obj) -> ErrorList:
    errors: ErrorList = []
    policy = options.get("propagationPolicy")
    orphan = options.get("orphanDependents")
    at = Path("propagationPolicy")
    if orphan is not None and policy is not None:
        text = "orphanDependents and deletionPropagation cannot be both set"
        errors.append(invalid(at, policy, text))
    policies = ("Foreground", "Background", "Orphan")
    if policy is not None and policy not in policies:
        errors.append(not_supported(at, policy, (*policies, "nil"), keep_order=True))
    errors += validate_dry_run(options.get("dryRun") or (), Path("dryRun"))
    unsafe = "ignoreStoreReadErrorWithClusterBreakingPotential"
    if options.get(unsafe):
        others = ("propagationPolicy", "orphanDependents", "gracePeriodSeconds", "preconditions")
        for other in others:
            if options.get(other) is not None:
                errors.append(invalid(Path(unsafe), True, f"cannot be set together with .{other}"))
    return errors


def validate_label_selector(
    selector: Obj | None,
    path: Path,
    *,
    allow_invalid_values: bool = False,
    allow_unknown_operator: bool = False,
) -> ErrorList:
    """metav1.LabelSelector; ``allow_invalid_values`` is for objects that already hold them."""
    if selector is None:
        return []
    errors = validate_labels(selector.get("matchLabels"), path.child("matchLabels"))
    for i, requirement in enumerate(selector.get("matchExpressions") or ()):
        at = path.child("matchExpressions").index(i)
        errors += _requirement_errors(requirement, at, allow_unknown_operator)
        errors += validate_label_name(requirement.get("key") or "", at.child("key"))
        if not allow_invalid_values:
            for j, value in enumerate(requirement.get("values") or ()):
                messages = names.is_valid_label_value(value)
                errors += [invalid(at.child("values").index(j), value, m) for m in messages]
    return errors


def _requirement_errors(requirement: Obj, path: Path, allow_unknown: bool) -> ErrorList:
    operator = requirement.get("operator") or ""
    values = requirement.get("values")
    if operator in ("In", "NotIn"):
        if not values:
            text = "must be specified when `operator` is 'In' or 'NotIn'"
            return [required(path.child("values"), text)]
    elif operator in ("Exists", "DoesNotExist"):
        if values:
            text = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"
            return [forbidden(path.child("values"), text)]
    elif not allow_unknown:
        return [invalid(path.child("operator"), operator, "not a valid selector operator")]
    return []


_REASON = "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?"
_RE_REASON = re.compile(_REASON)
_REASON_TEXT = (
    "a condition reason must start with alphabetic character, optionally followed by a string of "
    "alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'"
)
_MAX_REASON = 1024
_MAX_MESSAGE = 32 * 1024


def validate_conditions(conditions: Sequence[Obj], path: Path) -> ErrorList:
    """metav1.Conditions, a type at most once."""
    errors: ErrorList = []
    seen: set[str] = set()
    for i, condition in enumerate(conditions):
        type_ = condition.get("type") or ""
        if type_ in seen:
            errors.append(duplicate(path.index(i), type_))
        seen.add(type_)
        errors += validate_condition(condition, path.index(i))
    return errors


def validate_condition(condition: Obj, path: Path) -> ErrorList:
    errors: ErrorList = []
    type_, status = condition.get("type") or "", condition.get("status") or ""
    if not type_:
        errors.append(required(path.child("type"), "is required"))
    else:
        errors += validate_label_name(type_, path.child("type"))
    statuses = ("False", "True", "Unknown")
    if not status:
        errors.append(required(path.child("status")))
    elif status not in statuses:
        errors.append(not_supported(path.child("status"), status, statuses))
    generation = condition.get("observedGeneration") or 0
    if generation < 0:
        text = "must be greater than or equal to zero"
        errors.append(invalid(path.child("observedGeneration"), generation, text))
    if not condition.get("lastTransitionTime"):
        errors.append(required(path.child("lastTransitionTime")))
    reason = condition.get("reason") or ""
    if not reason:
        errors.append(required(path.child("reason")))
    else:
        if not _RE_REASON.fullmatch(reason):
            examples = ("my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB")
            text = names.regex_error(_REASON_TEXT, _REASON, *examples)
            errors.append(invalid(path.child("reason"), reason, text))
        if len(reason.encode()) > _MAX_REASON:
            errors.append(too_long(path.child("reason"), _MAX_REASON))
    if len((condition.get("message") or "").encode()) > _MAX_MESSAGE:
        errors.append(too_long(path.child("message"), _MAX_MESSAGE))
    return errors
