"""Query parameters and delete bodies → checked options (apimachinery meta/internalversion).

Upstream's rules and texts: a value of the wrong type is 400 with Go's strconv message, a
combination that makes no sense is 422 of kind ListOptions, CreateOptions… in meta.k8s.io.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import new_bad_request, new_invalid
from pilothouse.apimachinery.fieldpath import Path
from pilothouse.apimachinery.fields import parse_field_selector
from pilothouse.apimachinery.labels import parse_selector
from pilothouse.apimachinery.metavalidation import validate_field_manager
from pilothouse.apimachinery.schema import GroupKind, GroupVersionKind
from pilothouse.apis.meta.errors import forbidden, invalid, not_supported, required
from pilothouse.apiserver.registry.selection import Selection

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.fields import FieldSelector
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Query, Request

META = "meta.k8s.io"
NOT_OLDER_THAN, EXACT = "NotOlderThan", "Exact"
_FIELD_VALIDATION = ("", "Ignore", "Strict", "Warn")
_FIELD_LABEL_ERRORS = {
    "Job": 'field label "{0}" not supported for Job',
    "ResourceSlice": ("field label not supported for resource.k8s.io/v1, Kind=ResourceSlice: {0}"),
}
_POLICIES = ("Foreground", "Background", "Orphan", "nil")


def parse_bool(query: Query, name: str) -> bool | None:
    """None when absent; anything but false and 0 is true, as upstream converts."""
    values = query.get(name)
    return None if not values else values[0].lower() not in ("false", "0")


def parse_int(query: Query, name: str) -> int | None:
    """:raises StatusError: 400 with strconv's text."""
    values = query.get(name)
    if not values:
        return None
    text = values[0]
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not (digits.isascii() and digits.isdigit()):
        raise new_bad_request(f'strconv.ParseInt: parsing "{text}": invalid syntax')
    value = int(text) if len(digits) < 25 else 1 << 63
    if not -(1 << 63) <= value < 1 << 63:
        raise new_bad_request(f'strconv.ParseInt: parsing "{text}": value out of range')
    return value


def _value(query: Query, name: str) -> str:
    values = query.get(name)
    return values[0] if values else ""


@dataclass(slots=True)
class ListOptions:
    """What a list, watch or deletecollection asks for."""

    selection: Selection
    watch: bool = False
    bookmarks: bool = False
    resource_version: str = ""
    match: str = ""
    timeout_seconds: int | None = None
    limit: int = 0
    continue_token: str = ""
    send_initial_events: bool | None = None


NO_SELECTION = Selection()


def parse_list_options(request: Request, served: ServedResource) -> ListOptions:
    """:raises StatusError: 400, 422."""
    query, info = request.query, request.info
    if not query and not info.name:
        return ListOptions(NO_SELECTION, watch=info.verb == "watch")
    fields = _field_selector(_value(query, "fieldSelector"), served)
    options = ListOptions(
        Selection(_label_selector(_value(query, "labelSelector")), _named(fields, info.name)),
        watch=info.verb == "watch",
        bookmarks=bool(parse_bool(query, "allowWatchBookmarks")),
        resource_version=_value(query, "resourceVersion"),
        match=_value(query, "resourceVersionMatch"),
        timeout_seconds=parse_int(query, "timeoutSeconds"),
        limit=max(parse_int(query, "limit") or 0, 0),
        continue_token=_value(query, "continue"),
        send_initial_events=parse_bool(query, "sendInitialEvents"),
    )
    errors = _watch_errors(options) if options.watch else _list_errors(options)
    if errors:
        raise new_invalid(GroupKind(META, "ListOptions"), "", errors)
    return options


def _label_selector(text: str) -> Any:
    if not text:
        return None
    try:
        selector = parse_selector(text)
    except ValueError as error:
        raise new_bad_request(str(error)) from error
    return None if selector.empty else selector


