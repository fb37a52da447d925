"""TaintNodesByCondition: a new node takes no pods until it is seen to be ready."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import get_nested
from pilothouse.apiserver.admission.plugin import Plugin

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Attributes

_KEY, _EFFECT = "node.kubernetes.io/not-ready", "NoSchedule"


class TaintNodesByCondition(Plugin):
    async def admit(self, attributes: Attributes) -> None:
        node = attributes.obj
        if node is None:
            return
        taints = get_nested(node, "spec", "taints", default=[])
        if any(taint.get("key") == _KEY and taint.get("effect") == _EFFECT for taint in taints):
            return
        spec = node.setdefault("spec", {})
        spec["taints"] = [*taints, {"key": _KEY, "effect": _EFFECT}]


PLUGINS = {"TaintNodesByCondition": TaintNodesByCondition}
