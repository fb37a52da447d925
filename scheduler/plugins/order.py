"""The default plugins in the order in which they run, with their score weights.

Order matters: cheap filters that refuse often come first; upstream's default profile has the same
order (pkg/scheduler/apis/config/v1/default_plugins.go).
"""

from __future__ import annotations

from typing import Any

from pilothouse.kubeclient.interfaces import Client
from pilothouse.scheduler.framework.affinity_terms import NamespaceLabels
from pilothouse.scheduler.plugins.balanced_allocation import BalancedAllocation
from pilothouse.scheduler.plugins.default_binder import DefaultBinder
from pilothouse.scheduler.plugins.image_locality import ImageLocality
from pilothouse.scheduler.plugins.inter_pod_affinity import InterPodAffinity
from pilothouse.scheduler.plugins.node_affinity import NodeAffinity
from pilothouse.scheduler.plugins.node_name import NodeName
from pilothouse.scheduler.plugins.node_ports import NodePorts
from pilothouse.scheduler.plugins.node_unschedulable import NodeUnschedulable
from pilothouse.scheduler.plugins.priority_sort import PrioritySort
from pilothouse.scheduler.plugins.resources_fit import ResourcesFit
from pilothouse.scheduler.plugins.scheduling_gates import SchedulingGates
from pilothouse.scheduler.plugins.taint_toleration import TaintToleration
from pilothouse.scheduler.plugins.topology_spread import PodTopologySpread

SCORE_WEIGHTS = {
    "TaintToleration": 3,
    "NodeAffinity": 2,
    "PodTopologySpread": 2,
    "InterPodAffinity": 2,
    "NodeResourcesFit": 1,
    "NodeResourcesBalancedAllocation": 1,
    "ImageLocality": 1,
}


def default_plugins(client: Client, namespace_labels: NamespaceLabels) -> list[Any]:
    """New instances for one scheduler."""
    return [
        SchedulingGates(),
        PrioritySort(),
        NodeUnschedulable(),
        NodeName(),
        TaintToleration(),
        NodeAffinity(),
        NodePorts(),
        ResourcesFit(),
        PodTopologySpread(),
        InterPodAffinity(namespace_labels),
        BalancedAllocation(),
        ImageLocality(),
        DefaultBinder(client),
    ]
