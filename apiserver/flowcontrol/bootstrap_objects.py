"""The flow schemas and priority levels of a new cluster (pkg/apis/flowcontrol/bootstrap).

Mandatory ones always have these specs; suggested ones follow them while their annotation
``apf.kubernetes.io/autoupdate-spec`` says so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apis.flowcontrol import mandatory

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

API_VERSION = "flowcontrol.apiserver.k8s.io/v1"
AUTO_UPDATE = "apf.kubernetes.io/autoupdate-spec"
_BY_USER, _BY_NAMESPACE = "ByUser", "ByNamespace"
_ALL_USERS = ("system:unauthenticated", "system:authenticated")


def _queued(shares: int, lendable: int, queues: int, hand: int) -> Obj:
    queuing = {"queues": queues, "handSize": hand, "queueLengthLimit": 50}
    return {
        "type": "Limited",
        "limited": {
            "nominalConcurrencyShares": shares,
            "lendablePercent": lendable,
            "limitResponse": {"type": "Queue", "queuing": queuing},
        },
    }


PRIORITY_LEVELS: dict[str, Obj] = {
    **mandatory.PRIORITY_LEVELS,
    "system": _queued(30, 33, 64, 6),
    "node-high": _queued(40, 25, 64, 6),
    "leader-election": _queued(10, 0, 16, 4),
    "workload-high": _queued(40, 50, 128, 6),
    "workload-low": _queued(100, 90, 128, 6),
    "global-default": _queued(20, 50, 128, 6),
}


def _groups(*names: str) -> list[Obj]:
    return [{"kind": "Group", "group": {"name": name}} for name in names]


def _users(*names: str) -> list[Obj]:
    return [{"kind": "User", "user": {"name": name}} for name in names]


_SYSTEM_ACCOUNTS: list[Obj] = [
    {"kind": "ServiceAccount", "serviceAccount": {"name": "*", "namespace": "kube-system"}}
]


def _resources(verbs: list[str], group: str, resources: list[str], *, cluster_scope: bool) -> Obj:
    rule: Obj = {
        "verbs": verbs,
        "apiGroups": [group],
        "resources": resources,
        "namespaces": ["*"],
    }
    if cluster_scope:
        rule["clusterScope"] = True
    return rule


_EVERY_RESOURCE = _resources(["*"], "*", ["*"], cluster_scope=True)
_EVERY_PATH = {"verbs": ["*"], "nonResourceURLs": ["*"]}


def _schema(
    level: str, precedence: int, by: str, subjects: list[Obj], rules: list[Obj], paths: list[Obj]
) -> Obj:
    rule: Obj = {"subjects": subjects}
    if rules:
        rule["resourceRules"] = rules
    if paths:
        rule["nonResourceRules"] = paths
    spec: Obj = {
        "priorityLevelConfiguration": {"name": level},
        "matchingPrecedence": precedence,
        "rules": [rule],
    }
    if by:
        spec["distinguisherMethod"] = {"type": by}
    return spec


def _everything(level: str, precedence: int, by: str, subjects: list[Obj]) -> Obj:
    return _schema(level, precedence, by, subjects, [_EVERY_RESOURCE], [_EVERY_PATH])


_LEASES = "coordination.k8s.io"
FLOW_SCHEMAS: dict[str, Obj] = {
    **mandatory.FLOW_SCHEMAS,
    "probes": _schema(
        "exempt",
        2,
        "",
        _groups(*_ALL_USERS),
        [],
        [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}],
    ),
    "system-leader-election": _schema(
        "leader-election",
        100,
        _BY_USER,
        _users("system:kube-controller-manager", "system:kube-scheduler") + _SYSTEM_ACCOUNTS,
        [_resources(["get", "create", "update"], _LEASES, ["leases"], cluster_scope=False)],
        [],
    ),
    "system-node-high": _schema(
        "node-high",
        400,
        _BY_USER,
        _groups("system:nodes"),
        [
            _resources(["*"], "", ["nodes", "nodes/status"], cluster_scope=True),
            _resources(["*"], _LEASES, ["leases"], cluster_scope=False),
        ],
        [],
    ),
    "system-nodes": _everything("system", 500, _BY_USER, _groups("system:nodes")),
    "kube-controller-manager": _everything(
        "workload-high", 800, _BY_NAMESPACE, _users("system:kube-controller-manager")
    ),
    "kube-scheduler": _everything(
        "workload-high", 800, _BY_NAMESPACE, _users("system:kube-scheduler")
    ),
    "kube-system-service-accounts": _everything(
        "workload-high", 900, _BY_NAMESPACE, _SYSTEM_ACCOUNTS
    ),
    "service-accounts": _everything(
        "workload-low", 9000, _BY_USER, _groups("system:serviceaccounts")
    ),
    "global-default": _everything("global-default", 9900, _BY_USER, _groups(*_ALL_USERS)),
}


def is_mandatory(kind: str, name: str) -> bool:
    table: dict[str, Any] = (
        mandatory.FLOW_SCHEMAS if kind == "FlowSchema" else mandatory.PRIORITY_LEVELS
    )
    return name in table


def new_object(kind: str, name: str, spec: Obj) -> Obj:
    return {
        "apiVersion": API_VERSION,
        "kind": kind,
        "metadata": {"name": name, "annotations": {AUTO_UPDATE: "true"}},
        "spec": spec,
    }
