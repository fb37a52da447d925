"""Which objects the pods of a node use (plugin/pkg/auth/authorizer/node/graph.go).

Follows pods only; everything else (volumes, slices) is looked up when asked, so that nothing
is watched for it. A pod's references are worked out once, on the first question about its node.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.pod_references import (
    claim_names,
    config_map_names,
    resource_claim_names,
    secret_names,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Listers

PODS = GroupResource("", "pods")
VOLUMES = GroupResource("", "persistentvolumes")
CLAIMS = GroupResource("", "persistentvolumeclaims")
ATTACHMENTS = GroupResource("storage.k8s.io", "volumeattachments")
SLICES = GroupResource("resource.k8s.io", "resourceslices")
POD_CERTIFICATES = GroupResource("certificates.k8s.io", "podcertificaterequests")
MIRROR_ANNOTATION = "kubernetes.io/config.mirror"

Reference = tuple[str, str]
"""Resource and name, in the pod's namespace."""
_CSI_KUBELET_SECRETS = ("nodeStageSecretRef", "nodePublishSecretRef", "nodeExpandSecretRef")


class _Pod:
    __slots__ = ("obj", "references")

    def __init__(self, obj: Obj) -> None:
        self.obj = obj
        self.references: frozenset[Reference] | None = None


class NodeGraph:
    """Answers "does this node need that object?" from the pods bound to it."""

    def __init__(self, listers: Listers) -> None:
        self._listers = listers
        self._nodes: dict[str, dict[tuple[str, str], _Pod]] = {}
        listers.subscribe(PODS, self._pod_changed)

    def _pod_changed(self, event_type: str, pod: Obj, old: Obj | None) -> None:
        metadata = pod["metadata"]
        key = (metadata.get("namespace") or "", metadata["name"])
        node = (pod.get("spec") or {}).get("nodeName")
        old_node = (old.get("spec") or {}).get("nodeName") if old else None
        if old_node and (old_node != node or event_type == "DELETED"):
            self._nodes.get(old_node, {}).pop(key, None)
        if not node:
            return
        pods = self._nodes.setdefault(node, {})
        if event_type == "DELETED":
            pods.pop(key, None)
            return
        known = pods.get(key)
        if known is None or not _same_references(known.obj, pod):
            pods[key] = _Pod(pod)
        else:
            known.obj = pod

    def _references(self, pod: _Pod) -> frozenset[Reference]:
        if pod.references is None:
            pod.references = _references_of(pod.obj)
        return pod.references

    def uses(self, node: str, resource: str, namespace: str, name: str) -> bool:
        """Whether a pod of ``node`` names the object (or is it)."""
        pods = self._nodes.get(node)
        if not pods or not name:
            return False
        if resource == "pods":
            return (namespace, name) in pods
        wanted = (resource, name)
        return any(
            wanted in self._references(pod)
            for (pod_namespace, _), pod in pods.items()
            if pod_namespace == namespace
        )

    def uses_secret(self, node: str, namespace: str, name: str) -> bool:
        """As ``uses``, and through the volumes behind the pods' claims."""
        if self.uses(node, "secrets", namespace, name):
            return True
        return any(name in self._volume_secrets(claim) for claim in self._claims(node, namespace))

    def uses_volume(self, node: str, name: str) -> bool:
        volume = self._listers.get(VOLUMES, "", name) if node in self._nodes else None
        claim = ((volume or {}).get("spec") or {}).get("claimRef") or {}
        return self.uses(
            node, "persistentvolumeclaims", claim.get("namespace") or "", claim.get("name") or ""
        )

    def belongs_to(self, node: str, resource: GroupResource, namespace: str, name: str) -> bool:
        """For kinds that say their node in ``spec.nodeName``."""
        obj = self._listers.get(resource, namespace, name)
        return bool(obj) and ((obj or {}).get("spec") or {}).get("nodeName") == node

    def _claims(self, node: str, namespace: str) -> list[Obj]:
        names = {
            name
            for (pod_namespace, _), pod in self._nodes.get(node, {}).items()
            if pod_namespace == namespace
            for resource, name in self._references(pod)
            if resource == "persistentvolumeclaims"
        }
        found = (self._listers.get(CLAIMS, namespace, name) for name in sorted(names))
        return [claim for claim in found if claim]

    def _volume_secrets(self, claim: Obj) -> set[str]:
        """Secrets in the claim's namespace that the kubelet needs for its volume."""
        volume = self._listers.get(VOLUMES, "", (claim.get("spec") or {}).get("volumeName") or "")
        spec = (volume or {}).get("spec") or {}
        namespace = claim["metadata"].get("namespace")
        if (spec.get("claimRef") or {}).get("name") != claim["metadata"].get("name"):
            return set()
        references = [(spec.get("csi") or {}).get(key) for key in _CSI_KUBELET_SECRETS]
        references += [
            source.get("secretRef") for source in spec.values() if isinstance(source, dict)
        ]
        return {
            reference.get("name") or ""
            for reference in references
            if reference and (reference.get("namespace") or namespace) == namespace
        }


def _same_references(old: Obj, new: Obj) -> bool:
    """Bound pods change what they refer to only in these places."""
    if old["metadata"].get("uid") != new["metadata"].get("uid"):
        return False
    old_spec, new_spec = old.get("spec") or {}, new.get("spec") or {}
    if old_spec.get("ephemeralContainers") != new_spec.get("ephemeralContainers"):
        return False
    old_status, new_status = old.get("status") or {}, new.get("status") or {}
    return all(
        old_status.get(field) == new_status.get(field)
        for field in ("resourceClaimStatuses", "extendedResourceClaimStatus")
    )


def _references_of(pod: Obj) -> frozenset[Reference]:
    # A node must not gain access to objects by naming them in a mirror pod of its own.
    if MIRROR_ANNOTATION in (pod["metadata"].get("annotations") or {}):
        return frozenset()
    account = (pod.get("spec") or {}).get("serviceAccountName")
    found: set[Reference] = {("serviceaccounts", account)} if account else set()
    found.update(("secrets", name) for name in secret_names(pod))
    found.update(("configmaps", name) for name in config_map_names(pod))
    found.update(("persistentvolumeclaims", name) for name in claim_names(pod))
    found.update(("resourceclaims", name) for name in resource_claim_names(pod))
    return frozenset(found)
