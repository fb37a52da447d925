"""Limits of what pods may write to the node's disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from pilothouse.kubelet.local_storage import disk_usage, exceeded, is_limited

MI = 1 << 20


def pod(*limits: str | None, size_limit: str | None = None, medium: str = "") -> dict[str, Any]:
    containers = [
        {"name": f"c{i}", "resources": {"limits": {"ephemeral-storage": limit} if limit else {}}}
        for i, limit in enumerate(limits)
    ]
    empty = {"medium": medium} | ({"sizeLimit": size_limit} if size_limit else {})
    return {"spec": {"containers": containers, "volumes": [{"name": "v", "emptyDir": empty}]}}


@pytest.mark.parametrize(
    ("made", "volume", "containers", "problem"),
    [
        (pod("5Mi"), 0, [5 * MI], None),
        (pod("5Mi"), 0, [5 * MI + 1], "Pod ephemeral local storage usage exceeds the total limit "
         "of containers 5Mi. "),
        (pod("5Mi", "1Mi"), 0, [1, 2 * MI], 'Container c1 exceeded its local ephemeral storage '
         'limit "1Mi". '),
        (pod("1Mi", None), 0, [1, 90 * MI], None),
        (pod("1Mi"), 2 * MI, [1], "Pod ephemeral local storage usage exceeds the total limit of "
         "containers 1Mi. "),
        (pod("1Mi", medium="Memory"), 2 * MI, [1], None),
        (pod(None, size_limit="1Mi"), MI, [1], None),
        (pod(None, size_limit="1Mi"), MI + 1, [1], 'Usage of EmptyDir volume "v" exceeds the '
         'limit "1Mi". '),
    ],
)  # fmt: skip
def test_limits(
    made: dict[str, Any], volume: int, containers: list[int], problem: str | None
) -> None:
    used = {f"c{i}": size for i, size in enumerate(containers)}
    assert exceeded(made, {"v": volume}, used) == problem
    assert is_limited(made)


def test_pods_without_limits() -> None:
    assert not is_limited(pod(None))
    assert exceeded(pod(None), {"v": 1 << 40}, {"c0": 1 << 40}) is None


def test_disk_usage(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a/file").write_bytes(b"x" * 100_000)
    (tmp_path / "link").symlink_to("/etc/passwd")
    assert 90_000 < disk_usage(str(tmp_path)) < 140_000
    assert disk_usage(str(tmp_path / "missing")) == 0
