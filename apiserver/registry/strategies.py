"""Which strategy a built-in resource has: a module, imported when first asked for."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.registry.builtin import PlainStrategy

if TYPE_CHECKING:
    from pilothouse.apis.resource import Resource
    from pilothouse.apiserver.registry.strategy import Strategy

_MODULES: dict[str, dict[str, str]] = {
    "": {
        "namespaces": "core.namespace",
        "nodes": "core.node",
        "pods": "core.pod",
        "services": "core.service",
        "endpoints": "core.endpoints",
        "configmaps": "core.configmap",
        "secrets": "core.secret",
        "serviceaccounts": "core.serviceaccount",
        "events": "core.event",
        "replicationcontrollers": "core.replicationcontroller",
        "podtemplates": "core.podtemplate",
        "limitranges": "core.limitrange",
        "resourcequotas": "core.resourcequota",
        "persistentvolumes": "core.persistentvolume",
        "persistentvolumeclaims": "core.persistentvolumeclaim",
    },
    "apiextensions.k8s.io": {
        "customresourcedefinitions": "apiextensions.custom_resource_definition",
    },
    "apps": {
        "deployments": "apps.deployment",
        "replicasets": "apps.replicaset",
        "statefulsets": "apps.statefulset",
        "daemonsets": "apps.daemonset",
        "controllerrevisions": "apps.controllerrevision",
    },
    "autoscaling": {"horizontalpodautoscalers": "autoscaling.horizontalpodautoscaler"},
    "batch": {"jobs": "batch.job", "cronjobs": "batch.cronjob"},
    "events.k8s.io": {"events": "events.event"},
    "discovery.k8s.io": {"endpointslices": "discovery.endpointslice"},
    "coordination.k8s.io": {"leases": "coordination.lease"},
    "scheduling.k8s.io": {"priorityclasses": "scheduling.priorityclass"},
    "policy": {"poddisruptionbudgets": "policy.poddisruptionbudget"},
    "networking.k8s.io": {
        "ingresses": "networking.ingress",
        "ingressclasses": "networking.ingressclass",
        "networkpolicies": "networking.networkpolicy",
        "servicecidrs": "networking.servicecidr",
        "ipaddresses": "networking.ipaddress",
    },
    "storage.k8s.io": {
        "storageclasses": "storage.storageclass",
        "volumeattributesclasses": "storage.volumeattributesclass",
        "volumeattachments": "storage.volumeattachment",
        "csistoragecapacities": "storage.csistoragecapacity",
        "csidrivers": "storage.csidriver",
        "csinodes": "storage.csinode",
    },
    "node.k8s.io": {"runtimeclasses": "node.runtimeclass"},
    "resource.k8s.io": {
        "resourceclaims": "resource.resourceclaim",
        "resourceclaimtemplates": "resource.resourceclaimtemplate",
        "deviceclasses": "resource.deviceclass",
        "resourceslices": "resource.resourceslice",
        "devicetaintrules": "resource.devicetaintrule",
    },
    "storagemigration.k8s.io": {
        "storageversionmigrations": "storagemigration.storageversionmigration",
    },
    "admissionregistration.k8s.io": {
        "validatingwebhookconfigurations": "admissionregistration.validatingwebhookconfiguration",
        "mutatingwebhookconfigurations": "admissionregistration.mutatingwebhookconfiguration",
        "validatingadmissionpolicies": "admissionregistration.validatingadmissionpolicy",
        "mutatingadmissionpolicies": "admissionregistration.mutatingadmissionpolicy",
        "validatingadmissionpolicybindings": (
            "admissionregistration.validatingadmissionpolicybinding"
        ),
        "mutatingadmissionpolicybindings": "admissionregistration.mutatingadmissionpolicybinding",
    },
    "certificates.k8s.io": {
        "certificatesigningrequests": "certificates.certificatesigningrequest",
        "clustertrustbundles": "certificates.clustertrustbundle",
        "podcertificaterequests": "certificates.podcertificaterequest",
    },
    "flowcontrol.apiserver.k8s.io": {
        "flowschemas": "flowcontrol.flowschema",
        "prioritylevelconfigurations": "flowcontrol.prioritylevelconfiguration",
    },
    "apiregistration.k8s.io": {"apiservices": "apiregistration.apiservice"},
    "rbac.authorization.k8s.io": {
        "roles": "rbac.role",
        "clusterroles": "rbac.clusterrole",
        "rolebindings": "rbac.rolebinding",
        "clusterrolebindings": "rbac.clusterrolebinding",
    },
}

_WITH_GENERATION = frozenset(
    (
        GroupResource("apiextensions.k8s.io", "customresourcedefinitions"),
        GroupResource("resource.k8s.io", "devicetaintrules"),
    )
)
_NO_UNCONDITIONAL_UPDATE = frozenset(
    (
        GroupResource("coordination.k8s.io", "leasecandidates"),
        GroupResource("storagemigration.k8s.io", "storageversionmigrations"),
        GroupResource("internal.apiserver.k8s.io", "storageversions"),
    )
)


def strategy_for(resource: GroupResource | Resource) -> Strategy:
    """The strategy of a built-in resource; one without rules when it has no module."""
    if not isinstance(resource, GroupResource):
        resource = resource.group_resource
    return _strategy(resource)


@lru_cache(maxsize=512)
def _strategy(resource: GroupResource) -> Strategy:
    module = _MODULES.get(resource.group, {}).get(resource.resource)
    if module is not None:
        found: Strategy = importlib.import_module(
            f"pilothouse.apiserver.registry.{module}"
        ).STRATEGY
        return found
    return _plain(resource)


def _plain(resource: GroupResource) -> Strategy:
    from pilothouse.apis.resources import BUILT_IN

    row = next((r for r in BUILT_IN if r.group_resource == resource), None)
    namespaced = row is None or row.namespaced
    has_status = row is not None and any(s.name == "status" for s in row.subresources)
    return PlainStrategy(
        resource,
        namespaced=namespaced,
        has_status=has_status,
        has_generation=resource in _WITH_GENERATION,
        allow_unconditional_update=resource not in _NO_UNCONDITIONAL_UPDATE,
    )
