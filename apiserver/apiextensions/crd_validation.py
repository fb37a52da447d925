"""Rules for CustomResourceDefinitions (apiextensions pkg/apis/apiextensions/validation).

Upstream's internal form moves what all versions share (schema, columns, …) to the top of spec;
the paths of errors follow it: a CRD with one version is told of ``spec.validation``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.fieldpath import (
    Path,
    duplicate,
    forbidden,
    invalid,
    not_supported,
    required,
    too_many,
)
from pilothouse.apimachinery.names import is_dns1035_label, is_dns1123_subdomain
from pilothouse.apiserver.apiextensions.conditions import (
    APPROVAL_ANNOTATION,
    ESTABLISHED,
    approval_state,
    is_protected_group,
    is_true,
    stored_versions,
)
from pilothouse.apiserver.apiextensions.conversion_validation import conversion_errors
from pilothouse.apiserver.apiextensions.default_validation import default_errors, unpruned
from pilothouse.apiserver.apiextensions.embedded import KIND_TEXT
from pilothouse.apiserver.apiextensions.schema_validation import (
    TYPES,
    Options,
    field_at,
    map_key_errors,
    non_atomic_set,
    root_status_errors,
    schema_errors,
)
from pilothouse.apiserver.apiextensions.structural import (
    conversion_error,
    structural_errors,
    subschemas,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

SPEC = Path("spec")
MAX_SELECTABLE_FIELDS = 8
_COLUMN_TYPES = ("boolean", "date", "integer", "number", "string")
_COLUMN_FORMATS = (
    "byte",
    "date",
    "date-time",
    "double",
    "float",
    "int32",
    "int64",
    "password",
)
_SHARED = {
    "schema": "validation",
    "subresources": "subresources",
    "additionalPrinterColumns": "additionalPrinterColumns",
    "selectableFields": "selectableFields",
}
"""Fields of versions, and what they are called at the top of upstream's internal spec."""


def validate(crd: Obj) -> ErrorList:
    """Of a new CRD, its metadata aside."""
    errors = _spec(crd["spec"], Options())
    errors += _status(crd)
    errors += _approval(crd, None)
    return errors + _preserve_unknown(crd, None)


def validate_update(crd: Obj, old: Obj) -> ErrorList:
    spec, before = crd["spec"], old["spec"]
    errors = _spec(spec, _options(before), before)
    if is_true(old, ESTABLISHED):
        errors += _immutable(spec, before, "scope")
        errors += _immutable(spec, before, "names", "kind")
    errors += _immutable(spec, before, "group")
    errors += _immutable(spec, before, "names", "plural")
    errors += _status(crd)
    errors += _approval(crd, old)
    return errors + _preserve_unknown(crd, old)


def validate_status_update(crd: Obj) -> ErrorList:
    accepted = (crd.get("status") or {}).get("acceptedNames") or {}
    return name_errors(accepted, Path("status.acceptedNames"))


def _immutable(spec: Obj, before: Obj, *names: str) -> ErrorList:
    new, old = spec, before
    for name in names:
        new, old = new.get(name) or {}, old.get(name) or {}
    if new == old:
        return []
    return [invalid(SPEC.child(*names), new or "", "field is immutable")]


def schemas(spec: Obj) -> Iterator[dict[str, Any]]:
    for version in spec.get("versions") or ():
        schema = (version.get("schema") or {}).get("openAPIV3Schema")
        if schema is not None:
            yield schema


def anywhere(schema: dict[str, Any], predicate: Callable[[dict[str, Any]], bool]) -> bool:
    return predicate(schema) or any(anywhere(each, predicate) for each in subschemas(schema))


def _options(before: Obj) -> Options:
    """What the old object did wrong already may stay wrong."""

    def has(predicate: Callable[[dict[str, Any]], bool]) -> bool:
        return any(anywhere(schema, predicate) for schema in schemas(before))

    return Options(
        valid_types=not has(lambda s: bool(s.get("type")) and s["type"] not in TYPES),
        atomic_sets=not has(
            lambda s: (
                s.get("x-kubernetes-list-type") == "set"
                and isinstance(s.get("items"), dict)
                and bool(non_atomic_set(s["items"], SPEC))
            )
        ),
        map_keys=not has(lambda s: bool(map_key_errors(s, SPEC))),
        pruned_defaults=not has(
            lambda s: s.get("default") is not None and unpruned(s, s["default"])
        ),
    )


