"""RuntimeClass: overhead, node selector and tolerations of a pod's runtime class."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.core.resource_requests import parse_list
from pilothouse.apis.core.tolerations import is_superset
from pilothouse.apiserver.admission.plugin import Plugin, refuse

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes

RUNTIME_CLASSES = GroupResource("node.k8s.io", "runtimeclasses")
_MISMATCH = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
_UNDEFINED = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"


class RuntimeClass(Plugin):
    async def _class(self, attributes: Attributes, spec: Obj) -> Obj | None:
        name = spec.get("runtimeClassName")
        if name is None:
            return None
        found = (await self.listed(RUNTIME_CLASSES)).get(RUNTIME_CLASSES, "", name)
        if found is None:
            raise refuse(attributes, f'pod rejected: RuntimeClass "{name}" not found')
        return found

    async def admit(self, attributes: Attributes) -> None:
        if attributes.obj is None:
            return
        spec = attributes.obj["spec"]
        chosen = await self._class(attributes, spec)
        if chosen is None:
            return
        if (overhead := chosen.get("overhead")) is not None:
            fixed = overhead.get("podFixed") or {}
            if spec.get("overhead") and parse_list(spec["overhead"]) != parse_list(fixed):
                raise refuse(attributes, _MISMATCH)
            spec["overhead"] = dict(fixed)
        if scheduling := chosen.get("scheduling"):
            _schedule(attributes, spec, scheduling)

    async def validate(self, attributes: Attributes) -> None:
        if attributes.obj is None:
            return
        spec = attributes.obj["spec"]
        overhead = (await self._class(attributes, spec) or {}).get("overhead")
        if overhead is None:
            if spec.get("overhead") is not None:
                raise refuse(attributes, _UNDEFINED)
        elif parse_list(spec.get("overhead")) != parse_list(overhead.get("podFixed")):
            raise refuse(attributes, _MISMATCH)


def _schedule(attributes: Attributes, spec: Obj, scheduling: Obj) -> None:
    selector = dict(spec.get("nodeSelector") or {})
    for key, value in (scheduling.get("nodeSelector") or {}).items():
        own = selector.get(key, value)
        if own != value:
            raise refuse(
                attributes,
                f"conflict: runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                f"pod.spec.nodeSelector[{key}] = {own}",
            )
        selector[key] = value
    if selector:
        spec["nodeSelector"] = selector
    if extra := scheduling.get("tolerations"):
        spec["tolerations"] = merge_tolerations([*(spec.get("tolerations") or ()), *extra])


def merge_tolerations(tolerations: list[Obj]) -> list[Obj]:
    """Leaves out what another one covers (tolerations.MergeTolerations)."""
    merged: list[Obj] = []
    for index, candidate in enumerate(tolerations):
        covered = any(is_superset(known, candidate) for known in merged) or any(
            is_superset(later, candidate) and later != candidate
            for later in tolerations[index + 1 :]
        )
        if not covered:
            merged.append(candidate)
    return merged


PLUGINS = {"RuntimeClass": RuntimeClass}
