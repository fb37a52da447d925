"""Cells of the core kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.quantity import canonical
from pilothouse.apiserver.registry.printing import (
    NO_DICT,
    NONE,
    UNKNOWN,
    UNSET,
    age,
    container_cells,
    format_labels,
    join_host_port,
    name,
    since,
)

if TYPE_CHECKING:
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj

_ROLE_PREFIX = "node-role.kubernetes.io/"
_MODES = {
    "ReadWriteOnce": "RWO",
    "ReadOnlyMany": "ROX",
    "ReadWriteMany": "RWX",
    "ReadWriteOncePod": "RWOP",
}
_CLASS_ANNOTATION = "volume.beta.kubernetes.io/storage-class"


def namespace(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), (obj.get("status") or NO_DICT).get("phase") or "", age(obj, now)]


def node(obj: Obj, now: datetime) -> list[Any]:
    status, info = obj.get("status") or NO_DICT, NO_DICT
    info = status.get("nodeInfo") or NO_DICT
    ready = next((c for c in status.get("conditions") or () if c.get("type") == "Ready"), None)
    states = ["Unknown"]
    if ready is not None:
        states = ["Ready" if ready.get("status") == "True" else "NotReady"]
    if (obj.get("spec") or NO_DICT).get("unschedulable"):
        states.append("SchedulingDisabled")
    kernel = info.get("kernelVersion") or UNKNOWN
    if info.get("architecture"):
        kernel += f" ({info['architecture']})"
    return [
        name(obj),
        ",".join(states),
        ",".join(_roles(obj)) or NONE,
        age(obj, now),
        info.get("kubeletVersion") or "",
        _address(status, "InternalIP"),
        _address(status, "ExternalIP"),
        info.get("osImage") or UNKNOWN,
        kernel,
        info.get("containerRuntimeVersion") or UNKNOWN,
    ]


def _roles(obj: Obj) -> list[str]:
    roles = set()
    for key, value in ((obj.get("metadata") or NO_DICT).get("labels") or NO_DICT).items():
        if key.startswith(_ROLE_PREFIX):
            roles.add(key[len(_ROLE_PREFIX) :])
        elif key == "kubernetes.io/role":
            roles.add(value)
    return sorted(roles - {""})


def _address(status: Obj, kind: str) -> str:
    for address in status.get("addresses") or ():
        if address.get("type") == kind:
            return address.get("address") or ""
    return NONE


def service(obj: Obj, now: datetime) -> list[Any]:
    spec = obj.get("spec") or NO_DICT
    ips = spec.get("clusterIPs") or ()
    return [
        name(obj),
        spec.get("type") or "",
        ips[0] if ips else NONE,
        _external_ip(obj, spec),
        _ports(spec) or NONE,
        age(obj, now),
        format_labels(spec.get("selector")),
    ]


def _external_ip(obj: Obj, spec: Obj) -> str:
    kind, external = spec.get("type"), list(spec.get("externalIPs") or ())
    if kind in ("ClusterIP", "NodePort"):
        return ",".join(external) or NONE
    if kind == "LoadBalancer":
        balancer = (obj.get("status") or NO_DICT).get("loadBalancer") or NO_DICT
        return ",".join([*ingress_addresses(balancer), *external]) or "<pending>"
    if kind == "ExternalName":
        return spec.get("externalName") or ""
    return UNKNOWN


def ingress_addresses(balancer: Obj) -> list[str]:
    """Sorted addresses or host names of a load balancer's status."""
    found = (i.get("ip") or i.get("hostname") for i in balancer.get("ingress") or ())
    return sorted({address for address in found if address})


def _ports(spec: Obj) -> str:
    pieces = []
    for port in spec.get("ports") or ():
        node_port = port.get("nodePort")
        number = f"{port.get('port')}:{node_port}" if node_port else str(port.get("port"))
        pieces.append(f"{number}/{port.get('protocol') or ''}")
    return ",".join(pieces)


def endpoints(obj: Obj, now: datetime) -> list[Any]:
    listed: list[str] = []
    for subset in obj.get("subsets") or ():
        addresses = [a.get("ip") or "" for a in subset.get("addresses") or ()]
        ports = subset.get("ports") or ()
        if not ports:
            listed += addresses
        for port in ports:
            listed += [join_host_port(ip, port.get("port")) for ip in addresses]
    text = NONE if not obj.get("subsets") else ",".join(listed[:3])
    if len(listed) > 3:
        text += f" + {len(listed) - 3} more..."
    return [name(obj), text, age(obj, now)]


def config_map(obj: Obj, now: datetime) -> list[Any]:
    count = len(obj.get("data") or ()) + len(obj.get("binaryData") or ())
    return [name(obj), count, age(obj, now)]


def secret(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), obj.get("type") or "", len(obj.get("data") or ()), age(obj, now)]


