"""Our controllers and scheduler leave behind what upstream's do: the scenarios of
``hack/differential_controllers`` against what kube-controller-manager and kube-scheduler v1.37.2
did (``python -m hack.differential_controllers --record``). ``known.json`` names the scenarios
that differ, and docs/compatibility.md says why; an entry that no longer differs fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hack.differential_controllers import records, runner, scenarios

GROUPS = {group.name: group for group in scenarios.groups()}
SCENARIOS = [(name, scenario) for name, group in GROUPS.items() for scenario in group.scenarios]
KNOWN = records.known()
_RUNS: dict[str, dict[str, Any]] = {}


async def _ours(group: str) -> dict[str, Any]:
    """All of a file's scenarios; they share a cluster, which runs once."""
    if group not in _RUNS:
        _RUNS[group] = await runner.in_ours(GROUPS[group])
    return _RUNS[group]


@pytest.mark.parametrize(("group", "scenario"), SCENARIOS)
async def test_same_outcome(group: str, scenario: str) -> None:
    expected = records.load(group).get(scenario)
    assert expected, "not recorded: python -m hack.differential_controllers --record"
    found = records.compare(expected, (await _ours(group))[scenario])
    if f"{group}/{scenario}" in KNOWN:
        assert found, "no longer differs: take it out of known.json"
    else:
        assert not found, "\n".join(found)


def test_what_is_known_is_there_and_explained() -> None:
    assert set(KNOWN) <= {"/".join(item) for item in SCENARIOS}
    text = (Path(__file__).parents[2] / "docs" / "compatibility.md").read_text()
    assert all(f"\n| `{word}` |" in text for word in KNOWN.values())
