"""What is known of each node for all pods of a kind: verdicts and scores, column by column.

Pods of a kind are those in which the node-local plugins (``interfaces.NodeLocal``) see no
difference, in practice the pods of one template. An answer is worked out when a cycle first needs
it and holds until the journal (``cache.node_list``) names the node. So a cycle asks the plugins
about the few nodes that changed and does the rest with slices of columns. The outcome is that of
asking every plugin about every node: tests compare the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Hashable, Iterable, Sequence
from itertools import chain, compress, islice
from operator import itemgetter
from typing import Any

from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.cache.node_list import Follower, NodeList
from pilothouse.scheduler.framework.interfaces import (
    CycleState,
    LabelRules,
    NodeLocal,
    ScoreAll,
    Status,
)
from pilothouse.scheduler.framework.pod_info import PodInfo
from pilothouse.scheduler.framework.runtime import Framework

MAX_KINDS = 64
REFUSED, FITS, UNKNOWN = 0, 1, 2
Passes = Callable[[NodeInfo], Status | None]


class Columns:
    """Of one kind of pods."""

    def __init__(self, filters: Sequence[Any]) -> None:
        """``filters``: the node-local ones that run for these pods, in order."""
        self._filters = [(str(p.name), p.filter) for p in filters]
        self._follower = Follower()
        self._verdicts = bytearray()
        self._refusals: dict[int, Status] = {}
        self._sums: list[int | None] = []
        self._scores: dict[str, ScoreColumn] = {}

    def update(self, nodes: NodeList) -> None:
        """Forgets what may have changed."""
        changed = self._follower.news(nodes)
        if changed is None:
            self._verdicts = bytearray([UNKNOWN]) * len(nodes)
            self._sums = [None] * len(nodes)
            for column in self._scores.values():
                column.clear(len(nodes))
            return
        missing = len(nodes) - len(self._verdicts)
        if missing > 0:
            self._verdicts.extend([UNKNOWN] * missing)
            self._sums += [None] * missing
            for column in self._scores.values():
                column.values += [None] * missing
        for index in changed:
            self._verdicts[index] = UNKNOWN
            self._sums[index] = None
            for column in self._scores.values():
                column.forget(index)

    # -- filter --------------------------------------------------------------------------

    def verdict(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        """The first refusal by a node-local plugin."""
        index = node.index
        known = self._verdicts[index]
        if known == FITS:
            return None
        if known == REFUSED:
            return self._refusals[index]
        for name, filter_ in self._filters:
            status = filter_(state, pod, node)
            if status is not None:
                status = self._refusals[index] = Status(status.code, status.reasons, name)
                self._verdicts[index] = REFUSED
                return status
        self._verdicts[index] = FITS
        return None

    def first_that_fit(
        self, state: CycleState, pod: PodInfo, nodes: NodeList, start: int, wanted: int
    ) -> tuple[list[int], int]:
        """(places of the first ``wanted`` nodes that pass, from ``start`` on and around the end;
        how many were looked at)."""
        count = len(nodes)
        verdicts = self._verdicts
        while True:
            turned = verdicts[start:] + verdicts[:start]
            found = list(islice(compress(_around(start, count), turned), wanted))
            seen = count if len(found) < wanted else (found[-1] - start) % count + 1
            unknown = turned.find(UNKNOWN, 0, seen)
            if unknown < 0:
                return found, seen
            refused = False
            while unknown >= 0:
                node = nodes[(start + unknown) % count]
                refused |= self.verdict(state, pod, node) is not None
                unknown = turned.find(UNKNOWN, unknown + 1, seen)
            if not refused:
                return found, seen

    def first_that_pass(
        self,
        state: CycleState,
        pod: PodInfo,
        nodes: NodeList,
        start: int,
        wanted: int,
        others: Others,
    ) -> tuple[list[int], int]:
        """As ``first_that_fit``, with the plugins that look at more than the node."""
        count = len(nodes)
        verdicts, found, seen = self._verdicts, [], 0
        rules, special = others.rules, others.special
        for index in _around(start, count):
            seen += 1
            node = nodes[index]
            if index in special:
                if special[index](node) is not None:
                    continue
            else:
                known = verdicts[index]
                if known != FITS and (
                    known == REFUSED or self.verdict(state, pod, node) is not None
                ):
                    continue
                labels = node.labels
                for key, values, allow in rules:
                    if (labels.get(key) in values) is not allow:
                        break
                else:
                    if others.filters and others.refusal(state, pod, node) is not None:
                        continue
                    found.append(index)
                    if len(found) == wanted:
                        break
                continue
            found.append(index)
            if len(found) == wanted:
                break
        return found, seen

    # -- score ---------------------------------------------------------------------------

    def sums(
        self,
        state: CycleState,
        pod: PodInfo,
        nodes: Sequence[NodeInfo],
        places: Sequence[int],
        scorers: Sequence[tuple[Any, int]],
    ) -> list[int]:
        """Weighted scores of scorers that don't normalize, added up; always the same ones."""
        found = pick(self._sums, places)
        if None in found:
            for at, value in enumerate(found):
                if value is None:
                    node = nodes[at]
                    value = sum(s.score(state, pod, node) * weight for s, weight in scorers)
                    self._sums[node.index] = found[at] = value
        return found

    def raw(
        self,
        scorer: Any,
        state: CycleState,
        pod: PodInfo,
        nodes: Sequence[NodeInfo],
        places: Sequence[int],
    ) -> list[int] | int:
        """A scorer's scores; one number when they are all the same."""
        column = self._scores.get(scorer.name)
        if column is None:
            column = self._scores[scorer.name] = ScoreColumn(len(self._verdicts))
        found = pick(column.values, places)
        if None in found:
            for at, value in enumerate(found):
                if value is None:
                    found[at] = scorer.score(state, pod, nodes[at])
                    column.learn(places[at], found[at])
        return next(iter(column.counts)) if len(column.counts) == 1 else found


