"""Defaults of the workload kinds (pkg/apis/apps/v1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.core.defaults_objects import set_claim_defaults
from pilothouse.apis.core.defaults_pod import set_template_defaults

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj


def _spec(obj: Obj) -> Obj:
    spec = obj.get("spec")
    if spec is None:
        spec = obj["spec"] = {}
    template = spec.get("template")
    if template is None:
        template = spec["template"] = {}
    set_template_defaults(template)
    return spec


def _absent(obj: Obj, field: str, value: object) -> None:
    if obj.get(field) is None:
        obj[field] = value


def set_deployment_defaults(deployment: Obj) -> None:
    spec = _spec(deployment)
    _absent(spec, "replicas", 1)
    _absent(spec, "strategy", {})
    strategy = spec["strategy"]
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        _absent(strategy, "rollingUpdate", {})
        _absent(strategy["rollingUpdate"], "maxUnavailable", "25%")
        _absent(strategy["rollingUpdate"], "maxSurge", "25%")
    _absent(spec, "revisionHistoryLimit", 10)
    _absent(spec, "progressDeadlineSeconds", 600)


def set_replica_set_defaults(replica_set: Obj) -> None:
    _absent(_spec(replica_set), "replicas", 1)


def set_daemon_set_defaults(daemon_set: Obj) -> None:
    spec = _spec(daemon_set)
    _absent(spec, "updateStrategy", {})
    strategy = spec["updateStrategy"]
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
    if strategy["type"] == "RollingUpdate":
        _absent(strategy, "rollingUpdate", {})
        _absent(strategy["rollingUpdate"], "maxUnavailable", 1)
        _absent(strategy["rollingUpdate"], "maxSurge", 0)
    _absent(spec, "revisionHistoryLimit", 10)


def set_stateful_set_defaults(stateful_set: Obj) -> None:
    spec = _spec(stateful_set)
    if not spec.get("podManagementPolicy"):
        spec["podManagementPolicy"] = "OrderedReady"
    _absent(spec, "updateStrategy", {})
    strategy = spec["updateStrategy"]
    if not strategy.get("type"):
        strategy["type"] = "RollingUpdate"
        _absent(strategy, "rollingUpdate", {})
    if strategy["type"] == "RollingUpdate" and strategy.get("rollingUpdate") is not None:
        _absent(strategy["rollingUpdate"], "partition", 0)
        _absent(strategy["rollingUpdate"], "maxUnavailable", 1)
    _absent(spec, "persistentVolumeClaimRetentionPolicy", {})
    retention = spec["persistentVolumeClaimRetentionPolicy"]
    for field in ("whenDeleted", "whenScaled"):
        if not retention.get(field):
            retention[field] = "Retain"
    _absent(spec, "replicas", 1)
    _absent(spec, "revisionHistoryLimit", 10)
    for claim in spec.get("volumeClaimTemplates") or ():
        set_claim_defaults(claim)
        claim["apiVersion"], claim["kind"] = "v1", "PersistentVolumeClaim"
