"""What is known of each node for all pods of a kind: verdicts and scores, column by column.

Pods of a kind are those in which the node-local plugins (``interfaces.NodeLocal``) see no
difference, in practice the pods of one template. An answer is worked out when a cycle first needs
it and holds until the journal (``cache.node_list``) names the node. So a cycle asks the plugins
about the few nodes that changed and does the rest with slices of columns. The outcome is that of
asking every plugin about every node: tests compare the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain, compress, islice
from typing import Any

from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.cache.node_list import Follower, NodeList
from pilothouse.scheduler.framework.interfaces import (
    CycleState,
    LabelRule,
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
        scorers: Sequence[tuple[Any, int]],
    ) -> list[int]:
        """Weighted scores of scorers that don't normalize, added up; always the same ones."""
        sums = self._sums
        found = [sums[node.index] for node in nodes]
        if None in found:
            for at, value in enumerate(found):
                if value is None:
                    node = nodes[at]
                    value = sum(s.score(state, pod, node) * weight for s, weight in scorers)
                    sums[node.index] = found[at] = value
        return found  # type: ignore[return-value]

    def raw(
        self, name: str, scorer: Any, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> list[int] | int:
        """A scorer's scores; one number when they are all the same."""
        column = self._scores.get(name)
        if column is None:
            column = self._scores[name] = ScoreColumn(len(self._verdicts))
        values = column.values
        if column.unknown:
            for node in nodes:
                if values[node.index] is None:
                    column.learn(node.index, scorer.score(state, pod, node))
        if len(column.counts) == 1:
            return next(iter(column.counts))
        return [values[node.index] for node in nodes]  # type: ignore[misc]


class ScoreColumn:
    def __init__(self, count: int) -> None:
        self.values: list[int | None] = []
        self.counts: Counter[int] = Counter()
        """How many nodes have a score, as far as known."""
        self.clear(count)

    def clear(self, count: int) -> None:
        self.values = [None] * count
        self.counts.clear()

    @property
    def unknown(self) -> bool:
        return self.counts.total() < len(self.values)

    def learn(self, index: int, score: int) -> None:
        self.values[index] = score
        self.counts[score] += 1

    def forget(self, index: int) -> None:
        score, self.values[index] = self.values[index], None
        if score is not None:
            self.counts[score] -= 1
            if not self.counts[score]:
                del self.counts[score]


class Others:
    """The rest of the filters in one cycle, and the nodes that need a closer look."""

    def __init__(
        self,
        framework: Framework,
        state: CycleState,
        pod: PodInfo,
        special: dict[int, Passes],
    ) -> None:
        """``special``: by place, the whole verdict."""
        skipped = framework.skipped(state)
        active = [p for p in framework.filters if str(p.name) not in skipped]  # type: ignore[attr-defined]
        self.local = [p for p in active if isinstance(p, NodeLocal)]
        self.special = special
        self.rules: list[tuple[str, Any, bool]] = []
        self.filters: list[Any] = []
        self._wide = [(str(p.name), p) for p in active if not isinstance(p, NodeLocal)]  # type: ignore[attr-defined]
        self._order = {str(p.name): at for at, p in enumerate(active)}  # type: ignore[attr-defined]
        for _, plugin in self._wide:
            if isinstance(plugin, LabelRules):
                self.rules += [_as_tuple(rule) for rule in plugin.label_rules(state, pod)]
            else:
                self.filters.append(plugin)

    @property
    def none(self) -> bool:
        return not (self.special or self.rules or self.filters)

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
        for name, plugin in self._wide:
            if self._order[name] > until:
                break
            status = plugin.filter(state, pod, node)
            if status is not None:
                return Status(status.code, status.reasons, name)
        return local


class Kinds:
    """The columns of the kinds of pods seen last, of one framework."""

    def __init__(self, framework: Framework) -> None:
        self._framework = framework
        plugins = (*framework.filters, *framework.scores)
        self._local = list({id(p): p for p in plugins if isinstance(p, NodeLocal)}.values())
        self._known: dict[Hashable, Columns] = {}
        local: list[Any] = [s for s in framework.scores if isinstance(s, NodeLocal)]
        self._plain = [
            (s, framework.weights.get(str(s.name), 1)) for s in local if not framework.normalizes(s)
        ]

    def columns(self, pod: PodInfo, others: Others, nodes: NodeList) -> Columns:
        """Up to date with ``nodes``."""
        kind = tuple(plugin.fingerprint(pod) for plugin in self._local)
        columns = self._known.pop(kind, None) or Columns(others.local)
        self._known[kind] = columns
        if len(self._known) > MAX_KINDS:
            del self._known[next(iter(self._known))]
        columns.update(nodes)
        return columns

    def totals(
        self, columns: Columns, state: CycleState, pod: PodInfo, nodes: Sequence[NodeInfo]
    ) -> list[int]:
        """The sum of all weighted scores, in the order of ``nodes``."""
        framework = self._framework
        skipped = framework.run_pre_scores(state, pod, nodes)
        plain = [(s, weight) for s, weight in self._plain if s.name not in skipped]
        totals = columns.sums(state, pod, nodes, plain) if plain else [0] * len(nodes)
        constant = 0
        for scorer in framework.scores:
            name: str = scorer.name  # type: ignore[attr-defined]
            local, normalizes = isinstance(scorer, NodeLocal), framework.normalizes(scorer)
            if name in skipped or (local and not normalizes):
                continue
            raw: list[int] | int
            if local:
                raw = columns.raw(name, scorer, state, pod, nodes)
            elif isinstance(scorer, ScoreAll):
                raw = scorer.score_all(state, pod, nodes)
            else:
                raw = [scorer.score(state, pod, node) for node in nodes]
            scores = [raw] if isinstance(raw, int) else raw
            if not normalizes and not any(scores):
                continue
            if normalizes:
                scorer.normalize(state, pod, scores)  # type: ignore[attr-defined]
            weight = framework.weights.get(name, 1)
            if isinstance(raw, int):
                constant += scores[0] * weight
            else:
                totals = [a + b * weight for a, b in zip(totals, scores, strict=True)]
        return [total + constant for total in totals] if constant else totals


def _around(start: int, count: int) -> Iterable[int]:
    return chain(range(start, count), range(start))


def _as_tuple(rule: LabelRule) -> tuple[str, Any, bool]:
    return rule.key, rule.values, rule.allow
