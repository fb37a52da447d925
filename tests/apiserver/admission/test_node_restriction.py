"""A kubelet changes its own node and its own pods only."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.object import Obj, copy_object
from pilothouse.apiserver.admission.testing import Admission, pod
from pilothouse.apiserver.request.context import UserInfo

NODE = UserInfo("system:node:n1", ("system:nodes", "system:authenticated"))


@pytest.fixture
def admission() -> Admission:
    made = Admission(enable_admission_plugins=["NodeRestriction"])
    made.put("nodes", {"metadata": {"name": "n1", "uid": "u1"}})
    made.put(
        "pods", {**pod(nodeName="n1"), "metadata": {"name": "mine", "namespace": "ns", "uid": "um"}}
    )
    made.put(
        "pods",
        {**pod(nodeName="n2"), "metadata": {"name": "other", "namespace": "ns", "uid": "uo"}},
    )
    return made


def mirror(**changes: Any) -> Obj:
    owner = {
        "apiVersion": "v1",
        "kind": "Node",
        "name": "n1",
        "uid": "u1",
        "controller": True,
    }
    obj = pod(nodeName="n1")
    obj["metadata"] |= {
        "annotations": {"kubernetes.io/config.mirror": "x"},
        "ownerReferences": [owner | changes],
    }
    return obj


async def test_mirror_pods(admission: Admission) -> None:
    await admission.run("CREATE", "pods", mirror(), user=NODE)
    error = await admission.refusal("CREATE", "pods", pod(nodeName="n1"), user=NODE)
    assert 'node "n1" can only create mirror pods' in error.message
    error = await admission.refusal("CREATE", "pods", mirror(uid="x"), user=NODE)
    assert "node n1 UID mismatch: expected x got u1" in error.message
    reading = mirror()
    reading["spec"]["volumes"] = [{"name": "v", "configMap": {"name": "c"}}]
    error = await admission.refusal("CREATE", "pods", reading, user=NODE)
    assert 'node "n1" can not create pods that reference configmaps' in error.message


async def test_own_pods_only(admission: Admission) -> None:
    await admission.run("DELETE", "pods", None, name="mine", user=NODE)
    error = await admission.refusal("DELETE", "pods", None, name="other", user=NODE)
    assert 'node "n1" can only delete pods with spec.nodeName set to itself' in error.message
    old = pod(nodeName="n2")
    error = await admission.refusal("UPDATE", "pods", old, old, subresource="status", user=NODE)
    assert "can only update pod status for pods with spec.nodeName set to itself" in error.message
    old = pod(nodeName="n1")
    await admission.run("UPDATE", "pods", old, old, subresource="status", user=NODE)
    labelled = copy_object(old)
    labelled["metadata"]["labels"] = {"a": "b"}
    error = await admission.refusal(
        "UPDATE", "pods", labelled, old, subresource="status", user=NODE
    )
    assert 'node "n1" cannot update labels through pod status' in error.message


async def test_own_node_only(admission: Admission) -> None:
    old: Obj = {"metadata": {"name": "n1"}, "spec": {}}
    new = copy_object(old)
    new["metadata"]["labels"] = {"kubernetes.io/hostname": "x", "custom": "y"}
    await admission.run("UPDATE", "nodes", new, old, namespace="", user=NODE)
    new["metadata"]["labels"] = {"node-role.kubernetes.io/master": ""}
    error = await admission.refusal("UPDATE", "nodes", new, old, namespace="", user=NODE)
    assert "is not allowed to modify labels: node-role.kubernetes.io/master" in error.message
    tainted = {"metadata": {"name": "n1"}, "spec": {"taints": [{"key": "k"}]}}
    error = await admission.refusal("UPDATE", "nodes", old, tainted, namespace="", user=NODE)
    assert 'node "n1" is not allowed to modify taints' in error.message
    other = {"metadata": {"name": "n2"}}
    error = await admission.refusal("CREATE", "nodes", other, namespace="", user=NODE)
    assert 'node "n1" is not allowed to modify node "n2"' in error.message


async def test_tokens(admission: Admission) -> None:
    def request(**reference: str) -> Obj:
        bound = {"apiVersion": "v1", "kind": "Pod", **reference}
        return {"metadata": {"name": "default"}, "spec": {"boundObjectRef": bound}}

    where: dict[str, Any] = {"subresource": "token", "name": "default", "user": NODE}
    error = await admission.refusal("CREATE", "serviceaccounts", {"spec": {}}, **where)
    assert "node requested token not bound to a pod" in error.message
    error = await admission.refusal(
        "CREATE", "serviceaccounts", request(name="other", uid="uo"), **where
    )
    assert "node requested token bound to a pod scheduled on a different node" in error.message
    error = await admission.refusal(
        "CREATE", "serviceaccounts", request(name="mine", uid="um"), **where
    )
    assert 'is not authorized to request tokens for audience ""' in error.message
    using = pod(
        nodeName="n1",
        volumes=[{"name": "v", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}}],
    )
    using["metadata"] = {"name": "mine", "namespace": "ns", "uid": "um"}
    admission.put("pods", using)
    await admission.run("CREATE", "serviceaccounts", request(name="mine", uid="um"), **where)


async def test_leases(admission: Admission) -> None:
    admission.put("namespaces", {"metadata": {"name": "kube-node-lease"}})
    lease = {"metadata": {"name": "n1"}}
    where: dict[str, Any] = {"namespace": "kube-node-lease", "user": NODE}
    await admission.run("CREATE", "leases", lease, **where)
    error = await admission.refusal("CREATE", "leases", {"metadata": {"name": "n2"}}, **where)
    assert "can only access node lease with the same name as the requesting node" in error.message


async def test_others_are_not_restricted(admission: Admission) -> None:
    await admission.run("CREATE", "nodes", {"metadata": {"name": "n9"}}, namespace="")
