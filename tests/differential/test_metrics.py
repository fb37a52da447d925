"""Metric families are upstream's: names, types, help, labels and buckets of what a component shows
are recorded by ``python -m hack.metrics --record``; ``absent.json`` lists those that are not here.
One that vanishes fails, and so does one that came and is still listed."""

from __future__ import annotations

from typing import Any

import pytest

from hack.metrics import families, ours, records


@pytest.fixture(scope="module")
def mine() -> dict[str, dict[str, Any]]:
    return ours.all_families()


@pytest.mark.parametrize("component", records.COMPONENTS)
def test_families(component: str, mine: dict[str, dict[str, Any]]) -> None:
    theirs = records.load(component)
    assert sorted(theirs.keys() - mine[component].keys()) == records.absent()[component]
    shared = {name: theirs[name] for name in theirs.keys() & mine[component].keys()}
    assert families.differences(shared, mine[component]) == []


def test_what_is_stable_is_there(mine: dict[str, dict[str, Any]]) -> None:
    lacking = [
        name
        for component in records.COMPONENTS
        for name in records.absent()[component]
        if records.load(component)[name]["help"].startswith("[STABLE]")
    ]
    # The server of this test keeps its objects in memory.
    assert set(lacking) <= {"apiserver_storage_size_bytes"}
