"""Why a pod goes to a node and not to the others: every plugin's verdict and score.

The plugins run as in a scheduling cycle, but none is cut short: a node that one plugin has refused
is shown to the others, too. Nothing is written. :func:`explain` is pure;
:func:`explain_in_cluster` fills a scheduler's cache from the API first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.apimachinery.object import Obj, name_of, object_key
from pilothouse.kubeclient.interfaces import Environment
from pilothouse.kubeclient.resources import NODES, PODS
from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.config import SchedulerConfig
from pilothouse.scheduler.event_handlers import TERMINAL
from pilothouse.scheduler.framework.interfaces import Code, CycleState, Status
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.framework.runtime import Diagnosis, Framework


@dataclass(slots=True)
class NodeReport:
    name: str
    refusals: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Reasons by plugin; empty: the pod fits."""
    unresolvable: bool = False
    """Removing pods would not help."""
    scores: dict[str, int] = field(default_factory=dict)
    """By plugin, weighted."""

    @property
    def feasible(self) -> bool:
        return not self.refusals

    @property
    def total(self) -> int:
        return sum(self.scores.values())

    def as_dict(self) -> dict[str, Any]:
        return {
            "node": self.name,
            "feasible": self.feasible,
            "refusals": {plugin: list(reasons) for plugin, reasons in self.refusals.items()},
            "preemptionMayHelp": bool(self.refusals) and not self.unresolvable,
            "scores": self.scores,
            "total": self.total if self.feasible else None,
        }


@dataclass(slots=True)
class Explanation:
    pod: str
    scheduler: str
    current_node: str
    gate: str = ""
    """The plugin that keeps the pod out of the queue."""
    pod_refusal: tuple[str, str] = ("", "")
    """(plugin, reason) of a PreFilter that refused the pod for all nodes."""
    skipped: list[str] = field(default_factory=list)
    """Filters that the pod is no business of."""
    filters: list[str] = field(default_factory=list)
    scorers: list[str] = field(default_factory=list)
    nodes: list[NodeReport] = field(default_factory=list)

    @property
    def best(self) -> list[str]:
        """Nodes with the highest total (one of them would be chosen at random)."""
        feasible = [node for node in self.nodes if node.feasible]
        top = max((node.total for node in feasible), default=0)
        return [node.name for node in feasible if node.total == top]

    def as_dict(self) -> dict[str, Any]:
        plugin, reason = self.pod_refusal
        return {
            "pod": self.pod,
            "schedulerName": self.scheduler,
            "currentNode": self.current_node or None,
            "gatedBy": self.gate or None,
            "refusedForAllNodes": {"plugin": plugin, "reason": reason} if plugin else None,
            "best": self.best,
            "filters": self.filters,
            "skippedFilters": self.skipped,
            "nodes": [node.as_dict() for node in self.nodes],
        }


def explain(framework: Framework, pod: PodInfo, nodes: Sequence[NodeInfo]) -> Explanation:
    """``pod`` is looked at as if it were nowhere yet (if it runs, its own share is set aside)."""
    result = Explanation(pod.key, framework.name, pod.node_name)
    result.gate = framework.gate(pod)
    nodes = [_without(node, pod) for node in nodes]
    state, diagnosis = CycleState(), Diagnosis(len(nodes))
    allowed = framework.run_pre_filters(state, pod, nodes, diagnosis)
    result.skipped = sorted(framework.skipped(state))
    result.filters = [str(p.name) for p in framework.filters if p.name not in result.skipped]  # type: ignore[attr-defined]
    result.nodes = [NodeReport(node.name) for node in nodes]
    if isinstance(allowed, Status):
        plugin = allowed.plugin or ", ".join(sorted(diagnosis.plugins))
        result.pod_refusal = (plugin, diagnosis.pre_filter_message)
        for report in result.nodes:
            _refuse(report, plugin, allowed)
        return result
    for node, report in zip(nodes, result.nodes, strict=True):
        if allowed is not None and node.name not in allowed:
            reason = "node(s) didn't satisfy plugin(s) [NodeAffinity]"
            _refuse(report, "NodeAffinity", Status(Code.UNRESOLVABLE, (reason,)))
        for status in framework.refusals(state, pod, node):
            _refuse(report, status.plugin, status)
    _score(framework, state, pod, nodes, result)
    return result


def _without(node: NodeInfo, pod: PodInfo) -> NodeInfo:
    if pod.uid not in node.pods:
        return node
    other = node.copy()
    other.remove_pod(pod.uid)
    return other


