"""Defaults of flowcontrol.apiserver.k8s.io/v1."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj


def set_flow_schema_defaults(schema: Obj) -> None:
    spec = schema.setdefault("spec", {})
    if not spec.get("matchingPrecedence"):
        spec["matchingPrecedence"] = 1000


def set_priority_level_defaults(level: Obj) -> None:
    spec = level.setdefault("spec", {})
    exempt, limited = spec.get("exempt"), spec.get("limited")
    if exempt is not None:
        _fill(exempt, "nominalConcurrencyShares", 0)
        _fill(exempt, "lendablePercent", 0)
    if limited is not None:
        _fill(limited, "nominalConcurrencyShares", 30)
        _fill(limited, "lendablePercent", 0)
        queuing = (limited.get("limitResponse") or {}).get("queuing")
        if queuing is not None:
            for key, value in (("handSize", 8), ("queues", 64), ("queueLengthLimit", 50)):
                if not queuing.get(key):
                    queuing[key] = value


def _fill(obj: Obj, key: str, value: Any) -> None:
    if obj.get(key) is None:
        obj[key] = value
