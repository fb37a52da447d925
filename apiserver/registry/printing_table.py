"""Printer columns of all built-in kinds and the functions that make their cells.

The columns are data (``printing_columns.json``, made by ``hack/update_printing.py`` from
Kubernetes' printers), read when the first table is asked for.
"""

from __future__ import annotations

import importlib
import json
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.registry.strategy import Column

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj

_ROWS = {
    "core": {
        "": {
            "namespaces": "Namespace namespace",
            "nodes": "Node node",
            "services": "Service service",
            "endpoints": "Endpoints endpoints",
            "configmaps": "ConfigMap config_map",
            "secrets": "Secret secret",
            "serviceaccounts": "ServiceAccount name_and_age",
            "events": "Event event",
            "resourcequotas": "ResourceQuota resource_quota",
            "podtemplates": "PodTemplate pod_template",
            "replicationcontrollers": "ReplicationController replication_controller",
            "componentstatuses": "ComponentStatus component_status",
            "persistentvolumes": "PersistentVolume persistent_volume",
            "persistentvolumeclaims": "PersistentVolumeClaim persistent_volume_claim",
        },
        "events.k8s.io": {"events": "Event event"},
        "resource.k8s.io": {
            "deviceclasses": "DeviceClass name_and_age",
            "resourceclaimtemplates": "ResourceClaimTemplate name_and_age",
        },
        "scheduling.k8s.io": {"workloads": "Workload name_and_age"},
    },
    "pod": {"": {"pods": "Pod pod"}},
    "workloads": {
        "apps": {
            "deployments": "Deployment deployment",
            "replicasets": "ReplicaSet replica_set",
            "statefulsets": "StatefulSet stateful_set",
            "daemonsets": "DaemonSet daemon_set",
            "controllerrevisions": "ControllerRevision controller_revision",
        },
        "batch": {"jobs": "Job job", "cronjobs": "CronJob cron_job"},
        "autoscaling": {
            "horizontalpodautoscalers": "HorizontalPodAutoscaler horizontal_pod_autoscaler",
        },
        "policy": {"poddisruptionbudgets": "PodDisruptionBudget pod_disruption_budget"},
    },
    "others": {
        "discovery.k8s.io": {"endpointslices": "EndpointSlice endpoint_slice"},
        "networking.k8s.io": {
            "ingresses": "Ingress ingress",
            "ingressclasses": "IngressClass ingress_class",
            "networkpolicies": "NetworkPolicy network_policy",
            "servicecidrs": "ServiceCIDR service_cidr",
            "ipaddresses": "IPAddress ip_address",
        },
        "storage.k8s.io": {
            "storageclasses": "StorageClass storage_class",
            "volumeattributesclasses": "VolumeAttributesClass volume_attributes_class",
            "volumeattachments": "VolumeAttachment volume_attachment",
            "csinodes": "CSINode csi_node",
            "csidrivers": "CSIDriver csi_driver",
        },
        "rbac.authorization.k8s.io": {
            "rolebindings": "RoleBinding role_binding",
            "clusterrolebindings": "ClusterRoleBinding role_binding",
        },
        "certificates.k8s.io": {
            "certificatesigningrequests": "CertificateSigningRequest certificate_signing_request",
            "clustertrustbundles": "ClusterTrustBundle cluster_trust_bundle",
            "podcertificaterequests": "PodCertificateRequest pod_certificate_request",
        },
        "admissionregistration.k8s.io": {
            "mutatingwebhookconfigurations": "MutatingWebhookConfiguration webhook_configuration",
            "validatingwebhookconfigurations": (
                "ValidatingWebhookConfiguration webhook_configuration"
            ),
            "validatingadmissionpolicies": (
                "ValidatingAdmissionPolicy validating_admission_policy"
            ),
            "validatingadmissionpolicybindings": (
                "ValidatingAdmissionPolicyBinding admission_policy_binding"
            ),
            "mutatingadmissionpolicies": "MutatingAdmissionPolicy mutating_admission_policy",
            "mutatingadmissionpolicybindings": (
                "MutatingAdmissionPolicyBinding admission_policy_binding"
            ),
        },
        "coordination.k8s.io": {
            "leases": "Lease lease",
            "leasecandidates": "LeaseCandidate lease_candidate",
        },
        "scheduling.k8s.io": {
            "priorityclasses": "PriorityClass priority_class",
            "podgroups": "PodGroup pod_group",
            "compositepodgroups": "CompositePodGroup composite_pod_group",
        },
        "node.k8s.io": {"runtimeclasses": "RuntimeClass runtime_class"},
        "flowcontrol.apiserver.k8s.io": {
            "flowschemas": "FlowSchema flow_schema",
            "prioritylevelconfigurations": (
                "PriorityLevelConfiguration priority_level_configuration"
            ),
        },
        "resource.k8s.io": {
            "resourceclaims": "ResourceClaim resource_claim",
            "resourceslices": "ResourceSlice resource_slice",
            "devicetaintrules": "DeviceTaintRule device_taint_rule",
        },
        "internal.apiserver.k8s.io": {"storageversions": "StorageVersion storage_version"},
        "storagemigration.k8s.io": {
            "storageversionmigrations": "StorageVersionMigration storage_version_migration",
        },
        "apiregistration.k8s.io": {"apiservices": "- api_service"},
    },
}
_API_SERVICE_COLUMNS = (
    ("Service", "string", "", "The reference to the service that hosts this API endpoint.", 0),
    ("Available", "string", "", "Whether this service is available.", 0),
)


@lru_cache(maxsize=1)
def _columns() -> dict[str, list[list[Any]]]:
    text = (Path(__file__).parent / "printing_columns.json").read_text(encoding="utf-8")
    return json.loads(text)  # type: ignore[no-any-return]


@lru_cache(maxsize=1)
def _index() -> dict[tuple[str, str], tuple[str, str, str]]:
    """(group, resource) -> (topic, kind, function)."""
    return {
        (group, resource): (topic, *entry.split())  # type: ignore[misc]
        for topic, groups in _ROWS.items()
        for group, resources in groups.items()
        for resource, entry in resources.items()
    }


@lru_cache(maxsize=256)
def columns_of(resource: GroupResource) -> tuple[Column, ...]:
    """The columns; name and time of creation for kinds that upstream gives none."""
    entry = _index().get(resource)
    secrets = _columns()["/Secret"]
    name, age = Column(*secrets[0]), Column(*secrets[-1])
    if entry is None:
        return name, Column("Created At", "date", "", age.description)
    kind = entry[1]
    if kind == "-":
        return name, *(Column(*c) for c in _API_SERVICE_COLUMNS), age
    group = "" if resource.group == "events.k8s.io" else resource.group
    return tuple(Column(*c) for c in _columns()[f"{group}/{kind}"])


@lru_cache(maxsize=256)
def row_of(resource: GroupResource) -> Callable[[Obj, datetime], list[Any]]:
    """The function that makes the cells for :func:`columns_of`."""
    entry = _index().get(resource)
    topic, _, function = entry or ("others", "", "default_cells")
    module = importlib.import_module(f"pilothouse.apiserver.registry.printing_{topic}")
    found: Callable[[Obj, datetime], list[Any]] = getattr(module, function)
    return found
