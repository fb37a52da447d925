"""APIServices of what a server serves itself: upstream's table, and a running server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apiserver.aggregator.autoregister import decide
from pilothouse.apiserver.aggregator.priorities import (
    ALWAYS,
    MANAGED_LABEL,
    ON_START,
    PRIORITIES,
    local_api_service,
)
from pilothouse.apiserver.testing import running_server

API_SERVICES = GroupVersionResource("apiregistration.k8s.io", "v1", "apiservices")
CRDS = GroupVersionResource("apiextensions.k8s.io", "v1", "customresourcedefinitions")


def api_service(label: str, priority: int = 1, **spec: Any) -> dict[str, Any]:
    labels = {MANAGED_LABEL: label} if label else {}
    return {"metadata": {"labels": labels}, "spec": {"groupPriorityMinimum": priority, **spec}}


# (desired, current, was there at start, has synced, action): autoregister_controller.go 2A..6C
TABLE = [
    ("", None, False, False, ""),
    (ON_START, None, False, False, "create"),
    (ALWAYS, None, False, False, "create"),
    (ON_START, None, False, True, ""),
    (ALWAYS, None, False, True, "create"),
    ("", "none", True, False, ""),
    (ON_START, "none", True, False, ""),
    (ALWAYS, "none", True, False, ""),
    ("", ON_START, False, False, ""),
    (ON_START, ON_START, False, False, ""),
    (ALWAYS, ON_START, False, False, ""),
    ("", ON_START, True, False, "delete"),
    (ON_START, ON_START, True, False, "update"),
    (ALWAYS, ON_START, True, False, "update"),
    ("", ON_START, True, True, ""),
    (ON_START, ON_START, True, True, ""),
    ("", ALWAYS, True, False, "delete"),
    (ON_START, ALWAYS, True, False, "update"),
    (ALWAYS, ALWAYS, True, False, "update"),
    ("", ALWAYS, True, True, "delete"),
    (ON_START, ALWAYS, True, True, ""),
    (ALWAYS, ALWAYS, False, True, "update"),
]


@pytest.mark.parametrize(("desired", "current", "at_start", "has_synced", "action"), TABLE)
def test_table(
    desired: str, current: str | None, at_start: bool, has_synced: bool, action: str
) -> None:
    wanted = api_service(desired) if desired else None
    live = None if current is None else api_service("" if current == "none" else current, 2)
    assert decide(wanted, live, at_start=at_start, has_synced=has_synced) == action
    if wanted is not None and live is not None:
        same = {**live, "spec": wanted["spec"]}
        assert decide(wanted, same, at_start=at_start, has_synced=has_synced) == ""


@given(st.sampled_from(["", ON_START, ALWAYS]), st.booleans(), st.booleans())
def test_what_users_own_is_left_alone(desired: str, at_start: bool, has_synced: bool) -> None:
    wanted = api_service(desired) if desired else None
    assert decide(wanted, api_service("", 7), at_start=at_start, has_synced=has_synced) == ""


def test_an_installed_metrics_server_stays() -> None:
    ours = local_api_service("metrics.k8s.io", "v1beta1", custom=False)
    assert ours is not None
    theirs = {**ours, "spec": ours["spec"] | {"service": {"name": "metrics-server"}}}
    assert decide(ours, theirs, at_start=True, has_synced=False) == ""


async def test_a_server_registers_its_groups() -> None:
    async with running_server() as server:
        await server.activity.settle()
        client = server.local_client()
        items = (await client.list(API_SERVICES)).items
        by_name = {item["metadata"]["name"]: item for item in items}
        assert by_name["v1."]["spec"] == {
            "version": "v1", "groupPriorityMinimum": 18000, "versionPriority": 1,
        }  # fmt: skip
        apps = by_name["v1.apps"]
        assert apps["metadata"]["labels"] == {MANAGED_LABEL: ON_START}
        assert apps["status"]["conditions"][0]["reason"] == "Local"
        assert "v1.apiregistration.k8s.io" not in by_name
        served = {(s.resource.group, s.resource.version) for s in server.registry.all()}
        known = {(g, v) for g, (_, versions) in PRIORITIES.items() for v in versions}
        assert served <= known
        # Upstream does not make it again, either, before the next start.
        await client.delete(API_SERVICES, "v1.apps")
        await server.activity.settle()
        assert len((await client.list(API_SERVICES)).items) == len(items) - 1


async def test_a_second_start_writes_nothing(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        async with running_server(storage="sqlite", data_dir=str(tmp_path)) as server:
            await server.activity.settle()
            items = (await server.local_client().list(API_SERVICES)).items
            seen.append([item["metadata"]["resourceVersion"] for item in items])
    assert seen[0] and seen[0] == seen[1]


async def test_groups_of_crds_come_and_go(flunder_crd: dict[str, Any]) -> None:
    async with running_server() as server:
        client = server.local_client()
        await client.create(CRDS, flunder_crd)
        await server.activity.settle()
        found = await client.get(API_SERVICES, "v1.wardle.example.com")
        assert found["metadata"]["labels"] == {MANAGED_LABEL: ALWAYS}
        assert found["spec"]["groupPriorityMinimum"] == 1000
        await client.delete(CRDS, "flunders.wardle.example.com")
        await server.activity.settle()
        names = [item["metadata"]["name"] for item in (await client.list(API_SERVICES)).items]
        assert "v1.wardle.example.com" not in names
