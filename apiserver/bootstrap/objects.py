"""The small objects of every cluster as data: namespaces, priority classes, and who has them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.authentication.build import flag_list

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

NAMESPACES = GroupVersionResource("", "v1", "namespaces")
PRIORITY_CLASSES = GroupVersionResource("scheduling.k8s.io", "v1", "priorityclasses")
CONFIG_MAPS = GroupVersionResource("", "v1", "configmaps")
SERVICE_CIDRS = GroupVersionResource("networking.k8s.io", "v1", "servicecidrs")
SYSTEM_NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
AUTHENTICATION_CONFIG_MAP = "extension-apiserver-authentication"


def namespace(name: str) -> Obj:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def priority_classes() -> list[Obj]:
    """Built in; their values are above what users may give."""
    described = {
        "system-node-critical": (
            2_000_001_000,
            "Used for system critical pods that must not be moved from their current node.",
        ),
        "system-cluster-critical": (
            2_000_000_000,
            "Used for system critical pods that must run in the cluster, but can be moved to "
            "another node if necessary.",
        ),
    }
    return [
        {
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "description": description,
            "preemptionPolicy": "PreemptLowerPriority",
        }
        for name, (value, description) in described.items()
    ]


def authentication_config_map(config: Any) -> Obj:
    """What extension API servers need to trust this one's clients and front proxy."""
    data: dict[str, str] = {}
    if path := getattr(config, "client_ca_file", None):
        data["client-ca-file"] = Path(path).read_text()
    if path := getattr(config, "requestheader_client_ca_file", None):
        data["requestheader-client-ca-file"] = Path(path).read_text()
        defaults = {
            "requestheader-allowed-names": ("requestheader_allowed_names", ()),
            "requestheader-username-headers": (
                "requestheader_username_headers",
                ("X-Remote-User",),
            ),
            "requestheader-uid-headers": ("requestheader_uid_headers", ("X-Remote-Uid",)),
            "requestheader-group-headers": ("requestheader_group_headers", ("X-Remote-Group",)),
            "requestheader-extra-headers-prefix": (
                "requestheader_extra_headers_prefix",
                ("X-Remote-Extra-",),
            ),
        }
        for key, (flag, default) in defaults.items():
            data[key] = json.dumps(list(flag_list(config, flag) or default))
    metadata = {"name": AUTHENTICATION_CONFIG_MAP, "namespace": "kube-system"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def service_cidr(config: Any) -> Obj:
    """The ServiceCIDR that stands for ``--service-cluster-ip-range``."""
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": list(flag_list(config, "service_cluster_ip_range"))},
    }


def service_cidr_ready(now: str) -> Obj:
    return {
        "conditions": [
            {
                "type": "Ready",
                "status": "True",
                "reason": "",
                "message": "Kubernetes default Service CIDR is ready",
                "lastTransitionTime": now,
            }
        ]
    }
