"""PodTopologyLabels: a pod carries the zone and region of its node as labels.

On a binding the labels go to the Binding; ``pods/binding`` copies them to the pod.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import get_nested
from pilothouse.apiserver.admission.plugin import NODES, Plugin

if TYPE_CHECKING:
    from pilothouse.apiserver.admission.interfaces import Attributes

LABELS = ("topology.kubernetes.io/zone", "topology.kubernetes.io/region")


class PodTopologyLabels(Plugin):
    async def admit(self, attributes: Attributes) -> None:
        obj = attributes.obj
        if obj is None:
            return
        if attributes.subresource == "binding":
            target = obj.get("target") or {}
            name = target.get("name") if target.get("kind") == "Node" else None
        else:
            name = get_nested(obj, "spec", "nodeName")
        node = self.listers.get(NODES, "", name) if name else None
        labels = (node["metadata"].get("labels") or {}) if node else {}
        copied = {key: labels[key] for key in LABELS if key in labels}
        if copied:
            metadata = obj.setdefault("metadata", {})
            metadata["labels"] = {**(metadata.get("labels") or {}), **copied}


PLUGINS = {"PodTopologyLabels": PodTopologyLabels}
