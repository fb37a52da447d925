"""Webhooks are asked, and the audit log says, what upstream's do for the same requests: what
kube-apiserver v1.37.2 did is recorded by ``python -m hack.reviews --record``."""

from __future__ import annotations

from typing import Any

import pytest

from hack.differential.records import differences
from hack.reviews import records
from hack.reviews.cases import cases
from hack.reviews.recording import record

KNOWN = records.known()


@pytest.fixture(scope="module")
def ours() -> dict[str, Any]:
    return record("ours")


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    return records.load()


@pytest.mark.parametrize("name", [case.name for case in cases()])
def test_same_reviews_and_events(name: str, ours: dict[str, Any], theirs: dict[str, Any]) -> None:
    assert name in theirs, "not recorded: python -m hack.reviews --record"
    found = differences(theirs[name], ours[name])
    if name in KNOWN:
        assert found, "no longer differs: take it out of known.json"
    else:
        assert not found, "\n".join(found)


def test_something_is_compared(theirs: dict[str, Any]) -> None:
    assert sum(len(answer["reviews"]) for answer in theirs.values()) > 80
    assert sum(len(answer["events"]) for answer in theirs.values()) > 150
    assert set(KNOWN) <= set(theirs)
