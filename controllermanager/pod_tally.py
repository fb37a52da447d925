"""How many pods each controller object has in which state, kept up to date pod by pod.

A ReplicaSet is looked at after nearly every event of its pods; counting a thousand pods each time
makes a rollout quadratic. The tally changes by one pod an event. Pods are counted by their labels,
too, so that an owner's selector is asked once for all replicas, and may change at any time.
"""

from __future__ import annotations

from collections.abc import Iterator

from pilothouse.apimachinery.object import Obj, controller_of, meta, object_key
from pilothouse.controllermanager import pods as podutil

Labels = tuple[tuple[str, str], ...]


class Group:
    """Pods of one owner with the same labels."""

    __slots__ = ("labels", "other", "ready", "terminating", "unready")

    def __init__(self, labels: dict[str, str] | None) -> None:
        self.labels = labels
        self.ready = 0
        self.unready = 0
        self.terminating = 0
        self.other = 0
        """Pods that have ended."""

    @property
    def active(self) -> int:
        return self.ready + self.unready

    @property
    def total(self) -> int:
        return self.ready + self.unready + self.terminating + self.other


def state_of(pod: Obj) -> str:
    """The counter of :class:`Group` that the pod belongs to."""
    if podutil.is_terminal(pod):
        return "other"
    if podutil.is_deleted(pod):
        return "terminating"
    return "ready" if podutil.is_ready(pod) else "unready"


class PodTally:
    """Follows pods that ``kind`` controls, and those that nobody does. Pure: fed by handlers."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._owners: dict[str, dict[Labels, Group]] = {}
        self._known: dict[str, tuple[str, Labels, str]] = {}

    def groups(self, owner_key: str) -> Iterator[Group]:
        """``owner_key``: as in ``pods.CONTROLLER_INDEX``; a namespace means its orphans."""
        return iter(self._owners.get(owner_key, {}).values())

    def added(self, pod: Obj) -> None:
        key = object_key(pod)
        known = self._known.get(key)
        entry = self._entry(pod)
        if known == entry:
            return
        if known is not None:
            self._drop(key, known)
        if entry is not None:
            self._known[key] = entry
            owner, labels, state = entry
            groups = self._owners.setdefault(owner, {})
            group = groups.get(labels)
            if group is None:
                group = groups[labels] = Group(meta(pod).get("labels"))
            setattr(group, state, getattr(group, state) + 1)

    def updated(self, old: Obj, pod: Obj) -> None:
        self.added(pod)

    def removed(self, pod: Obj) -> None:
        key = object_key(pod)
        known = self._known.get(key)
        if known is not None:
            self._drop(key, known)

    def _entry(self, pod: Obj) -> tuple[str, Labels, str] | None:
        reference = controller_of(pod)
        if reference is not None and reference.get("kind") != self._kind:
            return None
        metadata = meta(pod)
        owner = podutil.controller_index_key(metadata.get("namespace") or "", reference)
        return owner, tuple((metadata.get("labels") or {}).items()), state_of(pod)

    def _drop(self, key: str, known: tuple[str, Labels, str]) -> None:
        del self._known[key]
        owner, labels, state = known
        groups = self._owners[owner]
        group = groups[labels]
        setattr(group, state, getattr(group, state) - 1)
        if not group.total:
            del groups[labels]
            if not groups:
                del self._owners[owner]
