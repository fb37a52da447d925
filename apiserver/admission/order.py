"""The order of admission plugins and what each wants to see, as data (kubeapiserver/options).

A plugin's module is imported when the first request that concerns it arrives. Rows without a
module are upstream's plugins that are off by default and that this server does not have.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pilothouse.apimachinery.schema import GroupResource
    from pilothouse.apiserver.admission.interfaces import Operation

_PACKAGE = "pilothouse.apiserver.admission.plugins"
_CSR = "certificatesigningrequests.certificates.k8s.io"
_ANY = "CREATE UPDATE DELETE CONNECT"


class Row(NamedTuple):
    name: str
    module: str = ""
    operations: str = ""
    resources: tuple[str, ...] = ()
    """As ``GroupResource`` prints; empty means all."""
    subresources: tuple[str, ...] | None = ("",)
    """None means any."""
    default_on: bool = False

    def matches(self, operation: Operation, resource: GroupResource, subresource: str) -> bool:
        return (
            operation in self.operations
            and (self.subresources is None or subresource in self.subresources)
            and (not self.resources or str(resource) in self.resources)
        )

    @property
    def path(self) -> str:
        return f"{_PACKAGE}.{self.module}"


def _on(
    name: str,
    module: str,
    operations: str,
    resources: str = "",
    subresources: tuple[str, ...] | None = ("",),
) -> Row:
    return Row(name, module, operations, tuple(resources.split()), subresources, True)


def _off(
    name: str,
    module: str = "",
    operations: str = "",
    resources: str = "",
    subresources: tuple[str, ...] | None = ("",),
) -> Row:
    return Row(name, module, operations, tuple(resources.split()), subresources, False)


ORDER: tuple[Row, ...] = (
    _off("AlwaysAdmit"),
    _off("NamespaceAutoProvision"),
    _on("NamespaceLifecycle", "namespace_lifecycle", "CREATE UPDATE DELETE", "", None),
    _off("NamespaceExists"),
    _off("LimitPodHardAntiAffinityTopology"),
    _on(
        "LimitRanger",
        "limit_ranger",
        "CREATE UPDATE",
        "pods persistentvolumeclaims",
        ("", "resize"),
    ),
    _on("ServiceAccount", "service_account", "CREATE UPDATE", "pods", ("", "ephemeralcontainers")),
    _off(
        "NodeRestriction",
        "node_restriction",
        "CREATE UPDATE DELETE",
        "pods nodes persistentvolumeclaims serviceaccounts leases.coordination.k8s.io "
        "csinodes.storage.k8s.io resourceslices.resource.k8s.io "
        f"podcertificaterequests.certificates.k8s.io {_CSR}",
        None,
    ),
    _on("TaintNodesByCondition", "taint_nodes_by_condition", "CREATE", "nodes"),
    _off("AlwaysPullImages", "always_pull_images", "CREATE UPDATE", "pods"),
    _off("ImagePolicyWebhook"),
    _on(
        "PodSecurity",
        "pod_security",
        "CREATE UPDATE",
        "namespaces pods podtemplates replicationcontrollers replicasets.apps deployments.apps "
        "statefulsets.apps daemonsets.apps jobs.batch cronjobs.batch",
        ("", "ephemeralcontainers", "resize"),
    ),
    _off("PodNodeSelector"),
    _on(
        "Priority",
        "priority",
        "CREATE UPDATE",
        "pods priorityclasses.scheduling.k8s.io",
    ),
    _on("DefaultTolerationSeconds", "default_toleration_seconds", "CREATE UPDATE", "pods"),
    _off("PodTolerationRestriction"),
    _off("EventRateLimit"),
    _off("ExtendedResourceToleration"),
    _on("DefaultStorageClass", "default_storage_class", "CREATE", "persistentvolumeclaims"),
    _on(
        "StorageObjectInUseProtection",
        "storage_object_in_use_protection",
        "CREATE",
        "persistentvolumes persistentvolumeclaims volumeattributesclasses.storage.k8s.io",
    ),
    _on("PodGroupProtection", "", ""),
    _off(
        "OwnerReferencesPermissionEnforcement",
        "owner_references_permission_enforcement",
        "CREATE UPDATE",
        "",
        None,
    ),
    _on(
        "PersistentVolumeClaimResize",
        "persistent_volume_claim_resize",
        "UPDATE",
        "persistentvolumeclaims",
    ),
    _on("RuntimeClass", "runtime_class", "CREATE", "pods"),
    _on("CertificateApproval", "certificates", "UPDATE", _CSR, ("approval",)),
    _on("CertificateSigning", "certificates", "UPDATE", _CSR, ("status",)),
    _on(
        "ClusterTrustBundleAttest",
        "certificates",
        "CREATE UPDATE",
        "clustertrustbundles.certificates.k8s.io",
        None,
    ),
    _on("CertificateSubjectRestriction", "certificates", "CREATE", _CSR),
    _on(
        "DefaultIngressClass",
        "default_ingress_class",
        "CREATE",
        "ingresses.networking.k8s.io",
    ),
    _off("DenyServiceExternalIPs", "deny_service_external_ips", "CREATE UPDATE", "services"),
    _on("PodTopologyLabels", "pod_topology_labels", "CREATE", "pods", ("", "binding")),
    _on(
        "NodeDeclaredFeatureValidator",
        "node_declared_features",
        "UPDATE",
        "pods",
        ("", "resize"),
    ),
    _on("PodResizeValidator", "pod_resize", "UPDATE", "pods", ("resize",)),
    # Webhooks, policies, quota and deny stand last, so that they see what the others did.
    _on(
        "MutatingAdmissionPolicy",
        "mutating_admission_policy",
        "CREATE UPDATE CONNECT",
        "",
        None,
    ),
    _on("MutatingAdmissionWebhook", "mutating_webhook", _ANY, "", None),
    _on(
        "ValidatingAdmissionPolicy",
        "validating_admission_policy",
        "CREATE UPDATE DELETE CONNECT",
        "",
        None,
    ),
    _on("ValidatingAdmissionWebhook", "validating_webhook", _ANY, "", None),
    _on("ResourceQuota", "resource_quota", "CREATE UPDATE", "", ("", "resize", "status")),
    _off("AlwaysDeny"),
)

RBAC_ESCALATION = _on(
    "RBACEscalation",
    "rbac_escalation",
    "CREATE UPDATE",
    "roles.rbac.authorization.k8s.io clusterroles.rbac.authorization.k8s.io "
    "rolebindings.rbac.authorization.k8s.io clusterrolebindings.rbac.authorization.k8s.io",
)
"""Not a plugin that a flag can turn off; runs last of the mutating phase."""

POLICY_PARAM_ACCESS = _on(
    "PolicyParamAccess",
    "policy_param_access",
    "CREATE UPDATE",
    "validatingadmissionpolicies.admissionregistration.k8s.io "
    "validatingadmissionpolicybindings.admissionregistration.k8s.io "
    "mutatingadmissionpolicies.admissionregistration.k8s.io "
    "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
)
"""Likewise; runs last of the validating phase."""

CLAIM_STATUS_ACCESS = _on(
    "ClaimStatusAccess", "claim_status_access", "UPDATE", "resourceclaims.resource.k8s.io",
    ("status",),
)  # fmt: skip
"""Likewise."""
