"""Our answers are upstream's: the requests of ``hack/differential`` against what kube-apiserver
v1.37.2 answered (``python -m hack.differential --record``). ``known.json`` names the requests whose
answers differ, and docs/compatibility.md says why; an entry that no longer differs fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hack.differential import cases, records, servers

GROUPS = cases.groups()
REQUESTS = [(group.name, case.name) for group in GROUPS for case in group.cases if case.look]
KNOWN = records.known()


@pytest.fixture(scope="module")
def ours() -> Iterator[dict[str, dict[str, Any]]]:
    """All groups' answers, by group and request."""
    with servers.ours() as connection:
        yield connection.run_all(GROUPS)


@pytest.fixture(scope="module")
def theirs() -> dict[str, dict[str, Any]]:
    return {group.name: records.load(group.name) for group in GROUPS}


@pytest.mark.parametrize(("group", "request_name"), REQUESTS)
def test_same_answer(
    group: str, request_name: str, ours: dict[str, Any], theirs: dict[str, Any]
) -> None:
    expected = theirs[group].get(request_name)
    assert expected is not None, "not recorded: python -m hack.differential --record"
    found = records.differences(expected, ours[group][request_name])
    if f"{group}/{request_name}" in KNOWN:
        assert found, "no longer differs: take it out of known.json"
    else:
        assert not found, "\n".join(found)


def test_what_is_known_is_asked_and_explained() -> None:
    asked = {f"{group}/{name}" for group, name in REQUESTS}
    assert set(KNOWN) <= asked
    explained = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
    assert all(f"\n| `{word}` |" in explained for word in KNOWN.values())
    assert len(asked) == len(REQUESTS) >= 600
