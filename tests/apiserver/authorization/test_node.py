"""What a kubelet may do."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.authorization.interfaces import AuthorizationAttributes, Decision
from pilothouse.apiserver.authorization.node import NodeAuthorizer
from pilothouse.apiserver.authorization.node_graph import CLAIMS, PODS, VOLUMES, NodeGraph
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.testing_listers import DictListers

NODE = UserInfo("system:node:n1", ("system:nodes", "system:authenticated"))


def pod(name: str = "p", node: str = "n1", **spec: Any) -> Obj:
    return {
        "metadata": {"name": name, "namespace": "ns", "uid": f"uid-{name}"},
        "spec": {"nodeName": node, "serviceAccountName": "default", **spec},
    }


@pytest.fixture
def listers() -> DictListers:
    return DictListers()


@pytest.fixture
def node(listers: DictListers) -> NodeAuthorizer:
    return NodeAuthorizer(NodeGraph(listers))


def may(node: NodeAuthorizer, verb: str, resource: str, **more: Any) -> bool:
    attributes = AuthorizationAttributes(NODE, verb, resource=resource, **more)
    return node.authorize(attributes)[0] is Decision.ALLOW


def test_reads_what_its_pods_use(node: NodeAuthorizer, listers: DictListers) -> None:
    volumes = [
        {"name": "s", "secret": {"secretName": "vol"}},
        {"name": "p", "projected": {"sources": [{"configMap": {"name": "ca"}}]}},
    ]
    env = [{"name": "E", "valueFrom": {"secretKeyRef": {"name": "env", "key": "k"}}}]
    listers.put(PODS, pod(volumes=volumes, containers=[{"name": "c", "env": env}]))
    for name in ("vol", "env"):
        assert may(node, "get", "secrets", namespace="ns", name=name)
        assert may(node, "watch", "secrets", namespace="ns", name=name)
    assert may(node, "get", "configmaps", namespace="ns", name="ca")
    assert not may(node, "get", "secrets", namespace="ns", name="other")
    assert not may(node, "get", "secrets", namespace="other", name="vol")
    assert not may(node, "list", "secrets", namespace="ns")
    assert not may(node, "update", "secrets", namespace="ns", name="vol")
    assert may(
        node, "create", "serviceaccounts", subresource="token", namespace="ns", name="default"
    )
    assert not may(node, "create", "serviceaccounts", subresource="token", namespace="ns", name="x")


def test_access_ends_with_the_pod(node: NodeAuthorizer, listers: DictListers) -> None:
    spec = {"volumes": [{"name": "s", "secret": {"secretName": "vol"}}]}
    listers.put(PODS, pod(node="", **spec))
    assert not may(node, "get", "secrets", namespace="ns", name="vol")
    listers.put(PODS, pod(**spec))
    assert may(node, "get", "secrets", namespace="ns", name="vol")
    listers.put(PODS, pod(**spec) | {"status": {"phase": "Running"}})
    assert may(node, "get", "secrets", namespace="ns", name="vol")
    listers.remove(PODS, "ns", "p")
    assert not may(node, "get", "secrets", namespace="ns", name="vol")


def test_pods_of_other_nodes_and_mirror_pods_give_nothing(
    node: NodeAuthorizer, listers: DictListers
) -> None:
    spec = {"volumes": [{"name": "s", "secret": {"secretName": "vol"}}]}
    listers.put(PODS, pod("other", node="n2", **spec))
    mirror = pod("mirror", **spec)
    mirror["metadata"]["annotations"] = {"kubernetes.io/config.mirror": "x"}
    listers.put(PODS, mirror)
    assert not may(node, "get", "secrets", namespace="ns", name="vol")


def test_secret_behind_a_volume(node: NodeAuthorizer, listers: DictListers) -> None:
    claim = {"metadata": {"name": "c", "namespace": "ns"}, "spec": {"volumeName": "pv"}}
    volume = {
        "metadata": {"name": "pv"},
        "spec": {
            "claimRef": {"namespace": "ns", "name": "c"},
            "csi": {"nodeStageSecretRef": {"name": "csi", "namespace": "ns"}},
        },
    }
    listers.put(CLAIMS, claim)
    listers.put(VOLUMES, volume)
    assert not may(node, "get", "persistentvolumes", name="pv")
    volumes = [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]
    listers.put(PODS, pod(volumes=volumes))
    assert may(node, "get", "persistentvolumes", name="pv")
    assert may(node, "get", "persistentvolumeclaims", namespace="ns", name="c")
    assert may(node, "get", "secrets", namespace="ns", name="csi")


def test_own_node_lease_and_pods(node: NodeAuthorizer, listers: DictListers) -> None:
    lease = {"group": "coordination.k8s.io", "namespace": "kube-node-lease"}
    assert may(node, "update", "leases", name="n1", **lease)
    assert not may(node, "update", "leases", name="n2", **lease)
    assert may(node, "get", "nodes", name="n1")
    assert not may(node, "get", "nodes", name="n2")
    assert not may(node, "list", "nodes")
    assert may(node, "patch", "nodes", subresource="status", name="n1")
    assert may(node, "list", "pods", field_selector="spec.nodeName=n1")
    assert not may(node, "list", "pods", field_selector="spec.nodeName=n2")
    assert not may(node, "list", "pods")
    assert may(node, "list", "services")
    assert not may(node, "list", "deployments", group="apps")


def test_others_are_no_nodes(node: NodeAuthorizer) -> None:
    for user in (UserInfo("alice", ("system:nodes",)), UserInfo("system:node:n1", ())):
        attributes = AuthorizationAttributes(user, "list", resource="services")
        assert node.authorize(attributes) == (Decision.NO_OPINION, "")


def test_refusal_text(node: NodeAuthorizer) -> None:
    attributes = AuthorizationAttributes(NODE, "get", resource="secrets", namespace="ns", name="s")
    text = "no relationship found between node 'n1' and this object"
    assert node.authorize(attributes) == (Decision.NO_OPINION, text)
    assert node._graph.uses("n1", *GroupResource("pods", "ns"), "x") is False
