"""The cluster's nodes with a journal of which of them changed, so that those who keep something for
each node (``framework.columns``, ``cache.domain_tally``) look only at what is new.

The journal holds the changed nodes' places in the list, in order. It is cut from time to time:
followers that are too far behind start anew, as they do when places have shifted (a node is gone).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence

from pilothouse.scheduler.cache.node_info import NodeInfo

MIN_KEPT = 8192


class Changes:
    """The journal of one cache, and what is summed up over all its nodes."""

    def __init__(self) -> None:
        self.entries: list[int] = []
        self.start = 0
        """The running number of the first entry."""
        self.layout = 0
        """Grows when nodes get other places."""
        self.images: Counter[str] = Counter()
        """How many nodes hold an image."""
        self.with_affinity: set[int] = set()
        """Places of nodes on which a pod has affinity terms."""
        self._kept = MIN_KEPT

    def note(self, info: NodeInfo) -> None:
        if info.obj is None:
            return
        if info.affinity_pods:
            self.with_affinity.add(info.index)
        else:
            self.with_affinity.discard(info.index)
        self.entries.append(info.index)
        if len(self.entries) > self._kept:
            dropped = len(self.entries) // 2
            del self.entries[:dropped]
            self.start += dropped

    def renumber(self, nodes: Sequence[NodeInfo]) -> None:
        for index, info in enumerate(nodes):
            info.index = index
        self.layout += 1
        self.with_affinity = {info.index for info in nodes if info.affinity_pods}
        self._kept = max(MIN_KEPT, 4 * len(nodes))

    def forget(self, info: NodeInfo) -> None:
        info.index = -1

    def count_images(self, images: Iterable[str], by: int) -> None:
        for name in images:
            left = self.images[name] + by
            if left:
                self.images[name] = left
            else:
                del self.images[name]


class NodeList(list[NodeInfo]):
    """What a scheduling cycle is given; ``node.index`` is the place of each."""

    __slots__ = ("_find", "changes")

    def __init__(
        self, nodes: Iterable[NodeInfo], changes: Changes, find: Callable[[str], NodeInfo | None]
    ) -> None:
        super().__init__(nodes)
        self.changes = changes
        self._find = find

    def find(self, name: str) -> NodeInfo | None:
        return self._find(name)

    @property
    def images(self) -> Mapping[str, int]:
        return self.changes.images


class Follower:
    """How far somebody has read the journal."""

    __slots__ = ("_layout", "_position")

    def __init__(self) -> None:
        self._layout = -1
        self._position = 0

    def news(self, nodes: NodeList) -> Sequence[int] | None:
        """Places that changed since the last call, some more than once; new nodes among them.
        None: all of them may have."""
        changes = nodes.changes
        end = changes.start + len(changes.entries)
        behind, self._position = self._position, end
        if self._layout != changes.layout or behind < changes.start:
            self._layout = changes.layout
            return None
        return changes.entries[behind - changes.start :]
