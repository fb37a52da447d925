"""Rows of the core group; see ``apis/resources.py``, which joins all groups."""

from __future__ import annotations

from pilothouse.apis.resource import Subresource
from pilothouse.apis.resource_rows import SCALE, group, row

_PROXY_VERBS = ("create", "delete", "get", "patch", "update")
_READ_WRITE = ("get", "patch", "update")
_STREAM_VERBS = ("create", "get")

CORE = group(
    "",
    "v1",
    "io.k8s.api.core.v1",
    [
        row("bindings", "Binding", verbs=("create",)),
        row(
            "componentstatuses",
            "ComponentStatus",
            namespaced=False,
            verbs=("get", "list"),
            short="cs",
        ),
        row("configmaps", "ConfigMap", short="cm"),
        row("endpoints", "Endpoints", short="ep"),
        row("events", "Event", short="ev"),
        row("limitranges", "LimitRange", short="limits"),
        row(
            "namespaces",
            "Namespace",
            namespaced=False,
            verbs=("create", "delete", "get", "list", "patch", "update", "watch"),
            short="ns",
            subresources=(
                Subresource("finalize", "Namespace", ("update",)),
                "status",
            ),
        ),
        row(
            "nodes",
            "Node",
            namespaced=False,
            short="no",
            subresources=(
                Subresource("proxy", "NodeProxyOptions", _PROXY_VERBS),
                "status",
            ),
        ),
        row(
            "persistentvolumeclaims", "PersistentVolumeClaim", short="pvc", subresources=("status",)
        ),
        row(
            "persistentvolumes",
            "PersistentVolume",
            namespaced=False,
            short="pv",
            subresources=("status",),
        ),
        row(
            "pods",
            "Pod",
            short="po",
            categories="all",
            subresources=(
                Subresource("attach", "PodAttachOptions", _STREAM_VERBS),
                Subresource("binding", "Binding", ("create",)),
                Subresource("ephemeralcontainers", "Pod", _READ_WRITE),
                Subresource("eviction", "Eviction", ("create",), "policy", "v1"),
                Subresource("exec", "PodExecOptions", _STREAM_VERBS),
                Subresource("log", "Pod", ("get",)),
                Subresource("portforward", "PodPortForwardOptions", _STREAM_VERBS),
                Subresource("proxy", "PodProxyOptions", _PROXY_VERBS),
                Subresource("resize", "Pod", _READ_WRITE),
                "status",
            ),
        ),
        row("podtemplates", "PodTemplate"),
        row(
            "replicationcontrollers",
            "ReplicationController",
            short="rc",
            categories="all",
            subresources=(
                SCALE,
                "status",
            ),
        ),
        row("resourcequotas", "ResourceQuota", short="quota", subresources=("status",)),
        row("secrets", "Secret"),
        row(
            "serviceaccounts",
            "ServiceAccount",
            short="sa",
            subresources=(
                Subresource("token", "TokenRequest", ("create",), "authentication.k8s.io", "v1"),
            ),
        ),
        row(
            "services",
            "Service",
            short="svc",
            categories="all",
            subresources=(
                Subresource("proxy", "ServiceProxyOptions", _PROXY_VERBS),
                "status",
            ),
        ),
    ],
)
