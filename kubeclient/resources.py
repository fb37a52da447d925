"""Names of the built-in resources that components ask a client for.

A constant per resource (``PODS``), and :func:`resource_of` for the way back from an object's
kind. This is a list of names only; what a resource can do is in ``apis.resources``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupVersionKind, GroupVersionResource, gvk_of

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

KIND_OF: dict[GroupVersionResource, str] = {}
"""Kind by resource, for the resources named in this module."""

NAMESPACED: set[GroupVersionResource] = set()


def _resource(
    group: str, version: str, name: str, kind: str, *, namespaced: bool = True
) -> GroupVersionResource:
    resource = GroupVersionResource(group, version, name)
    KIND_OF[resource] = kind
    if namespaced:
        NAMESPACED.add(resource)
    return resource


CONFIG_MAPS = _resource("", "v1", "configmaps", "ConfigMap")
ENDPOINTS = _resource("", "v1", "endpoints", "Endpoints")
EVENTS = _resource("", "v1", "events", "Event")
LIMIT_RANGES = _resource("", "v1", "limitranges", "LimitRange")
NAMESPACES = _resource("", "v1", "namespaces", "Namespace", namespaced=False)
NODES = _resource("", "v1", "nodes", "Node", namespaced=False)
PERSISTENT_VOLUME_CLAIMS = _resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
PERSISTENT_VOLUMES = _resource("", "v1", "persistentvolumes", "PersistentVolume", namespaced=False)
PODS = _resource("", "v1", "pods", "Pod")
POD_TEMPLATES = _resource("", "v1", "podtemplates", "PodTemplate")
REPLICATION_CONTROLLERS = _resource("", "v1", "replicationcontrollers", "ReplicationController")
RESOURCE_QUOTAS = _resource("", "v1", "resourcequotas", "ResourceQuota")
SECRETS = _resource("", "v1", "secrets", "Secret")
SERVICE_ACCOUNTS = _resource("", "v1", "serviceaccounts", "ServiceAccount")
SERVICES = _resource("", "v1", "services", "Service")

CONTROLLER_REVISIONS = _resource("apps", "v1", "controllerrevisions", "ControllerRevision")
DAEMON_SETS = _resource("apps", "v1", "daemonsets", "DaemonSet")
DEPLOYMENTS = _resource("apps", "v1", "deployments", "Deployment")
REPLICA_SETS = _resource("apps", "v1", "replicasets", "ReplicaSet")
STATEFUL_SETS = _resource("apps", "v1", "statefulsets", "StatefulSet")

CRON_JOBS = _resource("batch", "v1", "cronjobs", "CronJob")
JOBS = _resource("batch", "v1", "jobs", "Job")
LEASES = _resource("coordination.k8s.io", "v1", "leases", "Lease")
ENDPOINT_SLICES = _resource("discovery.k8s.io", "v1", "endpointslices", "EndpointSlice")
EVENTS_V1 = _resource("events.k8s.io", "v1", "events", "Event")
HORIZONTAL_POD_AUTOSCALERS = _resource(
    "autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler"
)
INGRESSES = _resource("networking.k8s.io", "v1", "ingresses", "Ingress")
NETWORK_POLICIES = _resource("networking.k8s.io", "v1", "networkpolicies", "NetworkPolicy")
POD_DISRUPTION_BUDGETS = _resource("policy", "v1", "poddisruptionbudgets", "PodDisruptionBudget")

CLUSTER_ROLE_BINDINGS = _resource(
    "rbac.authorization.k8s.io", "v1", "clusterrolebindings", "ClusterRoleBinding", namespaced=False
)
CLUSTER_ROLES = _resource(
    "rbac.authorization.k8s.io", "v1", "clusterroles", "ClusterRole", namespaced=False
)
ROLE_BINDINGS = _resource("rbac.authorization.k8s.io", "v1", "rolebindings", "RoleBinding")
ROLES = _resource("rbac.authorization.k8s.io", "v1", "roles", "Role")

PRIORITY_CLASSES = _resource(
    "scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False
)
STORAGE_CLASSES = _resource(
    "storage.k8s.io", "v1", "storageclasses", "StorageClass", namespaced=False
)
CSI_NODES = _resource("storage.k8s.io", "v1", "csinodes", "CSINode", namespaced=False)
CERTIFICATE_SIGNING_REQUESTS = _resource(
    "certificates.k8s.io",
    "v1",
    "certificatesigningrequests",
    "CertificateSigningRequest",
    namespaced=False,
)
CSI_DRIVERS = _resource("storage.k8s.io", "v1", "csidrivers", "CSIDriver", namespaced=False)
CSI_STORAGE_CAPACITIES = _resource(
    "storage.k8s.io", "v1", "csistoragecapacities", "CSIStorageCapacity"
)
VOLUME_ATTACHMENTS = _resource(
    "storage.k8s.io", "v1", "volumeattachments", "VolumeAttachment", namespaced=False
)
IP_ADDRESSES = _resource("networking.k8s.io", "v1", "ipaddresses", "IPAddress", namespaced=False)
SERVICE_CIDRS = _resource(
    "networking.k8s.io", "v1", "servicecidrs", "ServiceCIDR", namespaced=False
)
DEVICE_CLASSES = _resource(
    "resource.k8s.io", "v1", "deviceclasses", "DeviceClass", namespaced=False
)
DEVICE_TAINT_RULES = _resource(
    "resource.k8s.io", "v1", "devicetaintrules", "DeviceTaintRule", namespaced=False
)
STORAGE_VERSION_MIGRATIONS = _resource(
    "storagemigration.k8s.io",
    "v1",
    "storageversionmigrations",
    "StorageVersionMigration",
    namespaced=False,
)
RESOURCE_CLAIMS = _resource("resource.k8s.io", "v1", "resourceclaims", "ResourceClaim")
RESOURCE_CLAIM_TEMPLATES = _resource(
    "resource.k8s.io", "v1", "resourceclaimtemplates", "ResourceClaimTemplate"
)
RESOURCE_SLICES = _resource(
    "resource.k8s.io", "v1", "resourceslices", "ResourceSlice", namespaced=False
)
CLUSTER_TRUST_BUNDLES = _resource(
    "certificates.k8s.io", "v1", "clustertrustbundles", "ClusterTrustBundle", namespaced=False
)
POD_CERTIFICATE_REQUESTS = _resource(
    "certificates.k8s.io", "v1", "podcertificaterequests", "PodCertificateRequest"
)
VOLUME_ATTRIBUTES_CLASSES = _resource(
    "storage.k8s.io", "v1", "volumeattributesclasses", "VolumeAttributesClass", namespaced=False
)
RUNTIME_CLASSES = _resource("node.k8s.io", "v1", "runtimeclasses", "RuntimeClass", namespaced=False)
API_SERVICES = _resource(
    "apiregistration.k8s.io", "v1", "apiservices", "APIService", namespaced=False
)
CUSTOM_RESOURCE_DEFINITIONS = _resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)
VALIDATING_ADMISSION_POLICIES = _resource(
    "admissionregistration.k8s.io",
    "v1",
    "validatingadmissionpolicies",
    "ValidatingAdmissionPolicy",
    namespaced=False,
)
SUBJECT_ACCESS_REVIEWS = _resource(
    "authorization.k8s.io",
    "v1",
    "subjectaccessreviews",
    "SubjectAccessReview",
    namespaced=False,
)

_RESOURCE_OF = {
    GroupVersionKind(resource.group, resource.version, kind): resource
    for resource, kind in KIND_OF.items()
}


def resource_of(obj: Obj) -> GroupVersionResource:
    """The resource that serves ``obj``, by its apiVersion and kind.

    :raises KeyError: a kind that this module does not name.
    """
    return _RESOURCE_OF[gvk_of(obj)]


def resource_of_kind(gvk: GroupVersionKind) -> GroupVersionResource | None:
    return _RESOURCE_OF.get(gvk)