class ScoreColumn:
    def __init__(self, count: int) -> None:
        self.values: list[int | None] = []
        self.counts: Counter[int] = Counter()
        """How many nodes have a score, as far as known."""
        self.clear(count)

    def clear(self, count: int) -> None:
        self.values = [None] * count
        self.counts.clear()

    def learn(self, index: int, score: int) -> None:
        self.values[index] = score
        self.counts[score] += 1

    def forget(self, index: int) -> None:
        score, self.values[index] = self.values[index], None
        if score is not None:
            self.counts[score] -= 1
            if not self.counts[score]:
                del self.counts[score]


class Plan:
    """The plugins of one framework by what they look at."""

    def __init__(self, framework: Framework) -> None:
        filters: list[Any] = list(framework.filters)
        scorers: list[Any] = list(framework.scores)
        self.order = {str(p.name): at for at, p in enumerate(filters)}
        self.local_filters = [p for p in filters if _can(p, NodeLocal)]
        self.wide_filters = [p for p in filters if not _can(p, NodeLocal)]
        self.by_labels = {str(p.name) for p in self.wide_filters if _can(p, LabelRules)}
        everything = {id(p): p for p in (*filters, *scorers) if _can(p, NodeLocal)}
        self.local = list(everything.values())
        local = {str(p.name) for p in scorers if _can(p, NodeLocal)}
        weighted = [(p, framework.weights.get(str(p.name), 1)) for p in scorers]
        self.plain = [
            (p, w) for p, w in weighted if p.name in local and not framework.normalizes(p)
        ]
        """Node-local scorers that don't normalize: they are added up once."""
        self.scorers = [
            (p, w, p.name in local, _can(p, ScoreAll), framework.normalizes(p))
            for p, w in weighted
            if p.name not in local or framework.normalizes(p)
        ]
        """(the others, weight, whether node-local, whether for all nodes at once, whether they
        normalize)"""