def _spec(spec: Obj, options: Options, before: Obj | None = None) -> ErrorList:
    errors = _group(spec)
    scope = spec.get("scope") or ""
    if not scope:
        errors.append(required(SPEC.child("scope")))
    elif scope not in ("Cluster", "Namespaced"):
        errors.append(not_supported(SPEC.child("scope"), scope, ("Cluster", "Namespaced")))
    versions: list[Obj] = spec.get("versions") or []
    where = SPEC.child("versions")
    for i, version in enumerate(versions):
        if (version.get("schema") or {}).get("openAPIV3Schema") is None:
            errors.append(required(where.index(i).child("schema", "openAPIV3Schema")))
    shared = {key for key in _SHARED if _same(versions, key)}
    for i, version in enumerate(versions):
        name = version.get("name") or ""
        messages = is_dns1035_label(name)
        if messages:
            errors.append(invalid(where.index(i).child("name"), name, ",".join(messages)))
            if i == 0 and name:  # the deprecated field, which upstream fills from the first version
                errors.append(invalid(SPEC.child("version"), name, ",".join(messages)))
        errors += _version(version, where.index(i), shared, options, before)
    names = [version.get("name") for version in versions]
    if len(set(names)) != len(names):
        errors.append(invalid(where, versions, "must contain unique version names"))
    if sum(bool(version.get("storage")) for version in versions) != 1:
        detail = "must have exactly one version marked as storage version"
        errors.append(invalid(where, spec.get("versions"), detail))
    errors += _required_names(spec.get("names") or {})
    errors += name_errors(spec.get("names") or {}, SPEC.child("names"))
    if versions:
        errors += _shared_errors(versions[0], shared, options, before)
    return errors + conversion_errors(spec.get("conversion"), SPEC.child("conversion"))


def _group(spec: Obj) -> ErrorList:
    group, where = spec.get("group") or "", SPEC.child("group")
    if not group:
        return [required(where)]
    messages = is_dns1123_subdomain(group)
    if messages:
        return [invalid(where, group, ",".join(messages))]
    if "." not in group:
        return [invalid(where, group, "should be a domain with at least one dot")]
    return []


def _same(versions: list[Obj], key: str) -> bool:
    return all(version.get(key) == versions[0].get(key) for version in versions)


def _required_names(names: Obj) -> ErrorList:
    keys = ("plural", "singular", "kind", "listKind")
    return [required(SPEC.child("names", key)) for key in keys if not names.get(key)]


def name_errors(names: Obj, path: Path) -> ErrorList:
    errors: ErrorList = []
    for key in ("plural", "singular"):
        name = names.get(key) or ""
        messages = is_dns1035_label(name) if name else []
        if messages:
            errors.append(invalid(path.child(key), name, ",".join(messages)))
    for key in ("kind", "listKind"):
        name = names.get(key) or ""
        messages = is_dns1035_label(name.lower()) if name else []
        if messages:
            errors.append(invalid(path.child(key), name, KIND_TEXT + ",".join(messages)))
    errors += _labels(names.get("shortNames") or (), path.child("shortNames"))
    if names.get("kind") and names["kind"] == names.get("listKind"):
        detail = "kind and listKind may not be the same"
        errors.append(invalid(path.child("listKind"), names["listKind"], detail))
    return errors + _labels(names.get("categories") or (), path.child("categories"))


def _labels(names: Any, path: Path) -> ErrorList:
    errors: ErrorList = []
    for i, name in enumerate(names):
        messages = is_dns1035_label(name)
        if messages:
            errors.append(invalid(path.index(i), name, ",".join(messages)))
    return errors


def _has_status(version: Obj) -> bool:
    return (version.get("subresources") or {}).get("status") is not None