def _field_selector(text: str, served: ServedResource) -> FieldSelector | None:
    if not text:
        return None
    try:
        selector = parse_field_selector(text)
    except ValueError as error:
        raise new_bad_request(str(error)) from error
    strategy = served.store.strategy
    if served.converter is not None and served.converter.field_labels:
        labels = served.converter.field_labels
        for field, _, _ in selector.requirements:
            if field not in labels:
                raise new_bad_request(f"field label not supported: {field}")
        selector = selector.transform(lambda field, value: (labels.get(field, field), value))
    for field, _, _ in selector.requirements:
        if field == "metadata.name" or field in strategy.selectable_fields:
            continue
        if field == "metadata.namespace":
            continue
        if strategy.selectable_fields or served.resource.custom:
            text = _FIELD_LABEL_ERRORS.get(served.resource.kind, "field label not supported: {0}")
            raise new_bad_request(text.format(field))
        raise new_bad_request(
            f'"{field}" is not a known field selector: only "metadata.name", "metadata.namespace"'
        )
    return None if selector.empty else selector


def _named(fields: FieldSelector | None, name: str) -> FieldSelector | None:
    """A name in the path (or in the selector itself) restricts like a field selector."""
    if not name:
        return fields
    if fields is None:
        return parse_field_selector(f"metadata.name={name}")
    if fields.requires_exact("metadata.name") != name:
        raise new_bad_request("fieldSelector metadata.name doesn't match requested name")
    return fields


def _list_errors(options: ListOptions) -> ErrorList:
    errors: ErrorList = []
    match = options.match
    path = "resourceVersionMatch"
    if match:
        if not options.resource_version:
            errors.append(
                forbidden(path, f"{path} is forbidden unless resourceVersion is provided")
            )
        if options.continue_token:
            errors.append(forbidden(path, f"{path} is forbidden when continue is provided"))
        if match not in (EXACT, NOT_OLDER_THAN):
            errors.append(not_supported(path, match, (EXACT, NOT_OLDER_THAN, "")))
        if match == EXACT and options.resource_version == "0":
            detail = f'{path} "exact" is forbidden for resourceVersion "0"'
            errors.append(forbidden(path, detail))
    if options.send_initial_events is not None:
        detail = "sendInitialEvents is forbidden for list"
        errors.append(forbidden("sendInitialEvents", detail))
    return errors


def _watch_errors(options: ListOptions) -> ErrorList:
    errors: ErrorList = []
    match = options.match
    path = "resourceVersionMatch"
    if options.send_initial_events is not None and match != NOT_OLDER_THAN:
        detail = f"sendInitialEvents requires setting {path} to {NOT_OLDER_THAN}"
        errors.append(forbidden(path, detail))
    if match:
        if options.send_initial_events is None:
            detail = f"{path} is forbidden for watch unless sendInitialEvents is provided"
            errors.append(forbidden(path, detail))
        if match != NOT_OLDER_THAN:
            errors.append(not_supported(path, match, (NOT_OLDER_THAN,)))
    if options.continue_token:
        errors.append(forbidden(path, f"{path} is forbidden when continue is provided"))
    return errors


@dataclass(slots=True)
class WriteOptions:
    """CreateOptions, UpdateOptions and PatchOptions in one."""

    dry_run: bool = False
    field_manager: str = ""
    field_validation: str = "Warn"
    force: bool | None = None
    asked_validation: str = ""
    """``field_validation`` as the request has it, if it does."""

    def wire(self, kind: str) -> Obj:
        """As admission plugins see it."""
        options: Obj = {"kind": kind, "apiVersion": f"{META}/v1"}
        if self.dry_run:
            options["dryRun"] = ["All"]
        if self.field_manager:
            options["fieldManager"] = self.field_manager
        if self.asked_validation:
            options["fieldValidation"] = self.asked_validation
        return options


_DEFAULT_WRITE = WriteOptions()


