"""Features that nodes declare, and what a pod needs of them (nodedeclaredfeatures). Pure.

A pod that uses one of these goes only to nodes whose kubelet says that it has it, and a pod on a
node is changed only in ways that its kubelet can follow.
"""

from __future__ import annotations

from collections.abc import Iterator

from pilothouse.apimachinery.object import Obj, get_nested

RESTART_ALL = "RestartAllContainersOnContainerExits"
POD_LEVEL_RESIZE = "InPlacePodLevelResourcesVerticalScaling"
INIT_RESIZE = "InPlacePodVerticalScalingInitContainers"
VOLUME_RESIZE = "InPlacePodVerticalScalingMemoryBackedVolumes"
WEB_SOCKETS = "ExtendWebSocketsToKubelet"
USER_NAMESPACES_HOST_NETWORK = "UserNamespacesHostNetworkSupport"
DECLARED = (WEB_SOCKETS, POD_LEVEL_RESIZE, INIT_RESIZE, RESTART_ALL)
"""By a kubelet with the defaults of v1.37, sorted."""


def needed_for_scheduling(spec: Obj) -> frozenset[str]:
    needed = set()
    if any(_restarts_all(c) for c in _containers(spec)):
        needed.add(RESTART_ALL)
    if spec.get("hostNetwork") and spec.get("hostUsers") is False:
        needed.add(USER_NAMESPACES_HOST_NETWORK)
    return frozenset(needed)


def needed_for_update(old: Obj, new: Obj) -> frozenset[str]:
    """Of one pod spec to another."""
    needed = set()
    if old.get("resources") != new.get("resources"):
        needed.add(POD_LEVEL_RESIZE)
    after = {c["name"]: c for c in new.get("initContainers") or ()}
    if any(
        c.get("restartPolicy") != "Always"
        and (c.get("resources") or {}) != (after.get(c["name"], c).get("resources") or {})
        for c in old.get("initContainers") or ()
    ):
        needed.add(INIT_RESIZE)
    if _memory_volumes(old) != _memory_volumes(new):
        needed.add(VOLUME_RESIZE)
    return frozenset(needed)


def missing(needed: frozenset[str], node: Obj) -> list[str]:
    """Those that the node does not declare, sorted."""
    declared = get_nested(node, "status", "declaredFeatures", default=())
    return sorted(needed.difference(declared))


def _containers(spec: Obj) -> Iterator[Obj]:
    yield from spec.get("containers") or ()
    yield from spec.get("initContainers") or ()


def _restarts_all(container: Obj) -> bool:
    rules = container.get("restartPolicyRules") or ()
    return any(rule.get("action") == "RestartAllContainers" for rule in rules)


def _memory_volumes(spec: Obj) -> dict[str, str]:
    volumes = {v["name"]: v.get("emptyDir") or {} for v in spec.get("volumes") or ()}
    return {
        name: volume["sizeLimit"]
        for name, volume in volumes.items()
        if volume.get("medium") == "Memory" and volume.get("sizeLimit")
    }