def _version(
    version: Obj, path: Path, shared: set[str], options: Options, before: Obj | None
) -> ErrorList:
    errors = _deprecation(version, path.child("deprecationWarning"))
    own = {key: value for key, value in version.items() if key not in shared}
    return errors + _parts(own, path, {}, _has_status(version), options, before)


def _shared_errors(
    version: Obj, shared: set[str], options: Options, before: Obj | None
) -> ErrorList:
    top = {key: value for key, value in version.items() if key in shared}
    return _parts(top, SPEC, _SHARED, _has_status(version), options, before)


def _parts(
    version: Obj,
    path: Path,
    names: dict[str, str],
    status: bool,
    options: Options,
    before: Obj | None,
) -> ErrorList:
    """The four fields that versions may share, called as ``names`` says."""
    errors: ErrorList = []
    schema = (version.get("schema") or {}).get("openAPIV3Schema")
    if schema is not None:
        where = path.child(names.get("schema", "schema"))
        errors += _schema(schema, where, status, options, before)
    errors += _subresources(version.get("subresources") or {}, path.child("subresources"))
    for i, column in enumerate(version.get("additionalPrinterColumns") or ()):
        errors += _column(column, path.child("additionalPrinterColumns").index(i))
    fields = version.get("selectableFields") or []
    if fields and schema is not None:
        errors += _selectable_fields(fields, schema, path.child("selectableFields"), before)
    return errors


def _deprecation(version: Obj, path: Path) -> ErrorList:
    text = version.get("deprecationWarning")
    if text is None:
        return []
    if not version.get("deprecated"):
        return [invalid(path, text, "can only be set for deprecated versions")]
    errors: ErrorList = []
    if len(text.encode()) > 256:
        errors.append(invalid(path, text, "must be <= 256 characters long"))
    if not text:
        errors.append(invalid(path, text, "must not be an empty string"))
    at = 0
    for char in text:
        if not char.isprintable():
            detail = (
                "must only contain printable UTF-8 characters; non-printable character found at "
                f"index {at}"
            )
            errors.append(invalid(path, text, detail))
            break
        at += len(char.encode())
    return errors


def _schema(
    schema: dict[str, Any], path: Path, status: bool, options: Options, before: Obj | None
) -> ErrorList:
    errors = root_status_errors(schema, path) if status else []
    where = path.child("openAPIV3Schema")
    if schema.get("nullable"):
        errors.append(forbidden(where.child("nullable"), "nullable cannot be true at the root"))
    text, rules = conversion_error(schema), False
    if not text:
        found = structural_errors(where, schema)
        if not found:
            found = default_errors(schema, where, pruned=options.pruned_defaults)
            rules = not found
        errors += found
    unchanged = before is not None and any(schema == old for old in schemas(before))
    errors += schema_errors(schema, where, options, rules=rules and not unchanged)
    if text and not errors:
        errors.append(invalid(where, "", text))
    return errors


def _subresources(subresources: Obj, path: Path) -> ErrorList:
    scale = subresources.get("scale")
    if scale is None:
        return []
    errors: ErrorList = []
    for key, root in (("specReplicasPath", "spec"), ("statusReplicasPath", "status")):
        where, value = path.child(f"scale.{key}"), scale.get(key) or ""
        if not value:
            errors.append(required(where))
        else:
            errors += _simple_path(value, where) or _below(value, where, (root,))
    selector = scale.get("labelSelectorPath")
    if selector:
        where = path.child("scale.labelSelectorPath")
        errors += _simple_path(selector, where) or _below(selector, where, ("spec", "status"))
    return errors


def _below(value: str, path: Path, roots: tuple[str, ...]) -> ErrorList:
    if value.startswith(tuple(f".{root}." for root in roots)):
        return []
    where = f".{roots[0]}" if len(roots) == 1 else "either .spec or .status"
    return [invalid(path, value, f"should be a json path under {where}")]


def _simple_path(value: str, path: Path) -> ErrorList:
    if not value.startswith("."):
        return [invalid(path, value, "must be a simple json path starting with .")]
    return []


