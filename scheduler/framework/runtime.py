"""Runs the plugins at each point; everything here is synchronous and pure but for Bind.

The methods' results are collected in :class:`Diagnosis` for events, preemption and queueing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.framework.events import ClusterEvent, EventRegistration
from pilothouse.scheduler.framework.interfaces import (
    BindPlugin,
    Code,
    CycleState,
    EnqueueExtensions,
    FilterPlugin,
    NormalizeScore,
    PermitPlugin,
    PluginFailure,
    PostBindPlugin,
    PostFilterPlugin,
    PreBindPlugin,
    PreBindPreFlight,
    PreEnqueuePlugin,
    PreFilterExtensions,
    PreFilterPlugin,
    PreScorePlugin,
    ReservePlugin,
    ScorePlugin,
    Status,
)
from pilothouse.scheduler.framework.pod_info import PodInfo

SKIPPED_FILTERS = "framework/skipped filters"
POINTS: dict[str, type] = {
    "preEnqueue": PreEnqueuePlugin,
    "preFilter": PreFilterPlugin,
    "filter": FilterPlugin,
    "postFilter": PostFilterPlugin,
    "preScore": PreScorePlugin,
    "score": ScorePlugin,
    "reserve": ReservePlugin,
    "permit": PermitPlugin,
    "preBind": PreBindPlugin,
    "bind": BindPlugin,
    "postBind": PostBindPlugin,
}
"""Extension points by their names in a KubeSchedulerConfiguration."""


@dataclass(slots=True)
class Diagnosis:
    """Why a pod did not fit: by node, and which plugins refused it."""

    all_nodes: int
    statuses: dict[str, Status] = field(default_factory=dict)
    pre_filter_message: str = ""
    post_filter_message: str = ""
    plugins: set[str] = field(default_factory=set)

    def message(self) -> str:
        """``0/3 nodes are available: 1 Insufficient cpu, 2 …. preemption: …`` (FitError.Error)."""
        text = f"0/{self.all_nodes} nodes are available:"
        if self.pre_filter_message:
            text += f" {self.pre_filter_message}."
        else:
            counts: dict[str, int] = {}
            for status in self.statuses.values():
                for reason in status.reasons:
                    counts[reason] = counts.get(reason, 0) + 1
            if counts:
                text += f" {', '.join(sorted(f'{n} {reason}' for reason, n in counts.items()))}."
        if self.post_filter_message:
            text += f" {self.post_filter_message}"
        return text


class Framework:
    """One profile: the plugins of a scheduler, sorted by the points they implement."""

    def __init__(
        self,
        plugins: Sequence[Any],
        weights: dict[str, int],
        points: Mapping[str, Sequence[str]] | None = None,
        name: str = "default-scheduler",
    ) -> None:
        """``points``: which plugins run at an extension point, in order; all that can by
        default. ``name``: the profile's, that pods choose by ``schedulerName``."""
        by_name = {str(p.name): p for p in plugins}

        def at(point: str) -> list[Any]:
            protocol = POINTS[point]
            if points is None:
                return [p for p in plugins if isinstance(p, protocol)]
            chosen = (by_name[n] for n in points.get(point, ()))
            return [p for p in chosen if isinstance(p, protocol)]

        self.name = name
        self.plugins = list(plugins)
        self.pre_enqueue: list[PreEnqueuePlugin] = at("preEnqueue")
        self.pre_filters: list[PreFilterPlugin] = at("preFilter")
        self.filters: list[FilterPlugin] = at("filter")
        self.post_filters: list[PostFilterPlugin] = at("postFilter")
        self.pre_scores: list[PreScorePlugin] = at("preScore")
        self.scores: list[ScorePlugin] = at("score")
        self.reserves: list[ReservePlugin] = at("reserve")
        self.permits: list[PermitPlugin] = at("permit")
        self.pre_binds: list[PreBindPlugin] = at("preBind")
        self.post_binds: list[PostBindPlugin] = at("postBind")
        self._normalizers = {id(p) for p in self.scores if isinstance(p, NormalizeScore)}
        self.extensions = [p for p in self.pre_filters if isinstance(p, PreFilterExtensions)]
        self.binder: BindPlugin = at("bind")[0]
        self.weights = weights
        self._events: dict[str, tuple[EventRegistration, ...]] = {
            str(plugin.name): tuple(plugin.events_to_register())
            for plugin in plugins
            if isinstance(plugin, EnqueueExtensions) and hasattr(plugin, "name")
        }

    # -- queueing ------------------------------------------------------------------------

    def gate(self, pod: PodInfo) -> str:
        """The PreEnqueue plugin that holds the pod back, or ''."""
        for plugin in self.pre_enqueue:
            if plugin.pre_enqueue(pod) is not None:
                return str(plugin.name)  # type: ignore[attr-defined]
        return ""

    def registered_resources(self) -> set[str]:
        """Kinds whose events some plugin wants to hear of."""
        return {r.resource for registrations in self._events.values() for r in registrations}

    def may_help(
        self, plugins: frozenset[str], pod: PodInfo, event: ClusterEvent, old: Any, new: Any
    ) -> bool:
        """Whether the event may satisfy one of the plugins that refused the pod. A plugin that
        registered for nothing is retried at every event; so is a pod refused by an error."""
        if not plugins:
            return True
        for name in plugins:
            registrations = self._events.get(name)
            if registrations is None:
                return True
            for registration in registrations:
                if registration.matches(event) and (
                    registration.hint is None or registration.hint(pod, old, new)
                ):
                    return True
        return False

    # -- filtering -----------------------------------------------------------------------

    def run_pre_filters(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo], diagnosis: Diagnosis
    ) -> frozenset[str] | Status | None:
        """None: all nodes count; names: only those; a Status: no node will do."""
        skipped: set[str] = set()
        allowed: frozenset[str] | None = None
        restricted_by: list[str] = []
        for plugin in self.pre_filters:
            name = plugin.name  # type: ignore[attr-defined]
            result = plugin.pre_filter(state, pod, nodes)
            if isinstance(result, Status):
                if result.code is Code.SKIP:
                    skipped.add(name)
                    continue
                diagnosis.plugins.add(name)
                diagnosis.pre_filter_message = result.message
                return result
            if result is not None:
                restricted_by.append(name)
                allowed = result if allowed is None else allowed & result
                if not allowed:
                    return self._nothing_allowed(restricted_by, diagnosis)
        state[SKIPPED_FILTERS] = skipped
        return allowed

    @staticmethod
    def _nothing_allowed(restricted_by: list[str], diagnosis: Diagnosis) -> Status:
        if len(restricted_by) == 1:
            text = "node(s) didn't satisfy plugin {}"
        else:
            text = "node(s) didn't satisfy plugin(s) {} simultaneously"
        shown = f"[{' '.join(restricted_by)}]" if len(restricted_by) > 1 else restricted_by[0]
        diagnosis.plugins.update(restricted_by)
        diagnosis.pre_filter_message = text.format(shown)
        return Status(Code.UNRESOLVABLE, (diagnosis.pre_filter_message,))

    def run_filters(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        """The first refusal, with its plugin's name."""
        skipped = state.get(SKIPPED_FILTERS, ())
        for plugin in self.filters:
            name = plugin.name  # type: ignore[attr-defined]
            if name in skipped:
                continue
            status = plugin.filter(state, pod, node)
            if status is not None:
                return Status(status.code, status.reasons, name)
        return None

    def skipped(self, state: CycleState) -> set[str]:
        """Filters that their PreFilter has switched off for this pod."""
        return set(state.get(SKIPPED_FILTERS, ()))

    def refusals(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> list[Status]:
        """Every filter's refusal, for explanations: none is spared because another refused."""
        skipped = state.get(SKIPPED_FILTERS, ())
        found = []
        for plugin in self.filters:
            name = plugin.name  # type: ignore[attr-defined]
            try:
                status = None if name in skipped else plugin.filter(state, pod, node)
            except PluginFailure as error:
                status = Status(Code.ERROR, (str(error),))
            if status is not None:
                found.append(Status(status.code, status.reasons, name))
        return found

    def add_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        """What-if: ``other`` joins ``node``."""
        node.add_pod(other)
        for plugin in self.extensions:
            plugin.add_pod(state, pod, other, node)

    def remove_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None:
        """What-if: ``other`` leaves ``node``."""
        node.remove_pod(other.uid)
        for plugin in self.extensions:
            plugin.remove_pod(state, pod, other, node)

    # -- reserving and binding ------------------------------------------------------------

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        """Reserve, then Permit; a refusal takes all of it back."""
        for plugin in self.reserves:
            status = plugin.reserve(state, pod, node_name)
            if status is not None:
                self.unreserve(state, pod, node_name)
                return _named(status, plugin, "Reserve")
        for permit in self.permits:
            status = permit.permit(state, pod, node_name)
            if status is not None:
                self.unreserve(state, pod, node_name)
                return _named(status, permit, "Permit")
        return None

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        for plugin in reversed(self.reserves):
            plugin.unreserve(state, pod, node_name)

    def will_pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> bool:
        """Whether any plugin has to do something before the pod is bound."""
        return any(
            isinstance(plugin, PreBindPreFlight) and plugin.will_pre_bind(state, pod, node_name)
            for plugin in self.pre_binds
        )

    async def pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        for plugin in self.pre_binds:
            status = await plugin.pre_bind(state, pod, node_name)
            if status is not None:
                return _named(status, plugin, "PreBind")
        return None

    def post_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        for plugin in self.post_binds:
            plugin.post_bind(state, pod, node_name)

    # -- scoring -------------------------------------------------------------------------

    def run_scores(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> dict[str, list[int]]:
        """Weighted scores by plugin, in the order of ``nodes``."""
        skipped = self.run_pre_scores(state, pod, nodes)
        result: dict[str, list[int]] = {}
        for scorer in self.scores:
            name: str = scorer.name  # type: ignore[attr-defined]
            if name in skipped:
                continue
            scores = [scorer.score(state, pod, node) for node in nodes]
            if self.normalizes(scorer):
                scorer.normalize(state, pod, scores)  # type: ignore[attr-defined]
            weight = self.weights.get(name, 1)
            result[name] = [score * weight for score in scores]
        return result

    def run_pre_scores(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> set[str]:
        """The plugins that are not to score."""
        skipped = set()
        for plugin in self.pre_scores:
            status = plugin.pre_score(state, pod, nodes)
            if status is not None and status.code is Code.SKIP:
                skipped.add(str(plugin.name))  # type: ignore[attr-defined]
        return skipped

    def normalizes(self, scorer: ScorePlugin) -> bool:
        return id(scorer) in self._normalizers


def _named(status: Status, plugin: Any, point: str) -> Status:
    """With the plugin's name; an error says at which point it happened."""
    reasons = status.reasons
    if status.code is Code.ERROR:
        reasons = (f'running {point} plugin "{plugin.name}": {status.message}',)
    return Status(status.code, reasons, plugin.name)