def parse_write_options(query: Query, kind: str, *, apply: bool = False) -> WriteOptions:
    """``kind`` names the options in errors. :raises StatusError: 422."""
    if not query and not apply:
        return _DEFAULT_WRITE
    manager, validation = _value(query, "fieldManager"), _value(query, "fieldValidation")
    force = parse_bool(query, "force") if kind == "PatchOptions" else None
    errors: ErrorList = []
    if apply and not manager:
        errors.append(required("fieldManager", "is required for apply patch"))
    if not apply and force is not None:
        errors.append(forbidden("force", "may not be specified for non-apply patch"))
    if manager:
        errors += validate_field_manager(manager, Path("fieldManager"))
    dry_run = query.get("dryRun") or []
    errors += _dry_run_errors(dry_run)
    if validation not in _FIELD_VALIDATION:
        errors.append(not_supported("fieldValidation", validation, _FIELD_VALIDATION))
    if errors:
        raise new_invalid(GroupKind(META, kind), "", errors)
    return WriteOptions(bool(dry_run), manager, validation or "Warn", force, validation)


def _dry_run_errors(values: list[str]) -> ErrorList:
    if all(value == "All" for value in values):
        return []
    return [not_supported("dryRun", values, ("All",))]


def manager_name(options: WriteOptions, user_agent: str) -> str:
    """The field manager, or the User-Agent up to its first slash (managerOrUserAgent)."""
    if options.field_manager:
        return options.field_manager
    prefix = user_agent.partition("/")[0]
    clean = "".join(char for char in prefix if char.isprintable())
    return clean.encode()[:128].decode("utf-8", "ignore") or "unknown"


def parse_delete_options(request: Request) -> Obj:
    """A DeleteOptions from the body, or from the query when there is none.

    :raises StatusError: 400, 415, 422.
    """
    if request.obj is not None:
        options = dict(request.obj)
    elif request.body:
        options = _decode_delete_options(request)
    else:
        options = _delete_options_from(request.query)
    check_delete_options(options)
    if request.audit is not None and (request.obj is not None or request.body):
        head = {"kind": "DeleteOptions", "apiVersion": f"{META}/__internal"}
        request.audit.set_request(options | head)
    return options


def check_delete_options(options: Obj) -> None:
    """:raises StatusError: 422."""
    errors: ErrorList = []
    policy = options.get("propagationPolicy")
    if options.get("orphanDependents") is not None and policy is not None:
        detail = "orphanDependents and deletionPropagation cannot be both set"
        errors.append(invalid("propagationPolicy", policy, detail))
    if policy is not None and policy not in _POLICIES[:3]:
        errors.append(not_supported("propagationPolicy", policy, _POLICIES))
    errors += _dry_run_errors(options.get("dryRun") or [])
    if errors:
        raise new_invalid(GroupKind(META, "DeleteOptions"), "", errors)


_IGNORE_READ_ERRORS = "ignoreStoreReadErrorWithClusterBreakingPotential"


def _delete_options_from(query: Query) -> Obj:
    options: Obj = {}
    period = parse_int(query, "gracePeriodSeconds")
    if period is not None:
        options["gracePeriodSeconds"] = period
    orphan = parse_bool(query, "orphanDependents")
    if orphan is not None:
        options["orphanDependents"] = orphan
    if query.get("propagationPolicy"):
        options["propagationPolicy"] = query["propagationPolicy"][0]
    if query.get("dryRun"):
        options["dryRun"] = query["dryRun"]
    if parse_bool(query, _IGNORE_READ_ERRORS):
        options[_IGNORE_READ_ERRORS] = True
    preconditions = {
        key: query[key][0] for key in ("uid", "resourceVersion") if query.get(key, [""])[0]
    }
    if preconditions:
        options["preconditions"] = preconditions
    return options


_DELETE_OPTIONS = GroupVersionKind(META, "v1", "DeleteOptions")


def _decode_delete_options(request: Request) -> Obj:
    from pilothouse.apis.schemas import definition
    from pilothouse.apiserver.codec.decode import decode_body

    schema = definition("io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions")
    decoded = decode_body(
        request.body,
        request.headers.get("content-type", ""),
        default_gvk=_DELETE_OPTIONS,
        field_validation="Ignore",
        schema_for=lambda gvk: schema if gvk.kind == "DeleteOptions" else None,
        bare_errors=True,
    )
    if decoded.gvk.kind != "DeleteOptions":
        raise new_bad_request("decoded object cannot be converted to DeleteOptions")
    return decoded.obj