def _column(column: Obj, path: Path) -> ErrorList:
    errors: ErrorList = []
    if not column.get("name"):
        errors.append(required(path.child("name")))
    type_, listed = column.get("type") or "", f"must be one of {','.join(_COLUMN_TYPES)}"
    if not type_:
        errors.append(required(path.child("type"), listed))
    elif type_ not in _COLUMN_TYPES:
        errors.append(invalid(path.child("type"), type_, listed))
    format_ = column.get("format")
    if format_ and format_ not in _COLUMN_FORMATS:
        detail = f"must be one of {','.join(_COLUMN_FORMATS)}"
        errors.append(invalid(path.child("format"), format_, detail))
    where = path.child("JSONPath")
    if not column.get("jsonPath"):
        errors.append(required(where))
    else:
        errors += _simple_path(column["jsonPath"], where)
    return errors


def _selectable_fields(
    fields: list[Obj], schema: dict[str, Any], path: Path, before: Obj | None
) -> ErrorList:
    errors: ErrorList = []
    seen: set[tuple[str, ...]] = set()
    for i, field in enumerate(fields):
        where, text = path.index(i).child("jsonPath"), field.get("jsonPath") or ""
        if not text:
            errors.append(required(where))
            continue
        found, reason, steps = field_at(schema, text, brackets=False)
        if found is None:
            errors.append(invalid(where, text, f"is an invalid path: {reason}"))
            continue
        if steps[:1] == ["metadata"]:
            errors.append(invalid(where, text, "must not point to fields in metadata"))
        if found.get("type") not in ("string", "boolean", "integer"):
            detail = (
                "must point to a field of type string, boolean or integer. Enum string fields and "
                "strings with formats are allowed."
            )
            errors.append(invalid(where, text, detail))
        if tuple(steps) in seen:
            errors.append(duplicate(where, text))
        seen.add(tuple(steps))
    if len(seen) > MAX_SELECTABLE_FIELDS:
        old = [version.get("selectableFields") for version in (before or {}).get("versions") or ()]
        if fields not in old:
            errors.append(too_many(path, len(seen), MAX_SELECTABLE_FIELDS))
    return errors


def _status(crd: Obj) -> ErrorList:
    errors = validate_status_update(crd)
    where, stored = Path("status.storedVersions"), stored_versions(crd)
    if not stored:
        # Upstream counts a storage version without a name, too.
        if not any(version.get("storage") for version in crd["spec"].get("versions") or ()):
            errors.append(invalid(where, None, "must have at least one stored version"))
        return errors
    names = [version.get("name") for version in crd["spec"].get("versions") or ()]
    marked = [v.get("name") or "" for v in crd["spec"].get("versions") or () if v.get("storage")]
    current = marked[-1] if marked else ""
    if current and current not in stored:
        errors.append(invalid(where, stored, f"must have the storage version {current}"))
    for i, name in enumerate(stored):
        if name not in names:
            detail = (
                f"missing from spec.versions; {name} was previously a storage version, and must "
                "remain in spec.versions until a storage migration ensures no data remains "
                f"persisted in {name} and removes {name} from status.storedVersions"
            )
            errors.append(invalid(where.index(i), name, detail))
    return errors


def _approval(crd: Obj, old: Obj | None) -> ErrorList:
    if not is_protected_group(crd["spec"].get("group") or ""):
        return []
    state, reason = approval_state(crd)
    if old is not None and approval_state(old)[0] == state:
        return []
    where = Path("metadata.annotations").key(APPROVAL_ANNOTATION)
    if state == "Missing":
        return [required(where, reason)]
    if state == "Invalid":
        return [invalid(where, crd["metadata"]["annotations"][APPROVAL_ANNOTATION], reason)]
    return []


def _preserve_unknown(crd: Obj, old: Obj | None) -> ErrorList:
    if old is not None and old["spec"].get("preserveUnknownFields"):
        return []
    if not crd["spec"].get("preserveUnknownFields"):
        return []
    detail = (
        "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in "
        "spec.versions[*].schema instead"
    )
    return [invalid(SPEC.child("preserveUnknownFields"), True, detail)]
