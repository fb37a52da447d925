"""What calls of the libraries cost at run time (apiserver pkg/cel/library/cost.go)."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pilothouse.cel.costs import CallCost

TRACKED: dict[str, CallCost] = {}
BY_FUNCTION: dict[str, CallCost] = {}
