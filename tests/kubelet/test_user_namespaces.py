"""Ranges of ids: one a pod, never another's, kept over restarts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from pilothouse.kubelet.runtime.errors import RuntimeFailure
from pilothouse.kubelet.user_namespaces import FILE, LENGTH, UserNamespaces


def pod(uid: str) -> dict[str, Any]:
    return {"metadata": {"uid": uid}, "spec": {"hostUsers": False}}


def test_each_pod_has_a_range_of_its_own_until_it_is_gone(tmp_path: Path) -> None:
    users = UserNamespaces(str(tmp_path), slots=2)
    assert users.of(pod("a")) == LENGTH
    assert users.of(pod("b")) == 2 * LENGTH
    assert users.of(pod("a")) == LENGTH
    with pytest.raises(RuntimeFailure, match="could not find an empty slot"):
        users.of(pod("c"))
    users.release("a")
    users.release("unknown")
    assert not (tmp_path / "pods" / "a" / FILE).exists()
    assert users.of(pod("c")) == LENGTH


def test_the_next_kubelet_gives_the_same(tmp_path: Path) -> None:
    before = UserNamespaces(str(tmp_path), first=10 * LENGTH)
    assert [before.of(pod(uid)) for uid in "ab"] == [10 * LENGTH, 11 * LENGTH]
    noted = json.loads((tmp_path / "pods" / "b" / FILE).read_text())
    assert noted["uidMappings"] == noted["gidMappings"] == [
        {"hostId": 11 * LENGTH, "containerId": 0, "length": LENGTH}
    ]  # fmt: skip
    after = UserNamespaces(str(tmp_path), first=10 * LENGTH)
    after.load(["b", "never-had-one"])
    assert after.of(pod("c")) == 10 * LENGTH
    assert after.of(pod("b")) == 11 * LENGTH
    with pytest.raises(RuntimeFailure, match="already taken"):
        after.of(pod("a"))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"hostId": 5}, "wrong user namespace offset specified 5"),
        ({"hostId": 0}, "id 0 is out of range"),
        ({"hostId": LENGTH * 200}, "out of range"),
        ({"containerId": 1}, "UID 0 must be mapped"),
        ({"length": 1}, "wrong user namespace length 1"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, change: dict[str, int], why: str) -> None:
    mapping = [{"hostId": LENGTH, "containerId": 0, "length": LENGTH} | change]
    (tmp_path / "pods" / "a").mkdir(parents=True)
    path = tmp_path / "pods" / "a" / FILE
    path.write_text(json.dumps({"uidMappings": mapping, "gidMappings": mapping}))
    users = UserNamespaces(str(tmp_path))
    users.load(["a"])
    with pytest.raises(RuntimeFailure, match=why):
        users.of(pod("a"))
    path.write_text("{")
    with pytest.raises(RuntimeFailure, match="invalid user namespace mappings file"):
        users.of(pod("a"))