def name_and_age(obj: Obj, now: datetime) -> list[Any]:
    return [name(obj), age(obj, now)]


def event(obj: Obj, now: datetime) -> list[Any]:
    first = since(obj.get("firstTimestamp") or obj.get("eventTime"), now)
    last = since(obj["lastTimestamp"], now) if obj.get("lastTimestamp") else first
    count, series = obj.get("count") or 1, obj.get("series")
    if series:
        last, count = since(series.get("lastObservedTime"), now), series.get("count") or 0
    involved, source = obj.get("involvedObject") or NO_DICT, obj.get("source") or NO_DICT
    target = (involved.get("kind") or "").lower()
    if involved.get("name"):
        target += f"/{involved['name']}"
    component = source.get("component") or obj.get("reportingComponent") or ""
    instance = source.get("host") or obj.get("reportingInstance") or ""
    return [
        last,
        obj.get("type") or "",
        obj.get("reason") or "",
        target,
        involved.get("fieldPath") or "",
        f"{component}, {instance}" if instance else component,
        (obj.get("message") or "").strip(),
        first,
        count,
        name(obj),
    ]


def resource_quota(obj: Obj, now: datetime) -> list[Any]:
    status = obj.get("status") or NO_DICT
    hard, used = status.get("hard") or NO_DICT, status.get("used") or NO_DICT
    requests: list[str] = []
    limits: list[str] = []
    for resource in sorted(hard):
        target = limits if resource.startswith("limits.") else requests
        target.append(
            f"{resource}: {canonical(used.get(resource, '0'))}/{canonical(hard[resource])}"
        )
    return [name(obj), ", ".join(requests), ", ".join(limits), age(obj, now)]


def pod_template(obj: Obj, now: datetime) -> list[Any]:
    template = obj.get("template") or NO_DICT
    names, images = container_cells(template.get("spec"))
    labels = (template.get("metadata") or NO_DICT).get("labels")
    return [name(obj), names, images, format_labels(labels)]


def replication_controller(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    names, images = container_cells((spec.get("template") or NO_DICT).get("spec"))
    return [
        name(obj),
        spec.get("replicas") or 0,
        status.get("replicas") or 0,
        status.get("readyReplicas") or 0,
        age(obj, now),
        names,
        images,
        format_labels(spec.get("selector")),
    ]


def component_status(obj: Obj, now: datetime) -> list[Any]:
    for condition in obj.get("conditions") or ():
        if condition.get("type") == "Healthy":
            state = "Healthy" if condition.get("status") == "True" else "Unhealthy"
            return [
                name(obj),
                state,
                condition.get("message") or "",
                condition.get("error") or "",
            ]
    return [name(obj), "Unknown", "", ""]


def _access_modes(modes: list[str] | None) -> str:
    return ",".join(short for mode, short in _MODES.items() if mode in (modes or ()))


def _class_of(obj: Obj) -> str:
    annotations = (obj.get("metadata") or NO_DICT).get("annotations") or NO_DICT
    if _CLASS_ANNOTATION in annotations:
        return annotations[_CLASS_ANNOTATION] or ""
    return (obj.get("spec") or NO_DICT).get("storageClassName") or ""


def _phase(obj: Obj) -> str:
    if (obj.get("metadata") or NO_DICT).get("deletionTimestamp"):
        return "Terminating"
    return (obj.get("status") or NO_DICT).get("phase") or ""


def _optional(spec: Obj, field: str) -> str:
    value = spec.get(field)
    return UNSET if value is None else value


def persistent_volume(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    claim = spec.get("claimRef")
    return [
        name(obj),
        canonical((spec.get("capacity") or NO_DICT).get("storage", "0")),
        _access_modes(spec.get("accessModes")),
        spec.get("persistentVolumeReclaimPolicy") or "",
        _phase(obj),
        f"{claim.get('namespace') or ''}/{claim.get('name') or ''}" if claim else "",
        _class_of(obj),
        _optional(spec, "volumeAttributesClassName"),
        status.get("reason") or "",
        age(obj, now),
        _optional(spec, "volumeMode"),
    ]


def persistent_volume_claim(obj: Obj, now: datetime) -> list[Any]:
    spec, status = obj.get("spec") or NO_DICT, obj.get("status") or NO_DICT
    capacity = modes = ""
    if spec.get("volumeName"):
        modes = _access_modes(status.get("accessModes"))
        capacity = canonical((status.get("capacity") or NO_DICT).get("storage", "0"))
    return [
        name(obj),
        _phase(obj),
        spec.get("volumeName") or "",
        capacity,
        modes,
        _class_of(obj),
        _optional(spec, "volumeAttributesClassName"),
        age(obj, now),
        _optional(spec, "volumeMode"),
    ]
