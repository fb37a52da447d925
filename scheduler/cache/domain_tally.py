"""Sums over all nodes by topology domain, kept up to date with the journal instead of being made
anew for each pod.

One tally serves all pods for which every node contributes the same (a plugin's business to know).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable
from typing import Any

from pilothouse.scheduler.cache.node_info import NodeInfo
from pilothouse.scheduler.cache.node_list import Follower, NodeList

Contribution = Iterable[tuple[int, Any, int]]
"""(which counter, domain, amount), at most one for a domain of a counter."""
MAX_TALLIES = 64


class DomainTally:
    """A domain is there as long as a node contributes to it, be it 0."""

    def __init__(self, counters: int, contribute: Callable[[NodeInfo], Contribution]) -> None:
        self.counters: list[Counter[Any]] = [Counter() for _ in range(counters)]
        self._nodes_of: list[Counter[Any]] = [Counter() for _ in range(counters)]
        self._contribute = contribute
        self._by_node: list[tuple[tuple[int, Any, int], ...]] = []
        self._follower = Follower()

    def update(self, nodes: NodeList) -> list[Counter[Any]]:
        """The counters as of now; not to be changed."""
        changed = self._follower.news(nodes)
        if changed is None:
            for counter in (*self.counters, *self._nodes_of):
                counter.clear()
            self._by_node = []
            changed = ()
        for index in range(len(self._by_node), len(nodes)):
            self._by_node.append(())
            self._renew(index, nodes[index])
        for index in set(changed):
            self._renew(index, nodes[index])
        return self.counters

    def _renew(self, index: int, node: NodeInfo) -> None:
        new, old = tuple(self._contribute(node)), self._by_node[index]
        if new == old:
            return
        self._by_node[index] = new
        for at, domain, amount in new:
            self.counters[at][domain] += amount
            self._nodes_of[at][domain] += 1
        for at, domain, amount in old:
            self.counters[at][domain] -= amount
            self._nodes_of[at][domain] -= 1
            if not self._nodes_of[at][domain]:
                del self._nodes_of[at][domain], self.counters[at][domain]


class Tallies:
    """The most recently used ones, by what pods must have in common."""

    def __init__(self) -> None:
        self._known: dict[Hashable, DomainTally] = {}

    def of(self, key: Hashable, make: Callable[[], DomainTally]) -> DomainTally:
        tally = self._known.pop(key, None) or make()
        self._known[key] = tally
        if len(self._known) > MAX_TALLIES:
            del self._known[next(iter(self._known))]
        return tally
