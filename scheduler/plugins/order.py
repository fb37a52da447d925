"""The default plugins in the order in which they run, with their score weights.

Order matters: cheap filters that refuse often come first; upstream's default profile has the same
order (pkg/scheduler/apis/config/v1/default_plugins.go).
"""

from __future__ import annotations

DEFAULT_PLUGINS: tuple[tuple[str, int], ...] = (
    ("SchedulingGates", 0),
    ("PrioritySort", 0),
    ("NodeName", 0),
    ("NodeUnschedulable", 0),
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodePorts", 0),
    ("NodeResourcesFit", 1),
    ("VolumeRestrictions", 0),
    ("NodeVolumeLimits", 0),
    ("VolumeBinding", 0),
    ("VolumeZone", 0),
    ("PodTopologySpread", 2),
    ("InterPodAffinity", 2),
    ("DynamicResources", 2),
    ("DefaultPreemption", 0),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
    ("DefaultBinder", 0),
    ("NodeDeclaredFeatures", 0),
)
SCORING = frozenset(name for name, weight in DEFAULT_PLUGINS if weight)
NEEDED = {"queueSort": "PrioritySort", "bind": "DefaultBinder"}
"""Points at which there must be a plugin, with the default one."""
