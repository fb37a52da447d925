"""The profiles of one scheduler, each with a framework and an algorithm of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pilothouse.scheduler.framework.events import ClusterEvent
from pilothouse.scheduler.framework.handle import Handle
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.framework.runtime import POINTS, Framework
from pilothouse.scheduler.plugins.registry import make_plugin
from pilothouse.scheduler.profile import DEFAULT_NAME, Profile, Resolved, resolve


def make_framework(profile: Profile, handle: Handle) -> Framework:
    """:raises ValueError: the profile cannot work."""
    resolved = resolve(profile)
    plugins = [
        make_plugin(name, handle, profile.arguments.get(name) or {}) for name in resolved.names
    ]
    return Framework(plugins, resolved.weights, _points(resolved, plugins), profile.scheduler_name)


def _points(resolved: Resolved, plugins: Sequence[Any]) -> dict[str, list[str]]:
    return {
        point: resolved.at(point, [str(p.name) for p in plugins if _can(p, protocol)])
        for point, protocol in POINTS.items()
    }


def _can(plugin: Any, protocol: type) -> bool:
    return isinstance(plugin, protocol)


class Frameworks(Mapping[str, Framework]):
    """By scheduler name."""

    def __init__(self, profiles: Sequence[Profile], handle: Handle) -> None:
        self._by_name = {p.scheduler_name: make_framework(p, handle) for p in profiles}

    def __getitem__(self, name: str) -> Framework:
        return self._by_name[name]

    def __iter__(self) -> Any:
        return iter(self._by_name)

    def __len__(self) -> int:
        return len(self._by_name)

    def of(self, pod: PodInfo) -> Framework:
        """The framework of the pod's profile. :raises KeyError: another scheduler's pod."""
        return self._by_name[pod.obj["spec"].get("schedulerName") or DEFAULT_NAME]

    # What the queue asks.

    def gate(self, pod: PodInfo) -> str:
        return self.of(pod).gate(pod)

    def may_help(
        self, plugins: frozenset[str], pod: PodInfo, event: ClusterEvent, old: Any, new: Any
    ) -> bool:
        return self.of(pod).may_help(plugins, pod, event, old, new)

    def resources(self) -> set[str]:
        """Kinds, besides pods and nodes, that some plugin has registered for."""
        found = {r for framework in self.values() for r in framework.registered_resources()}
        return found - {"Pod", "AssignedPod", "Node", "*"}
