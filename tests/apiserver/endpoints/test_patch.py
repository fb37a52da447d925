"""A patch of a status that leaves the spec alone gives what patching the whole object gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.object import Obj, copy_object
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.request.context import UserInfo
from pilothouse.apiserver.testing import running_server
from pilothouse.kubeclient.interfaces import Client

_PODS, _NODES = GroupVersionResource("", "v1", "pods"), GroupVersionResource("", "v1", "nodes")
_STRATEGIC = "application/strategic-merge-patch+json"
_CONTAINER = {"name": "c", "image": "i", "ports": [{"containerPort": 80}]}
_POD: Obj = {
    "metadata": {"name": "p", "namespace": "default"},
    "spec": {"containers": [_CONTAINER], "automountServiceAccountToken": False},
}
_NODE: Obj = {
    "metadata": {"name": "n", "labels": {"a": "b"}},
    "spec": {"podCIDR": "10.0.0.0/24"},
    "status": {"capacity": {"cpu": "2"}},
}
_TIMES = st.sampled_from(["2026-01-02T03:04:05Z", None, "no time"])
_STATUSES = st.sampled_from(["True", "False", "Maybe", 3])
_conditions = st.lists(
    st.fixed_dictionaries(
        {"type": st.sampled_from(["Ready", "Initialized", "x.io/mine"])},
        optional={
            "status": _STATUSES,
            "reason": st.sampled_from(["Why", None, ""]),
            "lastTransitionTime": _TIMES,
            "$patch": st.sampled_from(["delete", "replace"]),
        },
    ),
    max_size=3,
    unique_by=lambda c: str(c["type"]),
)
_running = st.fixed_dictionaries({"running": st.fixed_dictionaries({"startedAt": _TIMES})})
_container_statuses = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.sampled_from(["c", "other"]),
            "ready": st.booleans(),
            "restartCount": st.integers(0, 2),
        },
        optional={"state": _running, "resources": st.just({}), "unknown": st.just(1)},
    ),
    max_size=2,
)  # fmt: skip
_metadata = st.fixed_dictionaries(
    {},
    optional={
        "labels": st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["c", None])),
        "uid": st.just("other"),
        "finalizers": st.just(["x.io/f"]),
        "resourceVersion": st.sampled_from(["1", "x"]),
    },
)
_pod_patch = st.fixed_dictionaries(
    {
        "status": st.fixed_dictionaries(
            {},
            optional={
                "phase": st.sampled_from(["Running", "Pending", None, 1]),
                "conditions": _conditions,
                "containerStatuses": _container_statuses,
                "podIP": st.sampled_from(["10.0.0.1", "010.0.0.1", ""]),
                "podIPs": st.lists(st.fixed_dictionaries({"ip": st.just("10.0.0.1")}), max_size=1),
                "$setElementOrder/conditions": st.just([{"type": "Ready"}]),
            },
        )
    },
    optional={"metadata": _metadata},
)
_node_patch = st.fixed_dictionaries(
    {
        "status": st.fixed_dictionaries(
            {},
            optional={
                "conditions": _conditions,
                "capacity": st.dictionaries(
                    st.sampled_from(["cpu", "memory"]), st.sampled_from(["1", "2Gi", "x", None])
                ),
                "allocatable": st.none() | st.just({"cpu": "1"}),
                "phase": st.just("Running"),
            },
        )
    },
    optional={"metadata": _metadata},
)


async def _outcome(client: Client, resource: GroupVersionResource, name: str, patch: Obj) -> Any:
    """The answer to the patch of a new object, and what is stored then."""
    obj = copy_object(_POD if resource is _PODS else _NODE)
    obj["metadata"]["name"] = name
    namespace = obj["metadata"].get("namespace", "")
    created = await client.create(resource, obj, namespace)
    before = copy_object(created)
    try:
        found = await client.patch(
            resource, name, patch, _STRATEGIC, namespace, subresource="status"
        )
    except StatusError as error:
        found = error.status
    assert created == before
    return _stable(found, name), _stable(await client.get(resource, name, namespace), name)


def _stable(obj: Any, name: str) -> Any:
    if isinstance(obj, dict):
        passing = ("uid", "time", "resourceVersion")
        return {k: _stable(v, name) for k, v in obj.items() if k not in passing}
    if isinstance(obj, list):
        return [_stable(v, name) for v in obj]
    return obj.replace(name, "NAME") if isinstance(obj, str) else obj


@pytest.mark.parametrize("resource", [_PODS, _NODES])
async def test_status_apart_gives_the_same(
    resource: GroupVersionResource, monkeypatch: pytest.MonkeyPatch
) -> None:
    patches: list[Obj] = []

    @settings(max_examples=100, deadline=None, database=None, derandomize=True,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(_pod_patch if resource is _PODS else _node_patch)
    def collect(patch: Obj) -> None:
        patches.append(patch)

    collect()
    async with running_server(namespaces=("default",)) as server:
        client = server.local_client(UserInfo("kubelet", groups=("system:masters",)))
        served = server.registry.lookup("", "v1", resource.resource)
        assert served is not None
        kind = type(served.strategy)
        for i, patch in enumerate(patches):
            monkeypatch.setattr(kind, "status_apart", False)
            general = await _outcome(client, resource, f"general{i}", patch)
            monkeypatch.setattr(kind, "status_apart", True)
            assert await _outcome(client, resource, f"apart{i}", patch) == general, patch