class Others:
    """The filters in one cycle that look at more than the node, and the nodes that need a closer
    look."""

    def __init__(
        self,
        plan: Plan,
        skipped: Collection[str],
        state: CycleState,
        pod: PodInfo,
        special: dict[int, Passes],
    ) -> None:
        """``special``: by place, the whole verdict."""
        self.skipped = skipped
        self.special = special
        self.rules: list[tuple[str, Collection[str | None], bool]] = []
        self.filters: list[Any] = []
        self._order = plan.order
        self._wide = [p for p in plan.wide_filters if p.name not in skipped]
        for plugin in self._wide:
            if plugin.name in plan.by_labels:
                self.rules += [(r.key, r.values, r.allow) for r in plugin.label_rules(state, pod)]
            else:
                self.filters.append(plugin)

    @property
    def none(self) -> bool:
        return not (self.special or self._wide)

    def refusal(self, state: CycleState, pod: PodInfo, node: NodeInfo) -> Status | None:
        for plugin in self.filters:
            status: Status | None = plugin.filter(state, pod, node)
            if status is not None:
                return status
        return None

    def first_refusal(
        self, state: CycleState, pod: PodInfo, node: NodeInfo, local: Status | None
    ) -> Status | None:
        """Of all filters in order, ``local`` being the first of the node-local ones."""
        until = len(self._order) if local is None else self._order[local.plugin]
        for plugin in self._wide:
            if self._order[plugin.name] > until:
                break
            status = plugin.filter(state, pod, node)
            if status is not None:
                return Status(status.code, status.reasons, plugin.name)
        return local


class Kinds:
    """The columns of the kinds of pods seen last, of one framework."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        self._known: dict[Hashable, Columns] = {}
        self.plan = Plan(framework)

    def others(self, state: CycleState, pod: PodInfo, special: dict[int, Passes]) -> Others:
        return Others(self.plan, self._framework.skipped(state), state, pod, special)

    def columns(self, pod: PodInfo, others: Others, nodes: NodeList) -> Columns:
        """Up to date with ``nodes``."""
        kind = tuple([plugin.fingerprint(pod) for plugin in self.plan.local])
        columns = self._known.pop(kind, None)
        if columns is None:
            # Whether a node-local plugin is skipped is a matter of its fingerprint, too.
            local = self.plan.local_filters
            columns = Columns([p for p in local if p.name not in others.skipped])
        self._known[kind] = columns
        if len(self._known) > MAX_KINDS:
            del self._known[next(iter(self._known))]
        columns.update(nodes)
        return columns

    def totals(
        self, columns: Columns, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> list[int]:
        """The sum of all weighted scores, in the order of ``nodes`` (two at least); what all have
        in common is left out."""
        skipped = self._framework.run_pre_scores(state, pod, nodes)
        places = [node.index for node in nodes]
        plain = [(s, weight) for s, weight in self.plan.plain if s.name not in skipped]
        totals = columns.sums(state, pod, nodes, places, plain) if plain else [0] * len(nodes)
        for scorer, weight, local, for_all, normalizes in self.plan.scorers:
            if scorer.name in skipped:
                continue
            scores: list[int] | int
            if local:
                scores = columns.raw(scorer, state, pod, nodes, places)
            elif for_all:
                scores = scorer.score_all(state, pod, nodes)
            else:
                scores = [scorer.score(state, pod, node) for node in nodes]
            if isinstance(scores, int) or (not any(scores) and (for_all or not normalizes)):
                continue
            if normalizes:
                scorer.normalize(state, pod, scores)
            totals = [a + b * weight for a, b in zip(totals, scores, strict=True)]
        return totals


def _can(plugin: Any, protocol: type) -> bool:
    return isinstance(plugin, protocol)


def pick(column: list[Any], places: Sequence[int]) -> list[Any]:
    """What stands at ``places``."""
    if len(places) < 2:
        return [column[place] for place in places]
    return list(itemgetter(*places)(column))


def _around(start: int, count: int) -> Iterable[int]:
    return chain(range(start, count), range(start))
