"""How each plugin is made: by name, from a handle and its arguments.

Modules are imported when a profile wants their plugin. Names that are not known here are looked
up among the installed distributions' entry points of the group ``pilothouse.scheduler_plugins``: a
callable ``(handle, args) -> plugin``, usually the plugin's class.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pilothouse.scheduler.framework.handle import Handle

ENTRY_POINTS = "pilothouse.scheduler_plugins"
Factory = Callable[[Handle, Mapping[str, Any]], Any]

_MODULES = {
    "SchedulingGates": "scheduling_gates",
    "PrioritySort": "priority_sort",
    "NodeName": "node_name",
    "NodeUnschedulable": "node_unschedulable",
    "TaintToleration": "taint_toleration",
    "NodeAffinity": "node_affinity",
    "NodePorts": "node_ports",
    "NodeResourcesFit": "resources_fit",
    "VolumeRestrictions": "volume_restrictions",
    "NodeVolumeLimits": "volume_limits",
    "VolumeBinding": "volume_binding",
    "VolumeZone": "volume_zone",
    "PodTopologySpread": "topology_spread",
    "InterPodAffinity": "inter_pod_affinity",
    "DynamicResources": "dynamic_resources",
    "DefaultPreemption": "default_preemption",
    "NodeResourcesBalancedAllocation": "balanced_allocation",
    "ImageLocality": "image_locality",
    "DefaultBinder": "default_binder",
    "NodeDeclaredFeatures": "node_declared_features",
}
_CLASSES = {
    "NodeResourcesFit": "ResourcesFit",
    "NodeResourcesBalancedAllocation": "BalancedAllocation",
}


def _factories(handle: Handle, args: Mapping[str, Any]) -> dict[str, Callable[[Any], Any]]:
    """Those that need more than nothing: class -> instance."""
    return {
        "NodeAffinity": lambda cls: cls(args.get("addedAffinity")),
        "NodeResourcesFit": lambda cls: cls.from_args(args, handle),
        "NodeResourcesBalancedAllocation": lambda cls: cls.from_args(args),
        "VolumeRestrictions": lambda cls: cls(handle),
        "NodeVolumeLimits": lambda cls: cls(handle),
        "VolumeZone": lambda cls: cls(handle),
        "DynamicResources": lambda cls: cls(handle, _seconds(args.get("bindingTimeout"), 600)),
        "VolumeBinding": lambda cls: cls(
            handle, args.get("bindTimeoutSeconds", 600), _shape(args.get("shape"))
        ),
        "PodTopologySpread": lambda cls: cls.from_args(handle, args),
        "InterPodAffinity": lambda cls: cls(
            handle.namespace_labels,
            args.get("hardPodAffinityWeight", 1),
            bool(args.get("ignorePreferredTermsOfExistingPods")),
            handle.nodes,
            lambda: handle.namespaces_version,
        ),
        "ImageLocality": lambda cls: cls(handle.nodes),
        "DefaultPreemption": lambda cls: cls(
            args.get("minCandidateNodesPercentage", 10), args.get("minCandidateNodesAbsolute", 100)
        ),
        "DefaultBinder": lambda cls: cls(handle.client),
    }


def _seconds(text: str | None, default: float) -> float:
    from pilothouse.apimachinery.timefmt import parse_duration

    return default if text is None else parse_duration(text)


def _shape(points: Sequence[Any] | None) -> Sequence[tuple[int, int]]:
    if not points:
        return ((0, 100), (100, 0))
    return [(p.get("utilization", 0), p.get("score", 0) * 10) for p in points]


class UnknownPlugin(ValueError):
    pass


def make_plugin(name: str, handle: Handle, args: Mapping[str, Any]) -> Any:
    """A new instance. :raises UnknownPlugin: nobody provides the name."""
    module = _MODULES.get(name)
    if module is None:
        plugin = outside_factory(name)(handle, args)
        if getattr(plugin, "name", None) != name:
            raise UnknownPlugin(f'the entry point "{name}" makes a plugin of another name')
        return plugin
    loaded = importlib.import_module(f"pilothouse.scheduler.plugins.{module}")
    cls = getattr(loaded, _CLASSES.get(name, name))
    factory = _factories(handle, args).get(name)
    return cls() if factory is None else factory(cls)


def outside_factory(name: str) -> Factory:
    """From the installed distributions. :raises UnknownPlugin: none has it."""
    from importlib.metadata import entry_points

    for entry in entry_points(group=ENTRY_POINTS, name=name):
        factory: Factory = entry.load()
        return factory
    raise UnknownPlugin(f'plugin "{name}" does not exist')
