"""NodeRestriction: a kubelet changes its own node and the pods bound to it, nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import new_not_found
from pilothouse.apimachinery.object import copy_object, get_nested
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.admission.plugin import NODES, PODS, Plugin, refuse
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.authorization.node import LEASE_NAMESPACE, node_of_user
from pilothouse.apiserver.authorization.remote import resolve
from pilothouse.apiserver.pod_references import config_map_names, secret_names
from pilothouse.componentbase.der import pem_blocks, read_request_subject

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.authorization.interfaces import Authorizer

MIRROR = "kubernetes.io/config.mirror"
_RESTRICTED = "node-restriction.kubernetes.io"
_KUBELET_LABELS = frozenset(
    {
        "kubernetes.io/hostname",
        "topology.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "failure-domain.beta.kubernetes.io/region",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "kubernetes.io/os",
        "kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/arch",
    }
)
_KUBELET_NAMESPACES = ("kubelet.kubernetes.io", "node.kubernetes.io")
_CLAIMS = GroupResource("", "persistentvolumeclaims")
_VOLUMES = GroupResource("", "persistentvolumes")
_DRIVERS = GroupResource("storage.k8s.io", "csidrivers")
_API_VOLUMES = {
    "configMap": "configmaps (via configmap volumes)",
    "secret": "secrets (via secret volumes)",
    "csi": "csidrivers (via CSI volumes)",
    "glusterfs": "endpoints (via glusterFS volumes)",
    "persistentVolumeClaim": "persistentvolumeclaims",
    "ephemeral": "persistentvolumeclaims (via ephemeral volumes)",
    "azureFile": "secrets (via azureFile volumes)",
}
_API_PROJECTIONS = {
    "configMap": "configmaps (via projected volumes)",
    "secret": "secrets (via projected volumes)",
    "serviceAccountToken": "serviceaccounts (via projected volumes)",
    "clusterTrustBundle": "clustertrustbundles",
    "podCertificate": "podcertificates",
}


class NodeRestriction(Plugin):
    def set_up(self) -> None:
        self._authorizer: Authorizer | None = None
        """As the check that runs right now (without waiting) sees it."""
        self._checks: dict[str, Callable[[str, Attributes], None]] = {
            "pods": self._pods,
            "nodes": self._nodes,
            "persistentvolumeclaims": self._claims,
            "serviceaccounts": self._tokens,
            "leases": self._leases,
            "csinodes": self._csi_nodes,
            "resourceslices": self._slices,
            "podcertificaterequests": self._pod_certificates,
            "certificatesigningrequests": self._signing_requests,
        }

    async def admit(self, attributes: Attributes) -> None:
        node = node_of_user(attributes.user)
        if node is None:
            return
        if not node:
            reason = f'could not determine node from user "{attributes.user.name}"'
            raise refuse(attributes, reason)
        if attributes.subresource == "token":
            for resource in (_CLAIMS, _VOLUMES, _DRIVERS):
                await self.listed(resource)
        check = self._checks.get(attributes.resource.resource)
        if check is not None:
            checked = check

            def ask(view: Any) -> None:
                self._authorizer = view
                checked(node, attributes)

            await resolve(self.context.hooks.authorizer, ask)

    def _existing_pod(self, attributes: Attributes, name: str) -> Obj:
        pod = self.listers.get(PODS, attributes.namespace, name)
        if pod is None:
            raise new_not_found(PODS, name)
        return pod

    def _pods(self, node: str, attributes: Attributes) -> None:
        subresource, operation = attributes.subresource, attributes.operation
        if subresource == "status":
            self._pod_status(node, attributes)
        elif subresource == "eviction":
            if operation != "CREATE":
                raise refuse(attributes, f"unexpected operation {operation}")
            name = attributes.name or get_nested(attributes.obj, "metadata", "name", default="")
            if not name:
                raise refuse(attributes, "could not determine pod from request data")
            if get_nested(self._existing_pod(attributes, name), "spec", "nodeName") != node:
                reason = f"node {node} can only evict pods with spec.nodeName set to itself"
                raise refuse(attributes, reason)
        elif subresource:
            raise refuse(
                attributes,
                f"unexpected pod subresource \"{subresource}\", only 'status' and 'eviction' "
                "are allowed",
            )
        elif operation == "CREATE" and attributes.obj is not None:
            self._mirror_pod(node, attributes, attributes.obj)
        elif operation == "DELETE":
            pod = self._existing_pod(attributes, attributes.name)
            if get_nested(pod, "spec", "nodeName") != node:
                reason = f'node "{node}" can only delete pods with spec.nodeName set to itself'
                raise refuse(attributes, reason)
        else:
            raise refuse(
                attributes,
                f'unexpected operation "{operation}", node "{node}" can only create and delete '
                "mirror pods",
            )

    def _mirror_pod(self, node: str, attributes: Attributes, pod: Obj) -> None:
        metadata = pod["metadata"]
        quoted = f'node "{node}"'
        if MIRROR not in (metadata.get("annotations") or {}):
            raise refuse(
                attributes,
                f'pod does not have "{MIRROR}" annotation, {quoted} can only create mirror pods',
            )
        if get_nested(pod, "spec", "nodeName") != node:
            reason = f"{quoted} can only create pods with spec.nodeName set to itself"
            raise refuse(attributes, reason)
        owners = metadata.get("ownerReferences") or []
        if len(owners) > 1:
            reason = f"{quoted} can only create pods with a single owner reference set to itself"
            raise refuse(attributes, reason)
        owner = owners[0] if owners else {}
        if (owner.get("apiVersion"), owner.get("kind"), owner.get("name")) != ("v1", "Node", node):
            reason = f"{quoted} can only create pods with an owner reference set to itself"
            raise refuse(attributes, reason)
        if not owner.get("controller"):
            reason = (
                f"{quoted} can only create pods with a controller owner reference set to itself"
            )
            raise refuse(attributes, reason)
        if owner.get("blockOwnerDeletion"):
            reason = f"{quoted} must not set blockOwnerDeletion on an owner reference"
            raise refuse(attributes, reason)
        found = self.listers.get(NODES, "", node)
        if found is None:
            raise new_not_found(NODES, node)
        uid = found["metadata"].get("uid")
        if owner.get("uid") != uid:
            reason = f"node {node} UID mismatch: expected {owner.get('uid')} got {uid}"
            raise refuse(attributes, reason)
        used = api_reference(pod)
        if used:
            raise refuse(attributes, f"{quoted} can not create pods that reference {used}")

    def _pod_status(self, node: str, attributes: Attributes) -> None:
        new, old = attributes.obj or {}, attributes.old_obj or {}
        if attributes.operation != "UPDATE":
            raise refuse(attributes, f'unexpected operation "{attributes.operation}"')
        quoted = f'node "{node}"'
        if get_nested(old, "spec", "nodeName") != node:
            raise refuse(
                attributes,
                f"{quoted} can only update pod status for pods with spec.nodeName set to itself",
            )
        if _differ(new, old, "metadata", "labels"):
            raise refuse(attributes, f"{quoted} cannot update labels through pod status")
        for field, title in (
            ("resourceClaimStatuses", "resource claim statues"),
            ("extendedResourceClaimStatus", "extended resource claim status"),
            ("nodeAllocatableResourceClaimStatuses", "node allocatable resource claim statuses"),
        ):
            if _differ(new, old, "status", field):
                raise refuse(attributes, f"{quoted} cannot update {title}")

    def _nodes(self, node: str, attributes: Attributes) -> None:
        quoted = f'node "{node}"'
        if attributes.name != node:
            reason = f'{quoted} is not allowed to modify node "{attributes.name}"'
            raise refuse(attributes, reason)
        new, old = attributes.obj or {}, attributes.old_obj or {}
        source = get_nested(new, "spec", "configSource")
        labels = get_nested(new, "metadata", "labels", default={})
        if attributes.operation == "CREATE":
            if source is not None:
                reason = f"{quoted} is not allowed to create pods with a non-nil configSource"
                raise refuse(attributes, reason)
            if bad := forbidden_labels(labels, {}):
                reason = f"{quoted} is not allowed to set the following labels: {', '.join(bad)}"
                raise refuse(attributes, reason)
        elif attributes.operation == "UPDATE":
            if source is not None and source != get_nested(old, "spec", "configSource"):
                raise refuse(
                    attributes,
                    f"{quoted} is not allowed to update configSource to a new non-nil configSource",
                )
            if _differ(new, old, "spec", "taints"):
                raise refuse(attributes, f"{quoted} is not allowed to modify taints")
            if _differ(new, old, "metadata", "ownerReferences"):
                raise refuse(attributes, f"{quoted} is not allowed to modify ownerReferences")
            old_labels = get_nested(old, "metadata", "labels", default={})
            if bad := forbidden_labels(labels, old_labels):
                raise refuse(attributes, f"is not allowed to modify labels: {', '.join(bad)}")

    def _claims(self, node: str, attributes: Attributes) -> None:
        if attributes.subresource != "status":
            raise refuse(attributes, "may only update PVC status")
        if attributes.operation != "UPDATE":
            raise refuse(attributes, f'unexpected operation "{attributes.operation}"')
        pair = [copy_object(obj or {}) for obj in (attributes.obj, attributes.old_obj)]
        for obj in pair:
            for field in ("resourceVersion", "managedFields"):
                obj.get("metadata", {}).pop(field, None)
            for field in (
                "capacity",
                "conditions",
                "allocatedResourceStatuses",
                "allocatedResources",
            ):
                (obj.get("status") or {}).pop(field, None)
            obj["status"] = obj.get("status") or {}
        if pair[0] != pair[1]:
            raise refuse(
                attributes,
                f'node "{node}" is not allowed to update fields other than status.quantity and '
                "status.conditions",
            )

    def _tokens(self, node: str, attributes: Attributes) -> None:
        if attributes.operation != "CREATE" or attributes.subresource != "token":
            return
        spec = (attributes.obj or {}).get("spec") or {}
        reference = spec.get("boundObjectRef") or {}
        name = reference.get("name")
        if (reference.get("apiVersion"), reference.get("kind")) != ("v1", "Pod") or not name:
            raise refuse(attributes, "node requested token not bound to a pod")
        uid = reference.get("uid")
        if not uid:
            raise refuse(attributes, "node requested token with a pod binding without a uid")
        pod = self._existing_pod(attributes, name)
        if pod["metadata"].get("uid") != uid:
            raise refuse(
                attributes,
                f"the UID in the bound object reference ({uid}) does not match the UID in record. "
                "The object might have been deleted and then recreated",
            )
        if get_nested(pod, "spec", "nodeName") != node:
            reason = "node requested token bound to a pod scheduled on a different node"
            raise refuse(attributes, reason)
        self._audience(attributes, pod, spec.get("audiences") or [])

    def _audience(self, attributes: Attributes, pod: Obj, audiences: list[str]) -> None:
        if len(audiences) > 1:
            raise refuse(attributes, "node may only request 0 or 1 audiences")
        audience = audiences[0] if audiences else ""
        if self._pod_uses_audience(pod, audience):
            return
        if not self._allowed(
            attributes, "request-serviceaccounts-token-audience", audience, attributes.name
        ):
            user = attributes.user.name
            reason = f'{user} is not authorized to request tokens for audience "{audience}"'
            raise refuse(attributes, reason)

    def _allowed(self, attributes: Attributes, verb: str, resource: str, name: str) -> bool:
        authorizer = self._authorizer
        if authorizer is None:
            return False
        question = AuthorizationAttributes(
            attributes.user,
            verb,
            group=attributes.resource.group,
            version=attributes.resource.version,
            resource=resource,
            namespace=attributes.namespace,
            name=name,
        )
        return authorizer.authorize(question)[0] is Decision.ALLOW

    def _pod_uses_audience(self, pod: Obj, audience: str) -> bool:
        for volume in get_nested(pod, "spec", "volumes", default=()):
            for source in (volume.get("projected") or {}).get("sources") or ():
                token = source.get("serviceAccountToken")
                if token is not None and (token.get("audience") or "") == audience:
                    return True
            driver = self._driver(pod, volume)
            found = self.listers.get(_DRIVERS, "", driver) if driver else None
            requests = get_nested(found, "spec", "tokenRequests", default=())
            if any((request.get("audience") or "") == audience for request in requests):
                return True
        return False

    def _driver(self, pod: Obj, volume: Obj) -> str:
        """The CSI driver behind a volume, through its claim when it has one."""
        if csi := volume.get("csi"):
            return str(csi.get("driver") or "")
        if claim := volume.get("persistentVolumeClaim"):
            claim_name = claim.get("claimName") or ""
        elif "ephemeral" in volume:
            claim_name = f"{pod['metadata'].get('name')}-{volume.get('name')}"
        else:
            return ""
        found = self.listers.get(_CLAIMS, pod["metadata"].get("namespace") or "", claim_name)
        volume_name = get_nested(found, "spec", "volumeName", default="")
        persistent = self.listers.get(_VOLUMES, "", volume_name) if volume_name else None
        return str(get_nested(persistent, "spec", "csi", "driver", default=""))

    def _leases(self, node: str, attributes: Attributes) -> None:
        if attributes.namespace != LEASE_NAMESPACE:
            reason = f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
            raise refuse(attributes, reason)
        name = attributes.name
        if attributes.operation == "CREATE":
            name = get_nested(attributes.obj, "metadata", "name", default="")
        if name != node:
            reason = "can only access node lease with the same name as the requesting node"
            raise refuse(attributes, reason)

    def _csi_nodes(self, node: str, attributes: Attributes) -> None:
        name = attributes.name
        if attributes.operation == "CREATE":
            name = get_nested(attributes.obj, "metadata", "name", default="")
        if name != node:
            reason = "can only access CSINode with the same name as the requesting node"
            raise refuse(attributes, reason)

    def _slices(self, node: str, attributes: Attributes) -> None:
        deletes = attributes.operation == "DELETE"
        obj = attributes.old_obj if deletes else attributes.obj
        if attributes.operation == "UPDATE" or obj is None:
            return
        if get_nested(obj, "spec", "nodeName") != node:
            verb = "delete" if deletes else "create"
            reason = f"can only {verb} ResourceSlice with the same NodeName as the requesting node"
            raise refuse(attributes, reason)

    def _pod_certificates(self, node: str, attributes: Attributes) -> None:
        if attributes.operation != "CREATE" or attributes.subresource:
            raise refuse(attributes, f"unexpected operation {attributes.operation}")
        spec: dict[str, Any] = (attributes.obj or {}).get("spec") or {}
        if spec.get("nodeName") != node:
            raise refuse(
                attributes,
                f'PodCertificateRequest.Spec.NodeName="{spec.get("nodeName")}", which is not the '
                f'requesting node "{node}"',
            )
        pod = self._existing_pod(attributes, spec.get("podName") or "")
        where = f"{attributes.namespace}/{spec.get('podName')}"
        if get_nested(pod, "spec", "nodeName") != node or pod["metadata"].get("uid") != spec.get(
            "podUID"
        ):
            reason = (
                f'pod "{where}" is not running on node "{node}" named in the PodCertificateRequest'
            )
            raise refuse(attributes, reason)
        if MIRROR in (pod["metadata"].get("annotations") or {}):
            raise refuse(attributes, f'pod "{where}" is a mirror pod')
        account = get_nested(pod, "spec", "serviceAccountName", default="")
        if account != spec.get("serviceAccountName"):
            raise refuse(
                attributes,
                f'PodCertificateRequest for pod "{where}" contains serviceAccountName '
                f'("{spec.get("serviceAccountName")}") that differs from running pod ("{account}")',
            )
        signer = spec.get("signerName") or ""
        if not _mounts_signer(pod, signer) and not self._allowed(
            attributes,
            "request-serviceaccounts-podcertificate-signer",
            signer.replace("/", ":"),
            account,
        ):
            reason = (
                f'pod "{where}" does not mount a podCertificate projected volume for signer '
                f'"{signer}"'
            )
            raise refuse(attributes, reason)

    def _signing_requests(self, node: str, attributes: Attributes) -> None:
        """A kubelet asks for certificates of its own name only."""
        spec = (attributes.obj or {}).get("spec") or {}
        signers = (
            "kubernetes.io/kubelet-serving",
            "kubernetes.io/kube-apiserver-client-kubelet",
        )
        if attributes.operation != "CREATE" or spec.get("signerName") not in signers:
            return
        try:
            pem = base64.b64decode(spec.get("request") or "")
            subject = read_request_subject(pem_blocks(pem, "CERTIFICATE REQUEST")[0])
        except (ValueError, IndexError):
            raise refuse(attributes, "unable to parse csr") from None
        wanted = f"system:node:{node}"
        name = next((value for kind, value in subject if kind == "2.5.4.3"), "")
        if name != wanted:
            raise refuse(
                attributes,
                f"can only create a node CSR with CN={wanted}",
            )


def _differ(new: Obj, old: Obj, *path: str) -> bool:
    return bool(get_nested(new, *path, default=()) != get_nested(old, *path, default=())) and bool(
        get_nested(new, *path) or get_nested(old, *path)
    )


def _label_namespace(key: str) -> str:
    namespace, slash, _ = key.partition("/")
    return namespace if slash else ""


def _within(namespace: str, domains: Iterable[str]) -> bool:
    return any(namespace == d or namespace.endswith(f".{d}") for d in domains)


def forbidden_labels(new: dict[str, str], old: dict[str, str]) -> list[str]:
    """Labels that differ and that no kubelet may set on its node."""
    bad: list[str] = []
    for key in sorted({*new, *old}):
        if new.get(key) == old.get(key):
            continue
        namespace = _label_namespace(key)
        if _within(namespace, (_RESTRICTED,)):
            bad.append(key)
        elif _within(namespace, ("kubernetes.io", "k8s.io")) and not (
            key in _KUBELET_LABELS or _within(namespace, _KUBELET_NAMESPACES)
        ):
            bad.append(key)
    return bad


def api_reference(pod: Obj) -> str:
    """What API object a pod refers to, in upstream's words; empty when none."""
    spec = pod.get("spec") or {}
    if spec.get("serviceAccountName"):
        return "serviceaccounts"
    if any(True for _ in secret_names(pod)):
        return "secrets"
    if any(True for _ in config_map_names(pod)):
        return "configmaps"
    if spec.get("resourceClaims"):
        return "resourceclaims"
    for volume in spec.get("volumes") or ():
        for key, title in _API_VOLUMES.items():
            if key in volume:
                return title
        for source in (volume.get("projected") or {}).get("sources") or ():
            for key, title in _API_PROJECTIONS.items():
                if key in source:
                    return title
    return ""


def _mounts_signer(pod: Obj, signer: str) -> bool:
    return any(
        (source.get("podCertificate") or {}).get("signerName") == signer
        for volume in get_nested(pod, "spec", "volumes", default=())
        for source in (volume.get("projected") or {}).get("sources") or ()
    )


PLUGINS = {"NodeRestriction": NodeRestriction}
