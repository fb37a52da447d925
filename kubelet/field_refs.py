"""Downward API: values of a pod's fields and of its containers' resources (pure)."""

from __future__ import annotations

import re
from typing import Any

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.quantity import Quantity

_SUBSCRIPT = re.compile(r"metadata\.(labels|annotations)\['([^']+)'\]")


class FieldError(Exception):
    """The path or resource is not supported, with upstream's text."""


def field_value(pod: Obj, path: str, pod_ips: tuple[str, ...], host_ip: str) -> str:
    """The text of ``fieldRef.fieldPath``. :raises FieldError: an unknown path."""
    metadata, spec = pod["metadata"], pod["spec"]
    subscript = _SUBSCRIPT.fullmatch(path)
    if subscript:
        return str((metadata.get(subscript[1]) or {}).get(subscript[2], ""))
    simple: dict[str, Any] = {
        "metadata.name": metadata["name"],
        "metadata.namespace": metadata.get("namespace") or "",
        "metadata.uid": metadata.get("uid") or "",
        "spec.nodeName": spec.get("nodeName") or "",
        "spec.serviceAccountName": spec.get("serviceAccountName") or "",
        "status.hostIP": host_ip,
        "status.hostIPs": host_ip,
        "status.podIP": pod_ips[0] if pod_ips else "",
        "status.podIPs": ",".join(pod_ips),
    }
    if path in simple:
        return str(simple[path])
    if path in ("metadata.labels", "metadata.annotations"):
        return format_map(metadata.get(path.partition(".")[2]) or {})
    raise FieldError(f"unsupported fieldPath: {path}")


def format_map(values: dict[str, str]) -> str:
    """``key="value"`` lines, sorted (fieldpath.FormatMap)."""
    return "\n".join(f"{key}={_quote(values[key])}" for key in sorted(values))


def _quote(text: str) -> str:
    escapes = {'"': '\\"', "\\": "\\\\", "\n": "\\n", "\t": "\\t", "\r": "\\r"}
    return '"' + "".join(escapes.get(c, c) for c in text) + '"'


def downward_limits(pod: Obj, node_allocatable: dict[str, str]) -> dict[str, str]:
    """What stands for a container's missing limits: the pod's own, else what the node has."""
    limits = (pod["spec"].get("resources") or {}).get("limits") or {}
    own = {name: limits[name] for name in ("cpu", "memory") if name in limits}
    return node_allocatable | own


def resource_value(container: Obj, reference: Obj, node_allocatable: dict[str, str]) -> str:
    """The text of a ``resourceFieldRef``; a missing limit is the node's allocatable.

    :raises FieldError: not a resource of a container.
    """
    resource = reference.get("resource") or ""
    divisor = Quantity.parse(reference.get("divisor") or "1")
    kind, _, name = resource.partition(".")
    if kind not in ("limits", "requests") or not name:
        raise FieldError(f"unsupported container resource : {resource}")
    resources = container.get("resources") or {}
    value = (resources.get(kind) or {}).get(name)
    if value is None and kind == "limits":
        value = node_allocatable.get(name)
    if value is None:
        value = "0"
    quantity = Quantity.parse(value)
    if divisor.milli_value() == 0:
        divisor = Quantity.parse("1")
    if name == "cpu":
        return str(-(-quantity.milli_value() // divisor.milli_value()))
    return str(-(-quantity.value() // divisor.value()))
