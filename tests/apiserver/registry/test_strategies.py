"""Every built-in resource has a strategy that fits its row, and cells for its columns."""

from __future__ import annotations

from typing import Any

import pytest

from pilothouse.apimachinery.testing import START
from pilothouse.apis.resources import BUILT_IN
from pilothouse.apiserver.registry.strategies import strategy_for

ROWS = sorted({row.group_resource for row in BUILT_IN}, key=str)
_NODES = "nodes"  # its status is created with it: prepare_for_update keeps it instead


@pytest.mark.parametrize("row", BUILT_IN, ids=lambda row: str(row.gvr))
def test_row(row: Any) -> None:
    strategy = strategy_for(row.group_resource)
    obj = {"metadata": {"name": "x", "creationTimestamp": "2025-12-31T23:59:00Z"}}
    assert len(strategy.row(obj, START)) == len(strategy.columns)
    assert strategy.namespaced == row.namespaced
    assert set(strategy.selectable_fields) <= set(strategy.fields(obj))
    if row.group_resource.resource != _NODES:
        status = any(sub.name == "status" for sub in row.subresources)
        assert strategy.has_status == status


def test_strategies_are_made_once() -> None:
    for resource in ROWS:
        assert strategy_for(resource) is strategy_for(resource)


def test_slices_are_found_by_pool() -> None:
    strategy = strategy_for(next(r for r in ROWS if r.resource == "resourceslices"))
    spec = {"driver": "d", "pool": {"name": "p"}, "nodeName": "n"}
    fields = strategy.fields({"metadata": {"name": "x"}, "spec": spec})
    assert {k: fields[k] for k in ("spec.driver", "spec.nodeName", "spec.pool.name")} == {
        "spec.driver": "d", "spec.nodeName": "n", "spec.pool.name": "p",
    }  # fmt: skip
