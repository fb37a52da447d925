"""Pods."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.object import copy_object, meta
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apis.core.defaults_pod import set_pod_defaults
from pilothouse.apis.core.pod_helpers import visit_containers
from pilothouse.apis.core.qos import compute_pod_qos
from pilothouse.apis.core.resource_requests import default_pod_level_resources
from pilothouse.apis.core.validation_pod import (
    validate_ephemeral_containers_update,
    validate_pod_create,
    validate_pod_update,
)
from pilothouse.apis.core.validation_pod_annotations import APP_ARMOR_PREFIX
from pilothouse.apis.core.validation_pod_resize import validate_pod_resize
from pilothouse.apis.core.validation_pod_status import validate_pod_status_update
from pilothouse.apis.core.warnings_pod import app_armor_profile_of, pod_warnings
from pilothouse.apiserver.registry.builtin import BuiltInStrategy, keep_metadata, pod_name_warning

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"
_PREFERRED = "preferredDuringSchedulingIgnoredDuringExecution"
_KEPT_STATUS = (
    "qosClass",
    "resourceClaimStatuses",
    "extendedResourceClaimStatus",
    "nodeAllocatableResourceClaimStatuses",
)


class PodStrategy(BuiltInStrategy):
    resource = GroupResource("", "pods")
    graceful = True
    status_apart = True
    selectable_fields = (
        "spec.nodeName",
        "spec.restartPolicy",
        "spec.schedulerName",
        "spec.serviceAccountName",
        "spec.hostNetwork",
        "status.phase",
        "status.podIP",
        "status.podIPs",
        "status.nominatedNodeName",
    )

    def default(self, obj: Obj) -> None:
        set_pod_defaults(obj)

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        status: Obj = {"phase": "Pending"}
        obj["status"] = status
        spec = obj["spec"]
        if spec.get("schedulingGates"):
            status["conditions"] = [_gated_condition(context)]
        labels = meta(obj).get("labels") or {}
        if spec.get("affinity"):
            _match_label_keys_of_affinity(spec["affinity"], labels)
        for constraint in spec.get("topologySpreadConstraints") or ():
            _match_label_keys(constraint, labels, with_mismatch=False)
        if meta(obj).get("annotations") or spec.get("securityContext"):
            _app_armor_version_skew(obj, spec)
        if spec.get("resources"):
            default_pod_level_resources(obj)
        status["qosClass"] = compute_pod_qos(obj)

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        resources = (old.get("spec") or {}).get("resources")
        if resources is not None and obj["spec"].get("resources") is None:
            obj["spec"]["resources"] = copy_object(resources)

    def prepare_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        keep_metadata(obj, old, "ownerReferences")
        obj["metadata"].pop("deletionTimestamp", None)
        old_status = old.get("status") or {}
        status = dict(obj.get("status") or {})
        for field in _KEPT_STATUS:
            if not status.get(field) and old_status.get(field):
                status[field] = old_status[field]
        _keep_observed_generations(status, old_status)
        _same_pod_ips(status)
        obj["status"] = status

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_pod_create(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_pod_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_pod_status_update(obj, old)

    def warnings_on_create(self, context: RegistryContext, obj: Obj) -> list[str]:
        return pod_name_warning(obj, "the Pod's hostname") + pod_warnings(obj)

    def grace_period(self, context: RegistryContext, obj: Obj, requested: int | None) -> int:
        """CheckGracefulDelete: nothing to wait for when it never ran or has finished."""
        spec, status = obj.get("spec") or {}, obj.get("status") or {}
        period = requested
        if period is None:
            period = spec.get("terminationGracePeriodSeconds") or 0
        if not spec.get("nodeName") or status.get("phase") in ("Failed", "Succeeded"):
            return 0
        return 1 if period < 0 else period

    def fields(self, obj: Obj) -> dict[str, str]:
        metadata, spec, status = meta(obj), obj.get("spec") or {}, obj.get("status") or {}
        ips = status.get("podIPs") or ()
        return {
            "metadata.name": metadata.get("name") or "",
            "metadata.namespace": metadata.get("namespace") or "",
            "spec.nodeName": spec.get("nodeName") or "",
            "spec.restartPolicy": spec.get("restartPolicy") or "",
            "spec.schedulerName": spec.get("schedulerName") or "",
            "spec.serviceAccountName": spec.get("serviceAccountName") or "",
            "spec.hostNetwork": "true" if spec.get("hostNetwork") else "false",
            "status.phase": status.get("phase") or "",
            "status.podIP": (ips[0].get("ip") or "") if ips else "",
            "status.podIPs": (ips[0].get("ip") or "") if ips else "",
            "status.nominatedNodeName": status.get("nominatedNodeName") or "",
        }


def _gated_condition(context: RegistryContext) -> Obj:
    return {
        "type": "PodScheduled",
        "status": "False",
        "lastProbeTime": None,
        "lastTransitionTime": format_time(context.clock.now()),
        "reason": "SchedulingGated",
        "message": "Scheduling is blocked due to non-empty scheduling gates",
    }


def _match_label_keys_of_affinity(affinity: Obj, labels: dict[str, str]) -> None:
    """matchLabelKeys become expressions of the selector, with the pod's own values."""
    for field in ("podAffinity", "podAntiAffinity"):
        terms = affinity.get(field) or {}
        for weighted in terms.get(_PREFERRED) or ():
            _match_label_keys(weighted.get("podAffinityTerm") or {}, labels)
        for term in terms.get(_REQUIRED) or ():
            _match_label_keys(term, labels)


