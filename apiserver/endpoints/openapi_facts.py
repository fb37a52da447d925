"""Facts of upstream's OpenAPI documents that the Go types alone don't tell (v1.37.2)."""

from __future__ import annotations

from typing import Any

from pilothouse.apis.certificates.validation import USAGES

ENUMS: dict[tuple[str, str], tuple[str, ...]] = {
    ("io.k8s.api.admissionregistration.v1.NamedRuleWithOperations", "operations"): (
        "*",
        "CONNECT",
        "CREATE",
        "DELETE",
        "UPDATE",
    ),
    ("io.k8s.api.admissionregistration.v1.RuleWithOperations", "operations"): (
        "*",
        "CONNECT",
        "CREATE",
        "DELETE",
        "UPDATE",
    ),
    (
        "io.k8s.api.admissionregistration.v1.ValidatingAdmissionPolicyBindingSpec",
        "validationActions",
    ): ("Audit", "Deny", "Warn"),
    ("io.k8s.api.certificates.v1.CertificateSigningRequestSpec", "usages"): USAGES,
    ("io.k8s.api.core.v1.PersistentVolumeClaimSpec", "accessModes"): (
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOnce",
        "ReadWriteOncePod",
    ),
    ("io.k8s.api.core.v1.PersistentVolumeClaimStatus", "accessModes"): (
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOnce",
        "ReadWriteOncePod",
    ),
    ("io.k8s.api.core.v1.PersistentVolumeClaimStatus", "allocatedResourceStatuses"): (
        "ControllerResizeInProgress",
        "ControllerResizeInfeasible",
        "NodeResizeInProgress",
        "NodeResizeInfeasible",
        "NodeResizePending",
    ),
    ("io.k8s.api.core.v1.PersistentVolumeSpec", "accessModes"): (
        "ReadOnlyMany",
        "ReadWriteMany",
        "ReadWriteOnce",
        "ReadWriteOncePod",
    ),
    ("io.k8s.api.core.v1.ResourceQuotaSpec", "scopes"): (
        "BestEffort",
        "CrossNamespacePodAffinity",
        "NotBestEffort",
        "NotTerminating",
        "PriorityClass",
        "Terminating",
        "VolumeAttributesClass",
    ),
    ("io.k8s.api.core.v1.ServiceSpec", "ipFamilies"): ("", "IPv4", "IPv6"),
    ("io.k8s.api.discovery.v1.EndpointSlice", "addressType"): ("FQDN", "IPv4", "IPv6"),
    ("io.k8s.api.networking.v1.HTTPIngressPath", "pathType"): (
        "Exact",
        "ImplementationSpecific",
        "Prefix",
    ),
    ("io.k8s.api.networking.v1.NetworkPolicySpec", "policyTypes"): ("Egress", "Ingress"),
    ("io.k8s.api.resource.v1.DeviceRequestAllocationResult", "skipNodeOperations"): (
        "*",
        "NodePrepareResources",
        "NodeUnprepareResources",
    ),
    ("io.k8s.api.resource.v1.DeviceSubRequest", "allocationMode"): ("All", "ExactCount"),
    ("io.k8s.api.resource.v1.ExactDeviceRequest", "allocationMode"): ("All", "ExactCount"),
    ("io.k8s.api.resource.v1.ResourceSliceSpec", "skipNodeOperations"): (
        "*",
        "NodePrepareResources",
        "NodeUnprepareResources",
    ),
}
"""Values of a field, of its items or of its map's values, by definition and field."""

