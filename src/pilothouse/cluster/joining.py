"""What a machine that joins the cluster needs, as kubeadm leaves it: ``kube-public/cluster-info``,
which anybody may read and the bootstrap signer signs, and what bootstrap tokens may do.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_not_found
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.kubeclient.resources import CONFIG_MAPS

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.kubeclient.interfaces import Client

NAMESPACE, NAME = "kube-public", "cluster-info"
TOKENS_GROUP = "system:bootstrappers:kubeadm:default-node-token"
_RBAC = "rbac.authorization.k8s.io"
_ROLES = GroupVersionResource(_RBAC, "v1", "roles")
_ROLE_BINDINGS = GroupVersionResource(_RBAC, "v1", "rolebindings")
_CLUSTER_ROLES = GroupVersionResource(_RBAC, "v1", "clusterroles")
_CLUSTER_ROLE_BINDINGS = GroupVersionResource(_RBAC, "v1", "clusterrolebindings")
_READER = "kubeadm:bootstrap-signer-clusterinfo"
_GET_NODES = "kubeadm:get-nodes"
_REQUESTS = "system:certificates.k8s.io:certificatesigningrequests"
_BOUND = (
    ("kubeadm:kubelet-bootstrap", "system:node-bootstrapper", TOKENS_GROUP),
    ("kubeadm:node-autoapprove-bootstrap", f"{_REQUESTS}:nodeclient", TOKENS_GROUP),
    (
        "kubeadm:node-autoapprove-certificate-rotation",
        f"{_REQUESTS}:selfnodeclient",
        "system:nodes",
    ),
    (_GET_NODES, _GET_NODES, TOKENS_GROUP),
)


def cluster_info(server: str, ca: bytes) -> str:
    """The kubeconfig in the ConfigMap: where the cluster is and how to know it, nobody's rights."""
    from pilothouse.kubeclient import kubeconfig

    made = kubeconfig.make("", server, ca_data=ca)
    return json.dumps({**made, "contexts": [], "users": []}, indent=2) + "\n"


def rules() -> list[tuple[GroupVersionResource, Obj]]:
    """The RBAC objects."""
    read: dict[str, Any] = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    found: list[tuple[GroupVersionResource, Obj]] = [
        (
            _ROLES,
            {
                "metadata": {"name": _READER, "namespace": NAMESPACE},
                "rules": [{**read, "resourceNames": [NAME]}],
            },
        ),
        (
            _ROLE_BINDINGS,
            {
                "metadata": {"name": _READER, "namespace": NAMESPACE},
                "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": _READER},
                "subjects": [{"apiGroup": _RBAC, "kind": "User", "name": "system:anonymous"}],
            },
        ),
        (
            _CLUSTER_ROLES,
            {
                "metadata": {"name": _GET_NODES},
                "rules": [{"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}],
            },
        ),
    ]
    for name, role, group in _BOUND:
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": group}],
        }
        found.append((_CLUSTER_ROLE_BINDINGS, binding))
    return found


async def publish(client: Client, server: str, ca: bytes) -> None:
    """Makes what is missing; a cluster that comes up at another address says so.

    :raises StatusError: something can't be written.
    """
    content = cluster_info(server, ca)
    try:
        known = await client.get(CONFIG_MAPS, NAME, NAMESPACE)
    except StatusError as error:
        if not is_not_found(error):
            raise
    else:
        data = known.get("data") or {}
        if data.get("kubeconfig") != content:
            await client.update(CONFIG_MAPS, {**known, "data": {**data, "kubeconfig": content}})
        return
    for resource, obj in rules():
        await _create(client, resource, obj)
    metadata = {"name": NAME, "namespace": NAMESPACE}
    await _create(client, CONFIG_MAPS, {"metadata": metadata, "data": {"kubeconfig": content}})


async def _create(client: Client, resource: GroupVersionResource, obj: Obj) -> None:
    try:
        await client.create(resource, obj)
    except StatusError as error:
        if not is_already_exists(error):
            raise
