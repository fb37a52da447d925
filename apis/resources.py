"""All resources that a default kube-apiserver v1.37 serves, a row each.

The table is data: the registry, routes, discovery, OpenAPI and REST mappings are made from it.
Order is upstream's order of groups and versions in discovery (API service priorities). Tests
compare names, verbs and sub-resources with the discovery documents of upstream's release.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.resource import Subresource
from pilothouse.apis.resource_rows import SCALE, group, row
from pilothouse.apis.resources_core import CORE

if TYPE_CHECKING:
    from pilothouse.apis.resource import Resource

BUILT_IN: tuple[Resource, ...] = (
    *CORE,
    *group(
        "apiregistration.k8s.io",
        "v1",
        "io.k8s.kube-aggregator.pkg.apis.apiregistration.v1",
        [
            row(
                "apiservices",
                "APIService",
                namespaced=False,
                categories="api-extensions",
                subresources=("status",),
            ),
        ],
    ),
    *group(
        "apps",
        "v1",
        "io.k8s.api.apps.v1",
        [
            row("controllerrevisions", "ControllerRevision"),
            row("daemonsets", "DaemonSet", short="ds", categories="all", subresources=("status",)),
            row(
                "deployments",
                "Deployment",
                short="deploy",
                categories="all",
                subresources=(
                    SCALE,
                    "status",
                ),
            ),
            row(
                "replicasets",
                "ReplicaSet",
                short="rs",
                categories="all",
                subresources=(
                    SCALE,
                    "status",
                ),
            ),
            row(
                "statefulsets",
                "StatefulSet",
                short="sts",
                categories="all",
                subresources=(
                    SCALE,
                    "status",
                ),
            ),
        ],
    ),
    *group(
        "events.k8s.io",
        "v1",
        "io.k8s.api.events.v1",
        [
            row("events", "Event", short="ev", storage_group="", storage_version="v1"),
        ],
    ),
    *group(
        "authentication.k8s.io",
        "v1",
        "io.k8s.api.authentication.v1",
        [
            row("selfsubjectreviews", "SelfSubjectReview", namespaced=False, verbs=("create",)),
            row("tokenreviews", "TokenReview", namespaced=False, verbs=("create",)),
        ],
    ),
    *group(
        "authorization.k8s.io",
        "v1",
        "io.k8s.api.authorization.v1",
        [
            row("localsubjectaccessreviews", "LocalSubjectAccessReview", verbs=("create",)),
            row(
                "selfsubjectaccessreviews",
                "SelfSubjectAccessReview",
                namespaced=False,
                verbs=("create",),
            ),
            row(
                "selfsubjectrulesreviews",
                "SelfSubjectRulesReview",
                namespaced=False,
                verbs=("create",),
            ),
            row("subjectaccessreviews", "SubjectAccessReview", namespaced=False, verbs=("create",)),
        ],
    ),
    *group(
        "autoscaling",
        "v2",
        "io.k8s.api.autoscaling.v2",
        [
            row(
                "horizontalpodautoscalers",
                "HorizontalPodAutoscaler",
                short="hpa",
                categories="all",
                subresources=("status",),
            ),
        ],
    ),
    *group(
        "autoscaling",
        "v1",
        "io.k8s.api.autoscaling.v1",
        [
            row(
                "horizontalpodautoscalers",
                "HorizontalPodAutoscaler",
                short="hpa",
                categories="all",
                subresources=("status",),
                storage_version="v2",
            ),
        ],
    ),
    *group(
        "batch",
        "v1",
        "io.k8s.api.batch.v1",
        [
            row("cronjobs", "CronJob", short="cj", categories="all", subresources=("status",)),
            row("jobs", "Job", categories="all", subresources=("status",)),
        ],
    ),
    *group(
        "certificates.k8s.io",
        "v1",
        "io.k8s.api.certificates.v1",
        [
            row(
                "certificatesigningrequests",
                "CertificateSigningRequest",
                namespaced=False,
                short="csr",
                subresources=(
                    Subresource(
                        "approval", "CertificateSigningRequest", ("get", "patch", "update")
                    ),
                    "status",
                ),
            ),
            row(
                "clustertrustbundles",
                "ClusterTrustBundle",
                namespaced=False,
                hash_version="v1beta1",
            ),
            row(
                "podcertificaterequests",
                "PodCertificateRequest",
                subresources=("status",),
                hash_version="v1beta1",
            ),
        ],
    ),
    *group(
        "networking.k8s.io",
        "v1",
        "io.k8s.api.networking.v1",
        [
            row("ingressclasses", "IngressClass", namespaced=False),
            row("ingresses", "Ingress", short="ing", subresources=("status",)),
            row("ipaddresses", "IPAddress", namespaced=False, short="ip"),
            row("networkpolicies", "NetworkPolicy", short="netpol"),
            row("servicecidrs", "ServiceCIDR", namespaced=False, subresources=("status",)),
        ],
    ),
    *group(
        "policy",
        "v1",
        "io.k8s.api.policy.v1",
        [
            row(
                "poddisruptionbudgets", "PodDisruptionBudget", short="pdb", subresources=("status",)
            ),
        ],
    ),
    *group(
        "rbac.authorization.k8s.io",
        "v1",
        "io.k8s.api.rbac.v1",
        [
            row("clusterrolebindings", "ClusterRoleBinding", namespaced=False),
            row("clusterroles", "ClusterRole", namespaced=False),
            row("rolebindings", "RoleBinding"),
            row("roles", "Role"),
        ],
    ),
    *group(
        "storage.k8s.io",
        "v1",
        "io.k8s.api.storage.v1",
        [
            row("csidrivers", "CSIDriver", namespaced=False),
            row("csinodes", "CSINode", namespaced=False, subresources=("status",)),
            row("csistoragecapacities", "CSIStorageCapacity"),
            row("storageclasses", "StorageClass", namespaced=False, short="sc"),
            row(
                "volumeattachments", "VolumeAttachment", namespaced=False, subresources=("status",)
            ),
            row("volumeattributesclasses", "VolumeAttributesClass", namespaced=False, short="vac"),
        ],
    ),
    *group(
        "admissionregistration.k8s.io",
        "v1",
        "io.k8s.api.admissionregistration.v1",
        [
            row(
                "mutatingadmissionpolicies",
                "MutatingAdmissionPolicy",
                namespaced=False,
                categories="api-extensions",
            ),
            row(
                "mutatingadmissionpolicybindings",
                "MutatingAdmissionPolicyBinding",
                namespaced=False,
                categories="api-extensions",
            ),
            row(
                "mutatingwebhookconfigurations",
                "MutatingWebhookConfiguration",
                namespaced=False,
                categories="api-extensions",
            ),
            row(
                "validatingadmissionpolicies",
                "ValidatingAdmissionPolicy",
                namespaced=False,
                categories="api-extensions",
                subresources=("status",),
            ),
            row(
                "validatingadmissionpolicybindings",
                "ValidatingAdmissionPolicyBinding",
                namespaced=False,
                categories="api-extensions",
            ),
            row(
                "validatingwebhookconfigurations",
                "ValidatingWebhookConfiguration",
                namespaced=False,
                categories="api-extensions",
            ),
        ],
    ),
    *group(
        "apiextensions.k8s.io",
        "v1",
        "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1",
        [
            row(
                "customresourcedefinitions",
                "CustomResourceDefinition",
                namespaced=False,
                short="crd crds",
                categories="api-extensions",
                subresources=("status",),
                hash_version="v1beta1",
            ),
        ],
    ),
    *group(
        "scheduling.k8s.io",
        "v1",
        "io.k8s.api.scheduling.v1",
        [
            row("priorityclasses", "PriorityClass", namespaced=False, short="pc"),
        ],
    ),
    *group(
        "coordination.k8s.io",
        "v1",
        "io.k8s.api.coordination.v1",
        [
            row("leases", "Lease"),
        ],
    ),
    *group(
        "node.k8s.io",
        "v1",
        "io.k8s.api.node.v1",
        [
            row("runtimeclasses", "RuntimeClass", namespaced=False),
        ],
    ),
    *group(
        "discovery.k8s.io",
        "v1",
        "io.k8s.api.discovery.v1",
        [
            row("endpointslices", "EndpointSlice"),
        ],
    ),
    *group(
        "resource.k8s.io",
        "v1",
        "io.k8s.api.resource.v1",
        [
            row("deviceclasses", "DeviceClass", namespaced=False),
            row(
                "devicetaintrules",
                "DeviceTaintRule",
                namespaced=False,
                subresources=("status",),
                hash_version="v1beta2",
            ),
            row("resourceclaims", "ResourceClaim", subresources=("status",)),
            row("resourceclaimtemplates", "ResourceClaimTemplate"),
            row("resourceslices", "ResourceSlice", namespaced=False),
        ],
    ),
    *group(
        "flowcontrol.apiserver.k8s.io",
        "v1",
        "io.k8s.api.flowcontrol.v1",
        [
            row("flowschemas", "FlowSchema", namespaced=False, subresources=("status",)),
            row(
                "prioritylevelconfigurations",
                "PriorityLevelConfiguration",
                namespaced=False,
                subresources=("status",),
            ),
        ],
    ),
    *group(
        "storagemigration.k8s.io",
        "v1",
        "io.k8s.api.storagemigration.v1",
        [
            row(
                "storageversionmigrations",
                "StorageVersionMigration",
                namespaced=False,
                subresources=("status",),
                hash_version="v1beta1",
            ),
        ],
    ),
)
