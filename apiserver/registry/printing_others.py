"""Cells of networking, storage, RBAC and the remaining groups."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.timefmt import human_duration
from pilothouse.apiserver.registry.printing import (
    NO_DICT,
    NONE,
    UNSET,
    age,
    at_most_three,
    format_label_selector,
    format_labels,
    has_true_condition,
    name,
    since,
)
from pilothouse.apiserver.registry.printing_core import ingress_addresses

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj


def _spec(obj: Obj) -> Obj:
    return obj.get("spec") or NO_DICT


def _status(obj: Obj) -> Obj:
    return obj.get("status") or NO_DICT


def default_cells(obj: Obj, now: datetime) -> list[Any]:
    """Kinds without columns of their own: name and time of creation."""
    return [name(obj), (obj.get("metadata") or NO_DICT).get("creationTimestamp") or ""]


# -- discovery, networking --------------------------------------------------------------------


def endpoint_slice(obj: Obj, now: datetime) -> list[Any]:
    ports = []
    for port in obj.get("ports") or ():
        number = port.get("port")
        ports.append(str(number) if number is not None else port.get("name") or "*")
    addresses = [a for e in obj.get("endpoints") or () for a in e.get("addresses") or ()]
    kind = obj.get("addressType") or ""
    return [name(obj), kind, at_most_three(ports), at_most_three(addresses), age(obj, now)]


def ingress(obj: Obj, now: datetime) -> list[Any]:
    spec = _spec(obj)
    rules, class_name = spec.get("rules") or (), spec.get("ingressClassName")
    hosts = [r["host"] for r in rules[:3] if r.get("host")]
    text = ",".join(hosts) or "*"
    if hosts and len(rules) > 3:
        text += f" + {len(rules) - 3} more..."
    addresses = ingress_addresses(_status(obj).get("loadBalancer") or NO_DICT)
    ports = "80, 443" if spec.get("tls") else "80"
    shown_class = NONE if class_name is None else class_name
    return [name(obj), shown_class, text, ",".join(addresses), ports, age(obj, now)]


def ingress_class(obj: Obj, now: datetime) -> list[Any]:
    spec, shown = _spec(obj), name(obj)
    annotations = (obj.get("metadata") or NO_DICT).get("annotations") or NO_DICT
    if annotations.get("ingressclass.kubernetes.io/is-default-class") == "true":
        shown += " (default)"
    parameters, reference = NONE, spec.get("parameters")
    if reference is not None:
        group = reference.get("apiGroup")
        kind = reference.get("kind") or ""
        parameters = f"{kind}.{group}" if group is not None else kind
        parameters += f"/{reference.get('name') or ''}"
    return [shown, spec.get("controller") or "", parameters, age(obj, now)]


def network_policy(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), format_label_selector(_spec(obj).get("podSelector") or {}), age(obj, now)]


def service_cidr(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), ",".join(_spec(obj).get("cidrs") or ()), age(obj, now)]


def ip_address(obj: Obj, now: datetime) -> list[Any]:
    parent, shown = _spec(obj).get("parentRef"), NONE
    if parent is not None:
        group, resource = parent.get("group"), parent.get("resource") or ""
        shown = (f"{resource}.{group}" if group else resource).lower()
        if parent.get("namespace"):
            shown += f"/{parent['namespace']}"
        shown += f"/{parent.get('name') or ''}"
    return [name(obj), shown]


# -- storage ----------------------------------------------------------------------------------


def storage_class(obj: Obj, now: datetime) -> list[Any]:
    annotations = (obj.get("metadata") or NO_DICT).get("annotations") or NO_DICT
    default = annotations.get("storageclass.kubernetes.io/is-default-class") == "true"
    return [
        name(obj) + (" (default)" if default else ""),
        obj.get("provisioner") or "",
        obj.get("reclaimPolicy") or "Delete",
        obj.get("volumeBindingMode") or "Immediate",
        bool(obj.get("allowVolumeExpansion")),
        age(obj, now),
    ]


def volume_attributes_class(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), obj.get("driverName") or "", age(obj, now)]


def volume_attachment(obj: Obj, now: datetime) -> list[Any]:
    spec = _spec(obj)
    return [
        name(obj),
        spec.get("attacher") or "",
        (spec.get("source") or NO_DICT).get("persistentVolumeName") or "",
        spec.get("nodeName") or "",
        bool(_status(obj).get("attached")),
        age(obj, now),
    ]


def csi_node(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), len(_spec(obj).get("drivers") or ()), age(obj, now)]


def csi_driver(obj: Obj, now: datetime) -> list[Any]:
    spec = _spec(obj)
    tokens = spec.get("tokenRequests")
    audiences = UNSET if tokens is None else ",".join(t.get("audience") or "" for t in tokens)
    return [
        name(obj),
        spec.get("attachRequired") is not False,
        bool(spec.get("podInfoOnMount")),
        bool(spec.get("storageCapacity")),
        audiences,
        bool(spec.get("requiresRepublish")),
        ",".join(spec.get("volumeLifecycleModes") or ()) or NONE,
        age(obj, now),
    ]


def storage_version(obj: Obj, now: datetime) -> list[Any]:
    status = _status(obj)
    common = status.get("commonEncodingVersion")
    versions = [
        f"{v.get('apiServerID') or ''}={v.get('encodingVersion') or ''}"
        for v in status.get("storageVersions") or ()
    ]
    shown = UNSET if common is None else common
    return [name(obj), shown, at_most_three(versions), age(obj, now)]


def storage_version_migration(obj: Obj, now: datetime) -> list[Any]:
    resource = _spec(obj).get("resource") or NO_DICT
    group, plural = resource.get("group"), resource.get("resource") or ""
    states = ("Running", "Failed", "Succeeded")
    found = [
        c["type"]
        for c in _status(obj).get("conditions") or ()
        if c.get("status") == "True" and c.get("type") in states
    ]
    shown = f"{plural}.{group}" if group else plural
    return [name(obj), shown, found[-1] if found else "Unknown"]


# -- RBAC, certificates, admission, coordination ------------------------------------------------


def role_binding(obj: Obj, now: datetime) -> list[Any]:
    role = obj.get("roleRef") or NO_DICT
    listed: dict[str, list[str]] = {"User": [], "Group": [], "ServiceAccount": []}
    for subject in obj.get("subjects") or ():
        kind, shown = subject.get("kind") or "", subject.get("name") or ""
        if kind == "ServiceAccount" and subject.get("namespace"):
            shown = f"{subject['namespace']}/{shown}"
        if kind in listed:
            listed[kind].append(shown)
    reference = f"{role.get('kind') or ''}/{role.get('name') or ''}"
    return [name(obj), reference, age(obj, now), *(", ".join(v) for v in listed.values())]


def certificate_signing_request(obj: Obj, now: datetime) -> list[Any]:
    spec, status = _spec(obj), _status(obj)
    types = {c.get("type") for c in status.get("conditions") or ()}
    state = "Denied" if "Denied" in types else "Approved" if "Approved" in types else "Pending"
    if "Failed" in types:
        state += ",Failed"
    if status.get("certificate"):
        state += ",Issued"
    seconds = spec.get("expirationSeconds")
    duration = NONE if seconds is None else human_duration(seconds)
    signer = spec.get("signerName") or NONE
    return [name(obj), age(obj, now), signer, spec.get("username") or "", duration, state]


def cluster_trust_bundle(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), _spec(obj).get("signerName") or NONE]


def pod_certificate_request(obj: Obj, now: datetime) -> list[Any]:
    spec, state = _spec(obj), "Pending"
    for condition in _status(obj).get("conditions") or ():
        if condition.get("type") in ("Issued", "Denied", "Failed"):
            state = condition["type"]
    fields = ("podName", "serviceAccountName", "nodeName", "signerName")
    cells = [spec.get(field) or "" for field in fields]
    return [name(obj), *cells, state, format_labels(spec.get("unverifiedUserAnnotations"))]


def webhook_configuration(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), len(obj.get("webhooks") or ()), age(obj, now)]


def admission_policy(field: str) -> Callable[[Obj, datetime], list[Any]]:
    def cells(obj: Obj, now: datetime) -> list[Any]:
        spec = _spec(obj)
        kind = spec.get("paramKind")
        shown = UNSET if kind is None else f"{kind.get('apiVersion')}/{kind.get('kind')}"
        return [name(obj), len(spec.get(field) or ()), shown, age(obj, now)]

    return cells


validating_admission_policy = admission_policy("validations")
mutating_admission_policy = admission_policy("mutations")


def admission_policy_binding(obj: Obj, now: datetime) -> list[Any]:
    spec = _spec(obj)
    reference, shown = spec.get("paramRef"), UNSET
    if reference is not None:
        if reference.get("name"):
            shown = f"{reference.get('namespace') or '*'}/{reference['name']}"
        elif reference.get("selector") is not None:
            shown = format_label_selector(reference["selector"])
    return [name(obj), spec.get("policyName") or "", shown, age(obj, now)]


def lease(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), _spec(obj).get("holderIdentity") or "", age(obj, now)]


def lease_candidate(obj: Obj, now: datetime) -> list[Any]:
    spec = _spec(obj)
    fields = ("leaseName", "binaryVersion", "emulationVersion")
    return [name(obj), *(spec.get(field) or "" for field in fields), age(obj, now)]


# -- scheduling, flow control, node -------------------------------------------------------------


def priority_class(obj: Obj, now: datetime) -> list[Any]:
    value, default = obj.get("value") or 0, bool(obj.get("globalDefault"))
    return [name(obj), value, default, age(obj, now), obj.get("preemptionPolicy") or ""]


def runtime_class(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), obj.get("handler") or "", age(obj, now)]


def flow_schema(obj: Obj, now: datetime) -> list[Any]:
    spec = _spec(obj)
    method = spec.get("distinguisherMethod")
    conditions = _status(obj).get("conditions") or ()
    dangling = next((c.get("status") for c in conditions if c.get("type") == "Dangling"), "?")
    return [
        name(obj),
        (spec.get("priorityLevelConfiguration") or NO_DICT).get("name") or "",
        spec.get("matchingPrecedence") or 0,
        NONE if method is None else method.get("type") or "",
        age(obj, now),
        dangling,
    ]


def priority_level_configuration(obj: Obj, now: datetime) -> list[Any]:
    spec = _spec(obj)
    limited = spec.get("limited")
    shares: Any = NONE
    queues: list[Any] = [NONE, NONE, NONE]
    if limited is not None:
        shares = limited.get("nominalConcurrencyShares") or 0
        queuing = (limited.get("limitResponse") or NO_DICT).get("queuing")
        if queuing is not None:
            fields = ("queues", "handSize", "queueLengthLimit")
            queues = [queuing.get(field) or 0 for field in fields]
    return [name(obj), spec.get("type") or "", shares, *queues, age(obj, now)]


def _group_policy(obj: Obj) -> tuple[str, str]:
    spec = _spec(obj)
    gang = (spec.get("schedulingPolicy") or NO_DICT).get("gang") is not None
    workload = (spec.get("workloadRef") or NO_DICT).get("workloadName")
    return "Gang" if gang else "Basic", workload or NONE


def pod_group(obj: Obj, now: datetime) -> list[Any]:
    policy, workload = _group_policy(obj)
    conditions = {c.get("type"): c for c in _status(obj).get("conditions") or ()}
    state = "Pending"
    if "PodGroupInitiallyScheduled" in conditions:
        scheduled = has_true_condition(obj, "PodGroupInitiallyScheduled")
        state = "Scheduled" if scheduled else "Unschedulable"
    if "DisruptionTarget" in conditions:
        state = conditions["DisruptionTarget"].get("reason") or ""
    return [name(obj), policy, workload, state, age(obj, now)]


def composite_pod_group(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), *_group_policy(obj), age(obj, now)]


# -- resource.k8s.io ----------------------------------------------------------------------------


def resource_claim(obj: Obj, now: datetime) -> list[Any]:
    status = _status(obj)
    deleting = bool((obj.get("metadata") or NO_DICT).get("deletionTimestamp"))
    states = ["deleted"] if deleting else []
    if status.get("allocation") is not None:
        states.append("allocated")
        if status.get("reservedFor"):
            states.append("reserved")
    elif not deleting:
        states.append("pending")
    return [name(obj), ",".join(states), age(obj, now)]


def resource_slice(obj: Obj, now: datetime) -> list[Any]:
    spec = _spec(obj)
    pool = (spec.get("pool") or NO_DICT).get("name") or ""
    return [name(obj), spec.get("nodeName") or "", spec.get("driver") or "", pool, age(obj, now)]


def device_taint_rule(obj: Obj, now: datetime) -> list[Any]:
    taint = _spec(obj).get("taint") or NO_DICT
    added = taint.get("timeAdded")
    shown = since(added, now) if added else ""
    cells = [taint.get(field) or "" for field in ("key", "value", "effect")]
    return [name(obj), *cells, shown, age(obj, now)]


def api_service(obj: Obj, now: datetime) -> list[Any]:
    service = _spec(obj).get("service")
    shown = "Local"
    if service is not None:
        shown = f"{service.get('namespace') or ''}/{service.get('name') or ''}"
    available = "Unknown"
    for condition in _status(obj).get("conditions") or ():
        if condition.get("type") == "Available":
            available = condition.get("status") or ""
            if available != "True" and condition.get("reason"):
                available += f" ({condition['reason']})"
    return [name(obj), shown, available, age(obj, now)]
