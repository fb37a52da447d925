"""Stores for the storage tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pilothouse.apimachinery.testing import FakeClock

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "data" / "state.db"
