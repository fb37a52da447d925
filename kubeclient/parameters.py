"""What a call's options are on the wire: query parameters and the DeleteOptions body.

Both transports of :class:`~.interfaces.Client` send the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.kubeclient.interfaces import DeleteOptions, ListOptions


def list_parameters(options: ListOptions) -> dict[str, str]:
    query = {
        "labelSelector": options.label_selector,
        "fieldSelector": options.field_selector,
        "resourceVersion": options.resource_version,
        "resourceVersionMatch": options.resource_version_match,
        "limit": str(options.limit or ""),
        "continue": options.continue_token,
    }
    return {k: v for k, v in query.items() if v}


def watch_parameters(
    options: ListOptions, *, send_initial_events: bool, allow_bookmarks: bool, timeout_seconds: int
) -> dict[str, str]:
    query = list_parameters(options) | {"watch": "true"}
    if allow_bookmarks:
        query["allowWatchBookmarks"] = "true"
    if send_initial_events:
        query["sendInitialEvents"] = "true"
        query.setdefault("resourceVersionMatch", "NotOlderThan")
    if timeout_seconds:
        query["timeoutSeconds"] = str(timeout_seconds)
    return query


def write_parameters(field_manager: str, dry_run: bool, *, force: bool = False) -> dict[str, str]:
    query = {"fieldManager": field_manager} if field_manager else {}
    if dry_run:
        query["dryRun"] = "All"
    if force:
        query["force"] = "true"
    return query


def delete_options_body(options: DeleteOptions) -> Obj:
    """The options as the wire object."""
    body: Obj = {"kind": "DeleteOptions", "apiVersion": "v1"}
    if options.grace_period_seconds is not None:
        body["gracePeriodSeconds"] = options.grace_period_seconds
    if options.propagation_policy:
        body["propagationPolicy"] = options.propagation_policy
    preconditions = {}
    if options.precondition_uid:
        preconditions["uid"] = options.precondition_uid
    if options.precondition_resource_version:
        preconditions["resourceVersion"] = options.precondition_resource_version
    if preconditions:
        body["preconditions"] = preconditions
    if options.dry_run:
        body["dryRun"] = ["All"]
    return body