def _refuse(report: NodeReport, plugin: str, status: Status) -> None:
    report.refusals.setdefault(plugin, status.reasons)
    report.unresolvable = report.unresolvable or status.code is Code.UNRESOLVABLE


def _score(
    framework: Framework,
    state: CycleState,
    pod: PodInfo,
    nodes: Sequence[NodeInfo],
    result: Explanation,
) -> None:
    reports = {report.name: report for report in result.nodes}
    feasible = [node for node in nodes if reports[node.name].feasible]
    if not feasible:
        return
    for plugin, scores in framework.run_scores(state, pod, feasible).items():
        result.scorers.append(plugin)
        for node, score in zip(feasible, scores, strict=True):
            reports[node.name].scores[plugin] = score


async def explain_in_cluster(
    env: Environment, config: SchedulerConfig, pod: Obj
) -> tuple[Explanation, list[str]]:
    """Reads the cluster's state: (explanation, notes for the user).

    :raises KeyError: no profile of the configuration is the pod's scheduler.
    """
    from pilothouse.scheduler.scheduler import Scheduler

    scheduler = Scheduler(env, config)
    try:
        await scheduler.load_informers()
        for node in env.informers.informer(NODES).list():
            scheduler.cache.set_node(node)
        for other in env.informers.informer(PODS).list():
            status = other.get("status") or {}
            if other["spec"].get("nodeName") and status.get("phase") not in TERMINAL:
                scheduler.cache.add_pod(PodInfo(other))
        info = PodInfo(_unplaced(pod))
        framework = scheduler.frameworks.of(info)
        explanation = explain(framework, info, scheduler.cache.nodes())
        explanation.current_node = pod["spec"].get("nodeName") or ""
        return explanation, _notes(pod)
    finally:
        await scheduler.stop()


def _unplaced(pod: Obj) -> Obj:
    """As it was before it was bound; the NodeName filter would rule out all other nodes."""
    spec = {key: value for key, value in pod["spec"].items() if key != "nodeName"}
    return {**pod, "spec": spec}


def _notes(pod: Obj) -> list[str]:
    notes = []
    if pod["spec"].get("nodeName"):
        notes.append(
            f"{object_key(pod)} runs on {pod['spec']['nodeName']}; this is how it would be "
            "decided now, without it"
        )
    if pod["metadata"].get("deletionTimestamp"):
        notes.append(f"{name_of(pod)} is being deleted: it will not be scheduled")
    return notes


# For people.


def as_text(explanation: Explanation, notes: Sequence[str] = ()) -> str:
    lines = [f"Pod {explanation.pod} (scheduler {explanation.scheduler})", *notes]
    if explanation.gate:
        lines.append(f"held back by {explanation.gate}: it is not tried at all yet")
    plugin, reason = explanation.pod_refusal
    if plugin:
        lines.append(f"no node will do: {plugin}: {reason}")
    elif explanation.best:
        lines.append(_verdict(explanation))
    else:
        lines.append(f"fits on none of {len(explanation.nodes)} nodes")
    feasible = [n for n in explanation.nodes if n.feasible]
    refused = [n for n in explanation.nodes if not n.feasible]
    if feasible:
        lines += ["", *_score_table(explanation, feasible)]
    if refused and not plugin:
        lines += ["", "Why not the others:"]
        for node in refused:
            hint = "" if node.unresolvable else "  (evicting pods might help)"
            lines.append(f"  {node.name}{hint}")
            lines += [f"    {p}: {', '.join(reasons)}" for p, reasons in node.refusals.items()]
    if explanation.skipped:
        lines += ["", f"Not asked, as the pod gives no reason to: {', '.join(explanation.skipped)}"]
    return "\n".join(lines) + "\n"


def _verdict(explanation: Explanation) -> str:
    best = explanation.best
    feasible = sum(n.feasible for n in explanation.nodes)
    text = f"fits on {feasible} of {len(explanation.nodes)} nodes; "
    if len(best) == 1:
        return text + f"goes to {best[0]}"
    return text + f"goes to one of {', '.join(best)} (equal scores: chosen at random)"


def _score_table(explanation: Explanation, feasible: Sequence[NodeReport]) -> list[str]:
    ordered = sorted(feasible, key=lambda n: (-n.total, n.name))
    header = ["NODE", "TOTAL", *explanation.scorers]
    rows = [
        [n.name, str(n.total), *(str(n.scores.get(s, 0)) for s in explanation.scorers)]
        for n in ordered
    ]
    widths = [max(len(row[i]) for row in [header, *rows]) for i in range(len(header))]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in [header, *rows]
    ]
