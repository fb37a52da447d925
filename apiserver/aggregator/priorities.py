"""Where group versions stand in discovery, and the APIServices that say so.

The figures are those of upstream's ``DefaultGenericAPIServicePriorities`` and of
``cmd/kube-apiserver/app/aggregator.go``. ``endpoints/discovery.py`` sorts by them, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

PRIORITIES: dict[str, tuple[int, dict[str, int]]] = {
    # group: (group priority, version priorities); higher comes first
    "": (18000, {"v1": 1}),
    "apps": (17800, {"v1": 15}),
    "events.k8s.io": (17750, {"v1": 15}),
    "authentication.k8s.io": (17700, {"v1": 15}),
    "authorization.k8s.io": (17600, {"v1": 15}),
    "autoscaling": (17500, {"v1": 15, "v2": 30}),
    "batch": (17400, {"v1": 15}),
    "certificates.k8s.io": (17300, {"v1": 15, "v1beta1": 9, "v1alpha1": 1}),
    "networking.k8s.io": (17200, {"v1": 15, "v1beta1": 9}),
    "policy": (17100, {"v1": 15}),
    "rbac.authorization.k8s.io": (17000, {"v1": 15}),
    "storage.k8s.io": (16800, {"v1": 15, "v1beta1": 9, "v1alpha1": 1}),
    "apiextensions.k8s.io": (16700, {"v1": 15}),
    "admissionregistration.k8s.io": (16700, {"v1": 15, "v1beta1": 12, "v1alpha1": 9}),
    "scheduling.k8s.io": (16600, {"v1": 15, "v1beta1": 9, "v1alpha3": 3}),
    "coordination.k8s.io": (16500, {"v1": 15, "v1beta1": 13, "v1alpha2": 12}),
    "node.k8s.io": (16300, {"v1": 15}),
    "discovery.k8s.io": (16200, {"v1": 15}),
    "resource.k8s.io": (16200, {"v1": 21, "v1beta2": 15, "v1beta1": 9, "v1alpha3": 1}),
    "flowcontrol.apiserver.k8s.io": (16100, {"v1": 21}),
    "internal.apiserver.k8s.io": (16000, {"v1alpha1": 9}),
    "storagemigration.k8s.io": (15800, {"v1": 15, "v1beta1": 9}),
    "lifecycle.k8s.io": (15700, {"v1alpha1": 1}),
    "metrics.k8s.io": (100, {"v1beta1": 100}),
    # No APIService stands for it: it has to be there before there can be any.
    "apiregistration.k8s.io": (20001, {"v1": 0}),
}
CUSTOM_PRIORITY = (1000, 100)
OWN_GROUP = "apiregistration.k8s.io"
METRICS = "metrics.k8s.io"

MANAGED_LABEL = "kube-aggregator.kubernetes.io/automanaged"
ON_START = "onstart"
ALWAYS = "true"


def api_service_name(group: str, version: str) -> str:
    return f"{version}.{group}"


def local_api_service(group: str, version: str, *, custom: bool) -> Obj | None:
    """The APIService of a group version that this server serves itself; None when upstream has
    none for it. Those of CRDs (and of the metrics, which others may take over) are kept as they
    should be for good, the rest is looked after when the server starts."""
    if custom:
        priority, versions = CUSTOM_PRIORITY[0], {version: CUSTOM_PRIORITY[1]}
    else:
        priority, versions = PRIORITIES.get(group, (0, {}))
    if group == OWN_GROUP or version not in versions:
        return None
    always = custom or group == METRICS
    return {
        "apiVersion": "apiregistration.k8s.io/v1",
        "kind": "APIService",
        "metadata": {
            "name": api_service_name(group, version),
            "labels": {MANAGED_LABEL: ALWAYS if always else ON_START},
        },
        "spec": {
            **({"group": group} if group else {}),
            "version": version,
            "groupPriorityMinimum": priority,
            "versionPriority": versions[version],
        },
    }