def _match_label_keys(term: Obj, labels: dict[str, str], *, with_mismatch: bool = True) -> None:
    selector = term.get("labelSelector")
    if selector is None:
        return
    keys = [("In", key) for key in term.get("matchLabelKeys") or ()]
    if with_mismatch:
        keys += [("NotIn", key) for key in term.get("mismatchLabelKeys") or ()]
    added = [
        {"key": key, "operator": operator, "values": [labels[key]]}
        for operator, key in keys
        if key in labels
    ]
    if added:
        selector["matchExpressions"] = [*(selector.get("matchExpressions") or ()), *added]


def _app_armor_version_skew(obj: Obj, spec: Obj) -> None:
    """Annotations of before v1.30 and the field are kept in step (applyAppArmorVersionSkew)."""
    if (spec.get("os") or {}).get("name") == "windows":
        return
    pod_profile = (spec.get("securityContext") or {}).get("appArmorProfile")
    annotations: dict[str, str] = meta(obj).get("annotations") or {}
    for container, _ in visit_containers(spec):
        key = APP_ARMOR_PREFIX + (container.get("name") or "")
        context = container.get("securityContext") or {}
        own = context.get("appArmorProfile")
        if key in annotations and own is None:
            profile = app_armor_profile_of(annotations[key])
            if profile is not None and profile != pod_profile:
                container["securityContext"] = {**context, "appArmorProfile": profile}
        elif key not in annotations and (own or pod_profile) is not None:
            annotation = _app_armor_annotation(own or pod_profile)
            if annotation:
                annotations = {**annotations, key: annotation}
                obj["metadata"]["annotations"] = annotations


def _app_armor_annotation(profile: Any) -> str:
    kind, local = profile.get("type"), profile.get("localhostProfile")
    if kind == "Localhost":
        return f"localhost/{local}" if local else ""
    return {"Unconfined": "unconfined", "RuntimeDefault": "runtime/default"}.get(kind, "")


def _keep_observed_generations(status: Obj, old_status: Obj) -> None:
    """Clients that do not know observedGeneration do not wipe it."""
    if not status.get("observedGeneration") and old_status.get("observedGeneration"):
        status["observedGeneration"] = old_status["observedGeneration"]
    before: dict[str, list[int]] = {}
    for condition in old_status.get("conditions") or ():
        generations = before.setdefault(condition.get("type") or "", [])
        generations.append(condition.get("observedGeneration") or 0)
    conditions = []
    for condition in status.get("conditions") or ():
        generations = before.get(condition.get("type") or "") or []
        generation = generations.pop(0) if generations else 0
        if generation and not condition.get("observedGeneration"):
            condition = {**condition, "observedGeneration": generation}
        conditions.append(condition)
    if conditions:
        status["conditions"] = conditions


def _same_pod_ips(status: Obj) -> None:
    """podIP and podIPs[0] are one value, whichever the client sends (SetDefaults_PodStatus)."""
    ip, ips = status.get("podIP"), status.get("podIPs")
    if ip and (not ips or ips[0].get("ip") != ip):
        status["podIPs"] = [{"ip": ip}]
    elif ips and not ip:
        status["podIP"] = ips[0].get("ip") or ""


class EphemeralContainersStrategy(PodStrategy):
    """The ``ephemeralcontainers`` sub-resource: everything else stays as it is."""

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        wanted = (obj.get("spec") or {}).get("ephemeralContainers")
        _restore(obj, old)
        if wanted:
            obj["spec"]["ephemeralContainers"] = wanted
        else:
            obj["spec"].pop("ephemeralContainers", None)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_ephemeral_containers_update(obj, old)


class ResizeStrategy(PodStrategy):
    """The ``resize`` sub-resource: cpu and memory of containers and of the pod."""

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        spec, old_spec = obj.get("spec") or {}, old.get("spec") or {}
        for field in ("containers", "initContainers"):
            if len(spec.get(field) or ()) != len(old_spec.get(field) or ()):
                return
        merged = {
            f: _resized(spec.get(f), old_spec.get(f)) for f in ("containers", "initContainers")
        }
        resources = spec.get("resources")
        _restore(obj, old)
        for field, containers in merged.items():
            if containers:
                obj["spec"][field] = containers
        if resources is not None:
            obj["spec"]["resources"] = resources
            default_pod_level_resources(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_pod_resize(obj, old)


def _resized(new: list[Obj] | None, old: list[Obj] | None) -> list[Obj] | None:
    if not new or not old:
        return new
    merged: list[Obj] = []
    for container, before in zip(new, old, strict=True):
        if container.get("name") != before.get("name"):
            return new
        kept = {k: v for k, v in before.items() if k not in ("resources", "resizePolicy")}
        changes = {k: container[k] for k in ("resources", "resizePolicy") if k in container}
        merged.append(kept | changes)
    return merged


def _restore(obj: Obj, old: Obj) -> None:
    """Spec and status of ``old``; of the metadata what a status update may change stays."""
    obj["spec"] = copy_object(old.get("spec") or {})
    if "status" in old:
        obj["status"] = old["status"]
    keep_metadata(
        obj,
        old,
        "labels",
        "annotations",
        "finalizers",
        "ownerReferences",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    )


STRATEGY = PodStrategy()
EPHEMERAL_CONTAINERS_STRATEGY = EphemeralContainersStrategy()
RESIZE_STRATEGY = ResizeStrategy()
