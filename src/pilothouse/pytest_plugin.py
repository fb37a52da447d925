"""pytest plugin: the fixture ``cluster``, an isolated in-process cluster for each test.

Memory store, fake runtime, one node, everything on (RBAC, admission, controllers, scheduler).
Change it for a test, class or module with ``@pytest.mark.cluster(nodes=3, ...)``: the marker takes
the arguments of :class:`pilothouse.Cluster`. Nothing is imported until a test asks for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pilothouse.cluster.cluster import Cluster


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "cluster(**settings): arguments of pilothouse.Cluster for the fixture `cluster`"
    )


@pytest.fixture
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A running cluster that nobody else uses; gone after the test."""
    from pilothouse.cluster.cluster import Cluster

    settings: dict[str, Any] = {}
    for marker in reversed(list(request.node.iter_markers("cluster"))):
        settings.update(marker.kwargs)
    with Cluster(**settings) as running:
        yield running
