"""Charging quotas: texts, batches, conflicts."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from pilothouse.apimachinery.errors import new_conflict
from pilothouse.apimachinery.object import Obj, copy_object
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.admission.testing import Admission, container, pod

QUOTAS = GroupResource("", "resourcequotas")


def quota(hard: Obj, used: Obj | None = None, name: str = "q", **spec: Any) -> Obj:
    used = dict.fromkeys(hard, "0") if used is None else used
    metadata = {"name": name, "namespace": "ns", "resourceVersion": "1"}
    return {
        "metadata": metadata,
        "spec": {"hard": hard, **spec},
        "status": {"hard": hard, "used": used},
    }


class Client:
    """Writes quotas to the listers as the server would, with optimistic locking."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self.writes: list[Obj] = []
        self.revision = 1
        self.interfere: list[Obj] = []

    async def update(self, resource: object, obj: Obj, *, subresource: str = "") -> Obj:
        await asyncio.sleep(0)
        if self.interfere:
            self._store(self.interfere.pop())
        live = await self.get(resource, obj["metadata"]["name"], "ns")
        if live["metadata"]["resourceVersion"] != obj["metadata"]["resourceVersion"]:
            raise new_conflict(QUOTAS, "q", "the object has been modified")
        stored = self._store(obj)
        self.writes.append(stored)
        return stored

    async def get(self, resource: object, name: str, namespace: str = "") -> Obj:
        found = self._admission.listers.get(QUOTAS, namespace, name)
        assert found
        return found

    def _store(self, obj: Obj) -> Obj:
        self.revision += 1
        stored: Obj = copy_object(obj)
        stored["metadata"]["resourceVersion"] = str(self.revision)
        self._admission.put("resourcequotas", stored)
        return stored


class Quotas(Admission):
    def __init__(self, *quotas: Obj) -> None:
        super().__init__()
        for obj in quotas:
            self.put("resourcequotas", obj)
        self.client = Client(self)
        self.chain.hooks.client = self.client  # type: ignore[assignment]

    def used(self, name: str = "q") -> Obj:
        found = self.listers.get(QUOTAS, "ns", name)
        assert found
        return dict(found["status"]["used"])


async def test_counts_and_refuses() -> None:
    admission = Quotas(quota({"pods": "1"}))
    await admission.run("CREATE", "pods", pod())
    assert admission.used() == {"pods": "1"}
    error = await admission.refusal("CREATE", "pods", pod())
    assert error.message == (
        'pods "p" is forbidden: exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1'
    )
    assert admission.used() == {"pods": "1"}


async def test_compute_resources() -> None:
    admission = Quotas(quota({"requests.cpu": "1", "limits.memory": "2Gi"}))
    full = container("c", {"cpu": "600m"}, {"memory": "1Gi"})
    await admission.run("CREATE", "pods", pod(containers=[full]))
    assert admission.used() == {"requests.cpu": "600m", "limits.memory": "1Gi"}
    error = await admission.refusal("CREATE", "pods", pod(containers=[full]))
    assert (
        "exceeded quota: q, requested: requests.cpu=600m, used: requests.cpu=600m, "
        "limited: requests.cpu=1" in error.message
    )
    error = await admission.refusal("CREATE", "pods", pod(containers=[container("bare")]))
    assert (
        "failed quota: q: must specify limits.memory for: bare; requests.cpu for: bare"
        in error.message
    )


async def test_object_counts() -> None:
    admission = Quotas(quota({"count/configmaps": "1", "services.nodeports": "1"}))
    await admission.run("CREATE", "configmaps", {"metadata": {"name": "c"}})
    error = await admission.refusal("CREATE", "configmaps", {"metadata": {"name": "d"}})
    assert "requested: count/configmaps=1" in error.message
    ports = {"type": "NodePort", "ports": [{"port": 1}, {"port": 2}]}
    error = await admission.refusal(
        "CREATE", "services", {"metadata": {"name": "s"}, "spec": ports}
    )
    assert "requested: services.nodeports=2" in error.message
    await admission.run("CREATE", "deployments", {"metadata": {"name": "d"}, "spec": {}})


async def test_unknown_status() -> None:
    admission = Quotas(quota({"pods": "1"}, used={}))
    error = await admission.refusal("CREATE", "pods", pod())
    assert "status unknown for quota: q, resources: pods" in error.message


async def test_updates_pay_the_difference() -> None:
    admission = Quotas(quota({"services.nodeports": "3"}, {"services.nodeports": "2"}))

    def service(count: int) -> Obj:
        ports = [{"port": n} for n in range(count)]
        return {"metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": ports}}

    await admission.run("UPDATE", "services", service(3), service(2))
    assert admission.used() == {"services.nodeports": "3"}
    await admission.run("UPDATE", "services", service(1), service(3))
    assert admission.used() == {"services.nodeports": "3"}


