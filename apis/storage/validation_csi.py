"""CSIDrivers and CSINodes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.validation_volume_sources import csi_driver_name
from pilothouse.apis.meta import validation as check
from pilothouse.apis.meta.equality import semantic_equal
from pilothouse.apis.meta.errors import IMMUTABLE, duplicate, invalid, not_supported, required

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

_GROUP_POLICIES = ("File", "None", "ReadWriteOnceWithFSType")
_LIFECYCLE_MODES = ("Persistent", "Ephemeral")
_MAX_NODE_ID = 256
_MIN_TOKEN_SECONDS, _MAX_TOKEN_SECONDS = 600, 1 << 32


def validate_csi_driver(driver: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    spec = driver.get("spec") or {}
    for field, shown in (
        ("attachRequired", "attachedRequired"),
        ("podInfoOnMount", "podInfoOnMount"),
        ("storageCapacity", "storageCapacity"),
    ):
        if spec.get(field) is None:
            errors.append(required(f"spec.{shown}"))
    policy = spec.get("fsGroupPolicy")
    if policy is not None and policy not in _GROUP_POLICIES:
        errors.append(not_supported("spec.fsGroupPolicy", policy, _GROUP_POLICIES))
    requests = spec.get("tokenRequests") or ()
    _token_requests(errors, requests)
    for mode in spec.get("volumeLifecycleModes") or ():
        if mode not in _LIFECYCLE_MODES:
            errors.append(not_supported("spec.volumeLifecycleModes", mode, _LIFECYCLE_MODES))
    if spec.get("seLinuxMount") is None:
        errors.append(required("spec.seLinuxMount"))
    period = spec.get("nodeAllocatableUpdatePeriodSeconds")
    if period is not None and period < 10:
        message = "must be greater than or equal to 10 seconds"
        errors.append(invalid("spec.nodeAllocatableUpdatePeriodSeconds", period, message))
    in_secrets = spec.get("serviceAccountTokenInSecrets")
    if in_secrets is not None and not requests:
        message = "serviceAccountTokenInSecrets is set but no tokenRequests are specified"
        errors.append(invalid("spec.serviceAccountTokenInSecrets", in_secrets, message))
    if spec.get("preventPodSchedulingIfMissing") is None:
        errors.append(required("spec.preventPodSchedulingIfMissing"))
    if old is not None:
        _driver_update(errors, spec, old.get("spec") or {})
    return errors


def _driver_update(errors: ErrorList, spec: Obj, before: Obj) -> None:
    for field, shown in (
        ("attachRequired", "attachedRequired"),
        ("volumeLifecycleModes", "volumeLifecycleModes"),
    ):
        if not semantic_equal(spec.get(field), before.get(field)):
            errors.append(invalid(f"spec.{shown}", spec.get(field), IMMUTABLE))


def _token_requests(errors: ErrorList, requests: list[Obj] | tuple[()]) -> None:
    audiences: set[str] = set()
    for i, request in enumerate(requests):
        path, audience = f"spec.tokenRequests[{i}]", request.get("audience") or ""
        if audience in audiences:
            errors.append(duplicate(f"{path}.audience", audience))
            continue
        audiences.add(audience)
        seconds = request.get("expirationSeconds")
        if seconds is None:
            continue
        if seconds < _MIN_TOKEN_SECONDS:
            message = "may not specify a duration less than 10 minutes"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, message))
        if seconds > _MAX_TOKEN_SECONDS:
            message = "may not specify a duration larger than 2^32 seconds"
            errors.append(invalid(f"{path}.expirationSeconds", seconds, message))


def validate_csi_node(node: Obj, old: Obj | None = None) -> ErrorList:
    errors: ErrorList = []
    drivers = (node.get("spec") or {}).get("drivers") or ()
    seen: set[str] = set()
    for i, driver in enumerate(drivers):
        _node_driver(errors, driver, seen, f"spec.drivers[{i}]")
    known = {d.get("name"): d for d in ((old or {}).get("spec") or {}).get("drivers") or ()}
    for driver in drivers:
        before = known.get(driver.get("name"))
        if before is not None and not semantic_equal(_fixed(driver), _fixed(before)):
            errors.append(invalid("spec.drivers", _fixed(driver), IMMUTABLE))
    return errors


def _fixed(driver: Obj) -> Obj:
    """What of a driver may not change: all but the count of volumes."""
    return {key: value for key, value in driver.items() if key != "allocatable"}


def _node_driver(errors: ErrorList, driver: Obj, seen: set[str], path: str) -> None:
    name, node_id = driver.get("name") or "", driver.get("nodeID") or ""
    csi_driver_name(errors, name, f"{path}.name")
    if not node_id:
        errors.append(required(f"{path}.nodeID"))
    if len(node_id.encode()) > _MAX_NODE_ID:
        message = f"must be {_MAX_NODE_ID} characters or less"
        errors.append(invalid(f"{path}.nodeID", node_id, message))
    check.nonnegative(errors, driver.get("allocatable") or {}, "count", f"{path}.allocatable")
    if name in seen:
        errors.append(duplicate(f"{path}.name", name))
    seen.add(name)
    keys: set[str] = set()
    for key in driver.get("topologyKeys") or ():
        if not key:
            errors.append(required(path))
        if key in keys:
            errors.append(duplicate(path, key))
        keys.add(key)
        check.qualified_name(errors, key, path)
