"""Defaults of the smaller core kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.defaults_pod import set_template_defaults

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj


def set_namespace_defaults(namespace: Obj) -> None:
    metadata = namespace.setdefault("metadata", {})
    if metadata.get("name"):
        labels = metadata.get("labels")
        if labels is None:
            labels = metadata["labels"] = {}
        labels["kubernetes.io/metadata.name"] = metadata["name"]
    status = namespace.get("status")
    if status is None:
        status = namespace["status"] = {}
    if not status.get("phase"):
        status["phase"] = "Active"


def set_node_defaults(node: Obj) -> None:
    spec = node.get("spec") or {}
    first = spec.get("podCIDR")
    if first and (spec.get("podCIDRs") or [""])[0] != first:
        spec["podCIDRs"] = [first]
    elif spec.get("podCIDRs") and not first:
        spec["podCIDR"] = spec["podCIDRs"][0]
    status = node.get("status")
    if status and status.get("allocatable") is None and status.get("capacity"):
        status["allocatable"] = dict(status["capacity"])


def set_secret_defaults(secret: Obj) -> None:
    if not secret.get("type"):
        secret["type"] = "Opaque"


def set_endpoints_defaults(endpoints: Obj) -> None:
    for subset in endpoints.get("subsets") or ():
        for port in subset.get("ports") or ():
            if not port.get("protocol"):
                port["protocol"] = "TCP"


def set_replication_controller_defaults(controller: Obj) -> None:
    spec = controller.setdefault("spec", {})
    template = spec.get("template")
    if template is not None:
        set_template_defaults(template)
        labels = (template.get("metadata") or {}).get("labels")
        if labels:
            if not spec.get("selector"):
                spec["selector"] = dict(labels)
            metadata = controller.setdefault("metadata", {})
            if not metadata.get("labels"):
                metadata["labels"] = dict(labels)
    if spec.get("replicas") is None:
        spec["replicas"] = 1


def set_limit_range_defaults(limit_range: Obj) -> None:
    for item in (limit_range.get("spec") or {}).get("limits") or ():
        if item.get("type") != "Container":
            continue
        default = dict(item.get("default") or {})
        for name, quantity in (item.get("max") or {}).items():
            default.setdefault(name, quantity)
        request = dict(item.get("defaultRequest") or {})
        for source in (default, item.get("min") or {}):
            for name, quantity in source.items():
                request.setdefault(name, quantity)
        if default:
            item["default"] = default
        if request:
            item["defaultRequest"] = request


def set_persistent_volume_defaults(volume: Obj) -> None:
    status = volume.get("status")
    if status is None:
        status = volume["status"] = {}
    if not status.get("phase"):
        status["phase"] = "Pending"
    spec = volume.setdefault("spec", {})
    if not spec.get("persistentVolumeReclaimPolicy"):
        spec["persistentVolumeReclaimPolicy"] = "Retain"
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"
    if spec.get("hostPath") is not None and spec["hostPath"].get("type") is None:
        spec["hostPath"]["type"] = ""


def set_claim_spec_defaults(spec: Obj) -> None:
    if spec.get("volumeMode") is None:
        spec["volumeMode"] = "Filesystem"


def set_claim_defaults(claim: Obj) -> None:
    status = claim.get("status")
    if status is None:
        status = claim["status"] = {}
    if not status.get("phase"):
        status["phase"] = "Pending"
    set_claim_spec_defaults(claim.setdefault("spec", {}))