async def test_dry_run_charges_nothing() -> None:
    admission = Quotas(quota({"pods": "1"}))
    await admission.run("CREATE", "pods", pod(), dry_run=True)
    assert admission.used() == {"pods": "0"} and not admission.client.writes


@pytest.mark.parametrize(
    ("scope", "spec", "counted"),
    [
        ("BestEffort", {}, True),
        ("NotBestEffort", {}, False),
        ("Terminating", {"activeDeadlineSeconds": 5}, True),
        ("NotTerminating", {"activeDeadlineSeconds": 5}, False),
    ],
)
async def test_scopes(scope: str, spec: Obj, counted: bool) -> None:
    admission = Quotas(quota({"pods": "5"}, scopes=[scope]))
    await admission.run("CREATE", "pods", pod(**spec))
    assert admission.used() == {"pods": "1" if counted else "0"}


async def test_priority_class_scope() -> None:
    selector = {"scopeName": "PriorityClass", "operator": "In", "values": ["high"]}
    admission = Quotas(quota({"pods": "5"}, scopeSelector={"matchExpressions": [selector]}))
    admission.put("priorityclasses", {"metadata": {"name": "high"}, "value": 1})
    await admission.run("CREATE", "pods", pod())
    assert admission.used() == {"pods": "0"}
    await admission.run("CREATE", "pods", pod(priorityClassName="high"))
    assert admission.used() == {"pods": "1"}


async def test_concurrent_requests_share_writes_and_never_overshoot() -> None:
    admission = Quotas(quota({"pods": "5"}))
    results = await asyncio.gather(
        *(admission.run("CREATE", "pods", pod()) for _ in range(8)), return_exceptions=True
    )
    assert sum(isinstance(result, Exception) for result in results) == 3
    assert admission.used() == {"pods": "5"}
    assert len(admission.client.writes) < 5


async def test_conflict_is_judged_again() -> None:
    admission = Quotas(quota({"pods": "2"}))
    admission.client.interfere = [quota({"pods": "2"}, {"pods": "1"})]
    await admission.run("CREATE", "pods", pod())
    assert admission.used() == {"pods": "2"}
    admission = Quotas(quota({"pods": "1"}))
    admission.client.interfere = [quota({"pods": "1"}, {"pods": "1"})]
    error = await admission.refusal("CREATE", "pods", pod())
    assert "exceeded quota" in error.message


async def test_cancelled_leader_leaves_nobody_hanging() -> None:
    admission = Quotas(quota({"pods": "5"}))
    first = asyncio.ensure_future(admission.run("CREATE", "pods", pod()))
    second = asyncio.ensure_future(admission.run("CREATE", "pods", pod()))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert int(admission.used()["pods"]) >= 1


async def test_claims_are_charged_for_extended_resources_of_their_class() -> None:
    name, implicit = "requests.example.com/gpu", "requests.deviceclass.resource.kubernetes.io/c"
    admission = Quotas(
        quota({name: "4", implicit: "8", "c.deviceclass.resource.k8s.io/devices": "8"})
    )
    device_class = {"metadata": {"name": "c"}, "spec": {"extendedResourceName": "example.com/gpu"}}
    admission.put("deviceclasses", device_class, "resource.k8s.io")
    requester = pod(containers=[container("c", {"example.com/gpu": "2"}, {"example.com/gpu": "2"})])
    requester["metadata"] |= {"uid": "u", "namespace": "ns"}
    admission.put("pods", requester)
    request = {"name": "r", "exactly": {"deviceClassName": "c", "count": 3}}
    metadata = {"generateName": "p-", "namespace": "ns"}
    claim: Obj = {"metadata": metadata, "spec": {"devices": {"requests": [request]}}}
    owner = {"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "u", "controller": True}
    annotations = {"resource.kubernetes.io/extended-resource-claim": "true"}
    owned = {
        **claim,
        "metadata": {**metadata, "ownerReferences": [owner], "annotations": annotations},
    }
    await admission.run("CREATE", "resourceclaims", owned)
    assert list(admission.used().values()) == ["1", "3", "3"]  # the pod counts for the other two
    await admission.run("CREATE", "resourceclaims", claim)
    assert list(admission.used().values()) == ["4", "6", "6"]
    error = await admission.refusal("CREATE", "resourceclaims", claim)
    assert "exceeded quota: q" in error.message
    assert f"{name}=3" in error.message
