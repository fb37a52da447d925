"""For tests of admission: a chain over dict listers and builders of requests."""

from __future__ import annotations

import random
from typing import Any

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import (
    GroupResource,
    GroupVersionKind,
    GroupVersionResource,
)
from pilothouse.apimachinery.testing import FakeClock
from pilothouse.apiserver.admission.chain import AdmissionChain, build_admission
from pilothouse.apiserver.admission.interfaces import Attributes, Operation
from pilothouse.apiserver.authorization.build import build_authorizer
from pilothouse.apiserver.registry.context import RegistryContext
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.testing_listers import DictListers

USER = UserInfo("alice", ("system:authenticated",))
KINDS = {
    "pods": ("", "v1", "Pod"),
    "nodes": ("", "v1", "Node"),
    "namespaces": ("", "v1", "Namespace"),
    "configmaps": ("", "v1", "ConfigMap"),
    "services": ("", "v1", "Service"),
    "serviceaccounts": ("", "v1", "ServiceAccount"),
    "persistentvolumes": ("", "v1", "PersistentVolume"),
    "persistentvolumeclaims": ("", "v1", "PersistentVolumeClaim"),
    "priorityclasses": ("scheduling.k8s.io", "v1", "PriorityClass"),
    "ingresses": ("networking.k8s.io", "v1", "Ingress"),
    "resourceclaims": ("resource.k8s.io", "v1", "ResourceClaim"),
    "leases": ("coordination.k8s.io", "v1", "Lease"),
    "deployments": ("apps", "v1", "Deployment"),
    "certificatesigningrequests": ("certificates.k8s.io", "v1", "CertificateSigningRequest"),
}


class Admission:
    """One chain with its listers; the namespace ``ns`` and its default account exist."""

    def __init__(self, **flags: Any) -> None:
        self.listers = DictListers()
        self.clock = FakeClock()
        self.put("namespaces", {"metadata": {"name": "ns"}, "status": {"phase": "Active"}})
        self.put("serviceaccounts", {"metadata": {"name": "default", "namespace": "ns"}})
        config = type("Config", (), flags)()
        context = RegistryContext(self.clock, random.Random(1), self.listers, config=config)
        self.authorizer = build_authorizer(config, self.listers)
        self.chain: AdmissionChain = build_admission(config, context, authorizer=self.authorizer)

    def put(self, resource: str, obj: Obj, group: str = "") -> None:
        group = group or KINDS.get(resource, ("", "", ""))[0]
        self.listers.put(GroupResource(group, resource), obj)

    def attributes(
        self,
        operation: Operation,
        resource: str,
        obj: Obj | None,
        old: Obj | None = None,
        *,
        subresource: str = "",
        namespace: str = "ns",
        name: str = "",
        user: UserInfo = USER,
        dry_run: bool = False,
    ) -> Attributes:
        group, version, kind = KINDS[resource]
        if not name and obj is not None:
            name = (obj.get("metadata") or {}).get("name") or ""
        return Attributes(
            operation,
            GroupVersionKind(group, version, kind),
            GroupVersionResource(group, version, resource),
            subresource,
            namespace,
            name,
            obj,
            old,
            user,
            dry_run,
        )

    async def run(
        self,
        operation: Operation,
        resource: str,
        obj: Obj | None,
        old: Obj | None = None,
        **more: Any,
    ) -> Attributes:
        attributes = self.attributes(operation, resource, obj, old, **more)
        await self.chain.admit(attributes)
        await self.chain.validate(attributes)
        return attributes

    async def refusal(
        self,
        operation: Operation,
        resource: str,
        obj: Obj | None,
        old: Obj | None = None,
        **more: Any,
    ) -> StatusError:
        """The error that the chain raises; it must raise one."""
        try:
            await self.run(operation, resource, obj, old, **more)
        except StatusError as error:
            return error
        raise AssertionError("was not refused")


def pod(**spec: Any) -> Obj:
    containers = spec.pop("containers", None) or [{"name": "c", "image": "i"}]
    return {
        "metadata": {"name": "p", "namespace": "ns"},
        "spec": {"containers": containers, **spec},
    }


def container(name: str = "c", requests: Obj | None = None, limits: Obj | None = None) -> Obj:
    resources = {"requests": requests, "limits": limits}
    return {"name": name, "resources": {k: v for k, v in resources.items() if v}}
