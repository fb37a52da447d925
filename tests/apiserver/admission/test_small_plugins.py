"""Plugins of a few lines each."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from pilothouse.apimachinery.object import Obj
from pilothouse.apiserver.admission.testing import Admission, container, pod
from pilothouse.apiserver.request.context import UserInfo

MASTER = UserInfo("root", ("system:masters",))


def priority_class(name: str, value: int, **more: Any) -> Obj:
    return {"metadata": {"name": name}, "value": value, **more}


async def test_priority_of_a_class() -> None:
    admission = Admission()
    admission.put("priorityclasses", priority_class("high", 1000, preemptionPolicy="Never"))
    obj = pod(priorityClassName="high")
    await admission.run("CREATE", "pods", obj)
    assert (obj["spec"]["priority"], obj["spec"]["preemptionPolicy"]) == (1000, "Never")
    error = await admission.refusal("CREATE", "pods", pod(priorityClassName="none"))
    assert error.message == 'pods "p" is forbidden: no PriorityClass with name none was found'
    error = await admission.refusal("CREATE", "pods", pod(priority=7))
    assert "the integer value of priority (7) must not be provided in pod spec" in error.message


async def test_global_default_priority() -> None:
    admission = Admission()
    admission.put("priorityclasses", priority_class("std", 5, globalDefault=True))
    obj = pod()
    await admission.run("CREATE", "pods", obj)
    assert (obj["spec"]["priority"], obj["spec"]["priorityClassName"]) == (5, "std")
    second = priority_class("other", 6, globalDefault=True)
    error = await admission.refusal("CREATE", "priorityclasses", second, namespace="")
    assert "PriorityClass std is already marked as default" in error.message


async def test_priority_survives_updates() -> None:
    obj = pod()
    await Admission().run("UPDATE", "pods", obj, pod(priority=3, preemptionPolicy="Never"))
    assert (obj["spec"]["priority"], obj["spec"]["preemptionPolicy"]) == (3, "Never")


async def test_tolerations_are_left_alone() -> None:
    obj = pod(tolerations=[{"operator": "Exists"}])
    await Admission().run("CREATE", "pods", obj)
    assert obj["spec"]["tolerations"] == [{"operator": "Exists"}]


async def test_toleration_flags() -> None:
    obj = pod()
    admission = Admission(default_not_ready_toleration_seconds=5)
    await admission.run("CREATE", "pods", obj)
    assert [t["tolerationSeconds"] for t in obj["spec"]["tolerations"]] == [5, 300]


async def test_new_nodes_are_tainted() -> None:
    node: Obj = {"metadata": {"name": "n"}}
    await Admission().run("CREATE", "nodes", node, namespace="")
    taint = {"key": "node.kubernetes.io/not-ready", "effect": "NoSchedule"}
    assert node["spec"]["taints"] == [taint]
    await Admission().run("CREATE", "nodes", node, namespace="")
    assert node["spec"]["taints"] == [taint]


async def test_protection_finalizers() -> None:
    claim: Obj = {"metadata": {"name": "c"}, "spec": {}}
    await Admission().run("CREATE", "persistentvolumeclaims", claim)
    assert claim["metadata"]["finalizers"] == ["kubernetes.io/pvc-protection"]


async def test_default_classes() -> None:
    admission = Admission()
    for name, created in (("old", "2020-01-01T00:00:00Z"), ("new", "2024-01-01T00:00:00Z")):
        annotations = {
            "storageclass.kubernetes.io/is-default-class": "true",
            "ingressclass.kubernetes.io/is-default-class": "true",
        }
        metadata = {"name": name, "creationTimestamp": created, "annotations": annotations}
        admission.put("storageclasses", {"metadata": metadata}, "storage.k8s.io")
        admission.put("ingressclasses", {"metadata": metadata}, "networking.k8s.io")
    claim: Obj = {"metadata": {"name": "c"}, "spec": {}}
    await admission.run("CREATE", "persistentvolumeclaims", claim)
    assert claim["spec"]["storageClassName"] == "new"
    claim = {"metadata": {"name": "c"}, "spec": {"storageClassName": ""}}
    await admission.run("CREATE", "persistentvolumeclaims", claim)
    assert claim["spec"]["storageClassName"] == ""
    ingress: Obj = {"metadata": {"name": "i"}, "spec": {}}
    await admission.run("CREATE", "ingresses", ingress)
    assert ingress["spec"]["ingressClassName"] == "new"


async def test_runtime_class() -> None:
    admission = Admission()
    runtime = {
        "metadata": {"name": "kata"},
        "overhead": {"podFixed": {"cpu": "100m"}},
        "scheduling": {
            "nodeSelector": {"kata": "yes"},
            "tolerations": [{"key": "kata", "operator": "Exists"}],
        },
    }
    admission.put("runtimeclasses", runtime, "node.k8s.io")
    obj = pod(runtimeClassName="kata")
    await admission.run("CREATE", "pods", obj)
    assert obj["spec"]["overhead"] == {"cpu": "100m"}
    assert obj["spec"]["nodeSelector"] == {"kata": "yes"}
    assert {"key": "kata", "operator": "Exists"} in obj["spec"]["tolerations"]
    error = await admission.refusal("CREATE", "pods", pod(runtimeClassName="none"))
    assert 'pod rejected: RuntimeClass "none" not found' in error.message
    error = await admission.refusal("CREATE", "pods", pod(overhead={"cpu": "1"}))
    assert "Pod Overhead set without corresponding RuntimeClass" in error.message
    clash = pod(runtimeClassName="kata", nodeSelector={"kata": "no"})
    error = await admission.refusal("CREATE", "pods", clash)
    assert "conflict: runtimeClass.scheduling.nodeSelector[kata] = yes" in error.message


async def test_claims_grow_only_when_the_class_allows() -> None:
    admission = Admission()
    metadata = {"name": "gold"}
    admission.put(
        "storageclasses", {"metadata": metadata, "allowVolumeExpansion": True}, "storage.k8s.io"
    )
    admission.put("storageclasses", {"metadata": {"name": "tin"}}, "storage.k8s.io")

    def claim(size: str, name: str = "gold", phase: str = "Bound") -> Obj:
        requests = {"requests": {"storage": size}}
        spec = {"storageClassName": name, "resources": requests}
        return {"metadata": {"name": "c"}, "spec": spec, "status": {"phase": phase}}

    await admission.run("UPDATE", "persistentvolumeclaims", claim("2Gi"), claim("1Gi"))
    error = await admission.refusal(
        "UPDATE", "persistentvolumeclaims", claim("2Gi", "tin"), claim("1Gi", "tin")
    )
    assert "only dynamically provisioned pvc can be resized" in error.message
    error = await admission.refusal(
        "UPDATE", "persistentvolumeclaims", claim("2Gi"), claim("1Gi", phase="Pending")
    )
    assert "Only bound persistent volume claims can be expanded" in error.message


def request_for(organization: str) -> str:
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        x509.NameAttribute(NameOID.COMMON_NAME, "system:node:n1"),
    ]
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    pem = builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)
    return base64.b64encode(pem).decode()


def csr(signer: str, request: str = "") -> Obj:
    return {"metadata": {"name": "c"}, "spec": {"signerName": signer, "request": request}}


async def test_certificate_plugins() -> None:
    admission = Admission()
    where = {"namespace": "", "subresource": "approval"}
    old = csr("example.com/a")
    error = await admission.refusal(
        "UPDATE",
        "certificatesigningrequests",
        old,
        old,
        **where,  # type: ignore[arg-type]
    )
    text = 'user not permitted to approve requests with signerName "example.com/a"'
    assert text in error.message
    await admission.run("UPDATE", "certificatesigningrequests", old, old, user=MASTER, **where)
    signed = {**old, "status": {"certificate": "x"}}
    where["subresource"] = "status"
    error = await admission.refusal(
        "UPDATE",
        "certificatesigningrequests",
        signed,
        old,
        **where,  # type: ignore[arg-type]
    )
    assert "user not permitted to sign requests with signerName" in error.message
    await admission.run("UPDATE", "certificatesigningrequests", old, old, **where)


async def test_no_certificates_for_masters() -> None:
    signer = "kubernetes.io/kube-apiserver-client"
    bad = csr(signer, request_for("system:masters"))
    error = await Admission().refusal("CREATE", "certificatesigningrequests", bad, namespace="")
    assert f"use of {signer} signer with system:masters group is not allowed" in error.message
    good = csr(signer, request_for("dev"))
    await Admission().run("CREATE", "certificatesigningrequests", good, namespace="")


async def test_pull_images_and_external_ips() -> None:
    admission = Admission(enable_admission_plugins="AlwaysPullImages,DenyServiceExternalIPs")
    obj = pod()
    await admission.run("CREATE", "pods", obj)
    assert obj["spec"]["containers"][0]["imagePullPolicy"] == "Always"
    service = {"metadata": {"name": "s"}, "spec": {"externalIPs": ["1.2.3.4"]}}
    error = await admission.refusal("CREATE", "services", service)
    assert "Use of external IPs is denied by admission control." in error.message
    await admission.run("UPDATE", "services", service, service)


async def test_owner_references_need_permission() -> None:
    admission = Admission(enable_admission_plugins="OwnerReferencesPermissionEnforcement")
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d", "uid": "u"}
    old = {"metadata": {"name": "c"}}
    new = {"metadata": {"name": "c", "ownerReferences": [owner]}}
    error = await admission.refusal("UPDATE", "configmaps", new, old)
    assert "cannot set an ownerRef on a resource you can't delete" in error.message
    await admission.run("CREATE", "configmaps", new)
    blocking = {
        "metadata": {"name": "c", "ownerReferences": [{**owner, "blockOwnerDeletion": True}]}
    }
    error = await admission.refusal("CREATE", "configmaps", blocking)
    assert "cannot find RESTMapping for APIVersion apps/v1 Kind Deployment" in error.message
    await admission.run("CREATE", "configmaps", blocking, user=MASTER)


async def test_topology_labels() -> None:
    admission = Admission()
    labels = {"topology.kubernetes.io/zone": "z", "other": "x"}
    admission.put("nodes", {"metadata": {"name": "n", "labels": labels}})
    binding: Obj = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    await admission.run("CREATE", "pods", binding, subresource="binding")
    assert binding["metadata"]["labels"] == {"topology.kubernetes.io/zone": "z"}


async def test_resize_within_the_node() -> None:
    admission = Admission()
    admission.put("nodes", {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "1"}}})
    old = pod(nodeName="n", containers=[container(requests={"cpu": "500m"})])
    new = pod(nodeName="n", containers=[container(requests={"cpu": "2"})])
    error = await admission.refusal("UPDATE", "pods", new, old, subresource="resize")
    assert (
        "node didn't have enough allocatable resources: cpu, requested: 2000, allocatable: 1000"
        in error.message
    )
    assert error.has_cause("NodeCapacity")


@pytest.mark.parametrize("memory", ["1Gi"])
async def test_resize_that_fits(memory: str) -> None:
    admission = Admission()
    allocatable = {"cpu": "4", "memory": "2Gi"}
    admission.put("nodes", {"metadata": {"name": "n"}, "status": {"allocatable": allocatable}})
    new = pod(nodeName="n", containers=[container(requests={"cpu": "2", "memory": memory})])
    await admission.run("UPDATE", "pods", new, pod(nodeName="n"), subresource="resize")


async def test_pods_change_as_their_node_can_follow() -> None:
    admission = Admission()
    old, new = pod(nodeName="n"), pod(nodeName="n", resources={"limits": {"cpu": "1"}})
    error = await admission.refusal("UPDATE", "pods", new, old, subresource="resize")
    assert 'node "n" not found' in error.message
    node: Obj = {"metadata": {"name": "n"}, "status": {"allocatable": {"cpu": "4"}}}
    admission.put("nodes", node)
    error = await admission.refusal("UPDATE", "pods", new, old, subresource="resize")
    assert error.message == (
        'pods "p" is forbidden: pod update requires features '
        'InPlacePodLevelResourcesVerticalScaling which are not available on node "n"'
    )
    node["status"]["declaredFeatures"] = ["InPlacePodLevelResourcesVerticalScaling"]
    admission.put("nodes", node)
    await admission.run("UPDATE", "pods", new, old, subresource="resize")
