"""Who may write which part of a ResourceClaim's status."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.admission.plugins.claim_status_access import changed_drivers, node_of
from pilothouse.apiserver.admission.testing import Admission
from pilothouse.apiserver.registry.resource.resourceclaim import STRATEGY
from pilothouse.apiserver.request.context import UserInfo

RBAC = "rbac.authorization.k8s.io"
NODE_KEY = "authentication.kubernetes.io/node-name"
RESULT = {"request": "r", "driver": "d", "pool": "p", "device": "a"}


def on_node(name: str) -> Any:
    field = {"key": "metadata.name", "operator": "In", "values": [name]}
    return {"nodeSelectorTerms": [{"matchFields": [field]}]}


def claim(node: str = "n", **status: Any) -> Any:
    allocation = {"devices": {"results": [RESULT]}, "nodeSelector": on_node(node)}
    return {"metadata": {"name": "c", "namespace": "ns"},
            "status": {"allocation": allocation, **status}}  # fmt: skip


def device(driver: str = "d", **more: Any) -> Any:
    return {"driver": driver, "pool": "p", "device": "a", **more}


def account(node: str = "n") -> UserInfo:
    return UserInfo(
        "system:serviceaccount:ns:driver", ("system:serviceaccounts",), extra=((NODE_KEY, (node,)),)
    )


def admission(verb: str, subresource: str, name: str = "") -> Admission:
    made = Admission()
    rule = {"apiGroups": ["resource.k8s.io"], "resources": [f"resourceclaims/{subresource}"],
            "verbs": [verb], "resourceNames": [name] if name else []}  # fmt: skip
    role = {"metadata": {"name": "r"}, "rules": [rule]}
    binding = {
        "metadata": {"name": "b"},
        "roleRef": {"apiGroup": RBAC, "kind": "ClusterRole", "name": "r"},
        "subjects": [{"kind": "ServiceAccount", "name": "driver", "namespace": "ns"}],
    }
    made.listers.put(GroupResource(RBAC, "clusterroles"), role)
    made.listers.put(GroupResource(RBAC, "clusterrolebindings"), binding)
    return made


CHANGE = {"new": claim(devices=[device()]), "old": claim()}


@pytest.mark.parametrize(
    ("verb", "node", "allowed"),
    [
        ("associated-node:update", "n", True),
        ("associated-node:update", "other", False),
        ("arbitrary-node:update", "other", True),
        ("update", "n", False),
    ],
)
async def test_devices_are_for_drivers(verb: str, node: str, allowed: bool) -> None:
    chain = admission(verb, "driver", "d")
    arguments = ("UPDATE", "resourceclaims", CHANGE["new"], CHANGE["old"])
    if allowed:
        await chain.run(*arguments, subresource="status", user=account(node))
        return
    error = await chain.refusal(*arguments, subresource="status", user=account(node))
    assert error.code == 422
    assert 'changing status.devices requires resource="resourceclaims/driver"' in error.message


async def test_allocations_are_for_schedulers() -> None:
    arguments = ("UPDATE", "resourceclaims", claim(), {"metadata": {"name": "c"}})
    error = await Admission().refusal(*arguments, subresource="status", user=account())
    assert error.code == 422
    assert (
        'changing status.allocation or status.reservedFor requires resource="resourceclaims/'
        'binding", verb="update" permission'
    ) in error.message
    chain = admission("update", "binding")
    await chain.run(*arguments, subresource="status", user=account())
    same = ("UPDATE", "resourceclaims", claim(), claim())
    await Admission().run(*same, subresource="status", user=account())


def test_drivers_whose_entries_change() -> None:
    both = {"devices": [device("d"), device("e")]}
    assert changed_drivers(both, {"devices": [device("e"), device("f")]}) == {"d", "f"}
    assert changed_drivers({"devices": [device("d", data=1)]}, {"devices": [device("d")]}) == {"d"}
    assert changed_drivers(both, both) == set()


def test_one_node_or_none() -> None:
    assert node_of(claim("x")["status"]["allocation"]) == "x"
    assert node_of({}) == ""
    assert node_of({"nodeSelector": {"nodeSelectorTerms": [{"matchExpressions": [{}]}]}}) == ""


def test_what_drivers_told_goes_with_the_allocation() -> None:
    old, new = claim(devices=[device(), device("e")]), claim(devices=[device(), device("e")])
    del new["status"]["allocation"]
    context: Any = None
    STRATEGY.prepare_status_update(context, new, old)
    assert new["status"] == {"devices": [device("e")]}
