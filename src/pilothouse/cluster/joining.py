"""What a machine that joins the cluster needs, as kubeadm leaves it: ``kube-public/cluster-info``,
which anybody may read and the bootstrap signer signs, the ConfigMaps of ``kubeadm_config.py``, and
what bootstrap tokens may do.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_not_found
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.cluster.kubeadm_config import KUBEADM, KUBELET, config_maps
from pilothouse.cluster.kubeadm_config import NAMESPACE as SYSTEM
from pilothouse.kubeclient.resources import CONFIG_MAPS

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.cluster.config import ClusterConfig
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
_CONFIG_READERS = (("kubeadm:nodes-kubeadm-config", KUBEADM), ("kubeadm:kubelet-config", KUBELET))
_JOINING = [("Group", TOKENS_GROUP), ("Group", "system:nodes")]
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


def _reader(
    name: str, namespace: str, config_map: str, subjects: list[tuple[str, str]]
) -> list[tuple[GroupVersionResource, Obj]]:
    """A Role to read one ConfigMap, and who has it."""
    metadata = {"name": name, "namespace": namespace}
    read: dict[str, Any] = {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]}
    return [
        (_ROLES, {"metadata": metadata, "rules": [{**read, "resourceNames": [config_map]}]}),
        (
            _ROLE_BINDINGS,
            {
                "metadata": metadata,
                "roleRef": {"apiGroup": _RBAC, "kind": "Role", "name": name},
                "subjects": [
                    {"apiGroup": _RBAC, "kind": kind, "name": who} for kind, who in subjects
                ],
            },
        ),
    ]


def rules() -> list[tuple[GroupVersionResource, Obj]]:
    """The RBAC objects around cluster-info and bootstrap tokens."""
    found = _reader(_READER, NAMESPACE, NAME, [("User", "system:anonymous")])
    nodes = {"apiGroups": [""], "resources": ["nodes"], "verbs": ["get"]}
    found.append((_CLUSTER_ROLES, {"metadata": {"name": _GET_NODES}, "rules": [nodes]}))
    for name, role, group in _BOUND:
        binding = {
            "metadata": {"name": name},
            "roleRef": {"apiGroup": _RBAC, "kind": "ClusterRole", "name": role},
            "subjects": [{"apiGroup": _RBAC, "kind": "Group", "name": group}],
        }
        found.append((_CLUSTER_ROLE_BINDINGS, binding))
    return found


async def publish(
    client: Client, server: str, ca: bytes, config: ClusterConfig | None = None
) -> None:
    """Makes what is missing; a cluster that comes up at another address says so. With ``config``
    there is what ``kubeadm join`` reads, too.

    :raises StatusError: something can't be written.
    """
    await _publish_cluster_info(client, cluster_info(server, ca))
    if config is not None and await _find(client, KUBEADM, SYSTEM) is None:
        for config_map in config_maps(config):
            await _create(client, CONFIG_MAPS, config_map)
        for role, name in _CONFIG_READERS:
            for resource, obj in _reader(role, SYSTEM, name, _JOINING):
                await _create(client, resource, obj)


async def _publish_cluster_info(client: Client, content: str) -> None:
    known = await _find(client, NAME, NAMESPACE)
    if known is not None:
        data = known.get("data") or {}
        if data.get("kubeconfig") != content:
            await client.update(CONFIG_MAPS, {**known, "data": {**data, "kubeconfig": content}})
        return
    for resource, obj in rules():
        await _create(client, resource, obj)
    metadata = {"name": NAME, "namespace": NAMESPACE}
    await _create(client, CONFIG_MAPS, {"metadata": metadata, "data": {"kubeconfig": content}})


async def _find(client: Client, name: str, namespace: str) -> Obj | None:
    try:
        return await client.get(CONFIG_MAPS, name, namespace)
    except StatusError as error:
        if not is_not_found(error):
            raise
        return None


async def _create(client: Client, resource: GroupVersionResource, obj: Obj) -> None:
    try:
        await client.create(resource, obj)
    except StatusError as error:
        if not is_already_exists(error):
            raise