UNIONS: dict[str, list[dict[str, Any]]] = {
    "io.k8s.api.core.v1.AppArmorProfile": [
        {
            "discriminator": "type",
            "fields-to-discriminateBy": {"localhostProfile": "LocalhostProfile"},
        }
    ],
    "io.k8s.api.core.v1.PodSchedulingGroup": [
        {"fields-to-discriminateBy": {"podGroupName": "PodGroupName"}}
    ],
    "io.k8s.api.core.v1.SeccompProfile": [
        {
            "discriminator": "type",
            "fields-to-discriminateBy": {"localhostProfile": "LocalhostProfile"},
        }
    ],
    "io.k8s.api.flowcontrol.v1.LimitResponse": [
        {"discriminator": "type", "fields-to-discriminateBy": {"queuing": "Queuing"}}
    ],
    "io.k8s.api.flowcontrol.v1.PriorityLevelConfigurationSpec": [
        {
            "discriminator": "type",
            "fields-to-discriminateBy": {"exempt": "Exempt", "limited": "Limited"},
        }
    ],
    "io.k8s.api.flowcontrol.v1.Subject": [
        {
            "discriminator": "kind",
            "fields-to-discriminateBy": {
                "group": "Group",
                "serviceAccount": "ServiceAccount",
                "user": "User",
            },
        }
    ],
    "io.k8s.api.scheduling.v1alpha3.WorkloadPodGroupDisruptionMode": [
        {"fields-to-discriminateBy": {"all": "All", "single": "Single"}}
    ],
    "io.k8s.api.scheduling.v1alpha3.WorkloadPodGroupSchedulingPolicy": [
        {"fields-to-discriminateBy": {"basic": "Basic", "gang": "Gang"}}
    ],
}
"""``x-kubernetes-unions`` of definitions."""

_SCHEME = {
    "": "v1",
    "admission.k8s.io": "v1 v1beta1",
    "admissionregistration.k8s.io": "v1 v1alpha1 v1beta1",
    "apiextensions.k8s.io": "v1 v1beta1",
    "apiregistration.k8s.io": "v1 v1beta1",
    "apps": "v1 v1beta1 v1beta2",
    "authentication.k8s.io": "v1 v1alpha1 v1beta1",
    "authorization.k8s.io": "v1 v1beta1",
    "autoscaling": "v1 v2",
    "batch": "v1 v1beta1",
    "certificates.k8s.io": "v1 v1alpha1 v1beta1",
    "coordination.k8s.io": "v1 v1alpha2 v1beta1",
    "discovery.k8s.io": "v1 v1beta1",
    "events.k8s.io": "v1 v1beta1",
    "extensions": "v1beta1",
    "flowcontrol.apiserver.k8s.io": "v1 v1beta1 v1beta2 v1beta3",
    "imagepolicy.k8s.io": "v1alpha1",
    "internal.apiserver.k8s.io": "v1alpha1",
    "lifecycle.k8s.io": "v1alpha1",
    "networking.k8s.io": "v1 v1beta1",
    "node.k8s.io": "v1 v1alpha1 v1beta1",
    "policy": "v1 v1beta1",
    "rbac.authorization.k8s.io": "v1 v1alpha1 v1beta1",
    "resource.k8s.io": "v1 v1alpha3 v1beta1 v1beta2",
    "scheduling.k8s.io": "v1 v1alpha3 v1beta1",
    "storage.k8s.io": "v1 v1alpha1 v1beta1",
    "storagemigration.k8s.io": "v1 v1beta1",
}
SCHEME_VERSIONS = tuple(
    (group, version) for group, versions in _SCHEME.items() for version in versions.split()
)
"""All that upstream's program knows, served or not: DeleteOptions and WatchEvent are kinds of
each of them."""

VERSION_INFO: dict[str, Any] = {
    "type": "object",
    "required": [
        "major",
        "minor",
        "gitVersion",
        "gitCommit",
        "gitTreeState",
        "buildDate",
        "goVersion",
        "compiler",
        "platform",
    ],
    "properties": {
        name: {"type": "string"}
        for name in (
            "buildDate",
            "compiler",
            "emulationMajor",
            "emulationMinor",
            "gitCommit",
            "gitTreeState",
            "gitVersion",
            "goVersion",
            "major",
            "minCompatibilityMajor",
            "minCompatibilityMinor",
            "minor",
            "platform",
        )
    },
}
"""The definition of what ``/version`` answers; in v3 what is required has a default."""
