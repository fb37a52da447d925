"""The scheduling framework: what a plugin can be and what it answers.

A plugin implements one or more of the protocols below, does one thing and knows no other
plugin. Points run in upstream's order: PreEnqueue (when a pod enters the queue); PreFilter,
Filter, PostFilter (only when no node is left), PreScore, Score; Reserve, Permit; PreBind, Bind,
PostBind. All but PostFilter, PreBind and Bind are synchronous: they read pod, node and the cycle's
state and change nothing else (Reserve may keep what it has promised).
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

if TYPE_CHECKING:
    from pilothouse.scheduler.cache.node_info import NodeInfo
    from pilothouse.scheduler.framework.events import ClusterEvent, EventRegistration
    from pilothouse.scheduler.framework.pod_info import PodInfo

MAX_NODE_SCORE = 100


class Code(Enum):
    UNSCHEDULABLE = "Unschedulable"
    UNRESOLVABLE = "UnschedulableAndUnresolvable"
    """As Unschedulable, and removing pods from the node would not help (no preemption)."""
    ERROR = "Error"
    SKIP = "Skip"
    """From PreFilter or PreScore: leave this plugin out for this pod."""


class PluginFailure(Exception):
    """From Filter: something is wrong with the pod or what belongs to it. No node is looked at any
    more; the pod is tried again after a back-off."""


@dataclass(frozen=True, slots=True)
class Status:
    """A refusal (success is ``None``). ``plugin`` is filled in by the framework."""

    code: Code
    reasons: tuple[str, ...] = ()
    plugin: str = ""

    @property
    def message(self) -> str:
        return ", ".join(self.reasons)


SKIP = Status(Code.SKIP)


class CycleState(dict[str, Any]):
    """What plugins keep from one point to the next of one pod's cycle; keys are plugin names."""

    def copy(self) -> CycleState:
        """For what-if runs: values that support ``copy`` are copied, others are shared."""
        return CycleState((k, v.copy() if hasattr(v, "copy") else v) for k, v in self.items())


class Plugin(Protocol):
    name: str


@runtime_checkable
class PreEnqueuePlugin(Protocol):
    def pre_enqueue(self, pod: PodInfo) -> Status | None: ...


@runtime_checkable
class PreFilterPlugin(Protocol):
    def pre_filter(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | frozenset[str] | None:
        """None, a Status (SKIP leaves the plugin's Filter out), or the only nodes that count."""
        ...


@runtime_checkable
class FilterPlugin(Protocol):
    def filter(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None: ...


@dataclass(frozen=True, slots=True)
class LabelRule:
    """Whether a node's value of ``key`` (None: it lacks the label) is among ``values`` must be
    ``allow``."""

    key: str
    values: Collection[str | None]
    allow: bool


@runtime_checkable
class NodeLocal(Protocol):
    """A plugin whose Filter and Score (before normalizing) look at nothing but the pod and this
    one node: then the answers are kept for all pods of a kind, until the node changes.
    Normalizing must treat equal scores equally."""

    def fingerprint(self, pod: PodInfo) -> Hashable:
        """All that the plugin reads of the pod."""
        ...


@runtime_checkable
class LabelRules(Protocol):
    """A Filter that, with the cycle's state, is only a matter of some node labels."""

    def label_rules(self, state: CycleState, pod: PodInfo) -> Iterable[LabelRule]:
        """A node passes ``filter`` if it satisfies all of them."""
        ...


@runtime_checkable
class ScoreAll(Protocol):
    """A Score that is cheaper for many nodes at once; as ``score`` of each. Normalizing must leave
    nodes equal that all score 0."""

    def score_all(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> list[int]: ...


@runtime_checkable
class PreFilterExtensions(Protocol):
    """For what-if runs: keeps a PreFilter's state right when pods are added or removed."""

    def add_pod(self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo) -> None: ...

    def remove_pod(
        self, state: CycleState, pod: PodInfo, other: PodInfo, node: NodeInfo
    ) -> None: ...


@runtime_checkable
class PostFilterPlugin(Protocol):
    async def post_filter(
        self, state: CycleState, pod: PodInfo, statuses: dict[str, Status]
    ) -> tuple[str, str]:
        """(nominated node or "", message) when no node passed the filters."""
        ...


@runtime_checkable
class PreScorePlugin(Protocol):
    def pre_score(
        self, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> Status | None: ...


@runtime_checkable
class ScorePlugin(Protocol):
    def score(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> int: ...


@runtime_checkable
class NormalizeScore(Protocol):
    def normalize(self, state: CycleState, pod: PodInfo, scores: list[int]) -> None:
        """Changes ``scores`` in place to 0..MAX_NODE_SCORE."""
        ...


@runtime_checkable
class ReservePlugin(Protocol):
    """Told of the decision before anything is written, and when it is taken back."""

    def reserve(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None: ...

    def unreserve(self, state: CycleState, pod: PodInfo, node_name: str) -> None:
        """Must be safe without a ``reserve`` before."""
        ...


@runtime_checkable
class PermitPlugin(Protocol):
    def permit(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        """The last word before the binding starts."""
        ...


@runtime_checkable
class PreBindPlugin(Protocol):
    async def pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> Status | None:
        """What must be done first (volumes); a Status calls the binding off."""
        ...


@runtime_checkable
class PreBindPreFlight(Protocol):
    def will_pre_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> bool:
        """Whether ``pre_bind`` has something to do, so that the binding may take a while."""
        ...


@runtime_checkable
class PostBindPlugin(Protocol):
    def post_bind(self, state: CycleState, pod: PodInfo, node_name: str) -> None: ...


@runtime_checkable
class BindPlugin(Protocol):
    async def bind(self, pod: PodInfo, node_name: str) -> None:
        """:raises StatusError: the API server refused."""
        ...


@runtime_checkable
class EnqueueExtensions(Protocol):
    """Which cluster events may make a pod schedulable that this plugin has refused."""

    def events_to_register(self) -> Iterable[EventRegistration]: ...


class QueueingHint(Protocol):
    def __call__(self, pod: PodInfo, event: ClusterEvent, old: Any, new: Any) -> bool:
        """True: try the pod again."""
        ...


def default_normalize(scores: list[int], *, reverse: bool = False) -> None:
    """Scales to 0..100 by the largest score (helper.DefaultNormalizeScore)."""
    largest = max(scores, default=0)
    if largest == 0:
        if reverse:
            scores[:] = [MAX_NODE_SCORE] * len(scores)
        return
    for i, score in enumerate(scores):
        scaled = MAX_NODE_SCORE * score // largest
        scores[i] = MAX_NODE_SCORE - scaled if reverse else scaled
