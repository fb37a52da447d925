"""Who owns what: the dependency graph of all objects, by uid. Pure.

Events go in (:meth:`Graph.observe`, :meth:`Graph.remove`), :class:`Command` s come out: which
objects may have to be deleted, orphaned or verified. An owner that is referred to but has not
been seen is a *virtual* node: it must be asked for before anything is concluded from its absence.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from pilothouse.apimachinery.object import Obj, meta

ORPHAN_FINALIZER = "orphan"
FOREGROUND_FINALIZER = "foregroundDeletion"


class Identity(NamedTuple):
    api_version: str
    kind: str
    namespace: str
    name: str
    uid: str

    def __str__(self) -> str:
        return (
            f"[{self.api_version}/{self.kind}, namespace: {self.namespace}, "
            f"name: {self.name}, uid: {self.uid}]"
        )


class Node:
    """One object: what the collector needs to know of it."""

    __slots__ = (
        "being_deleted",
        "deleting_dependents",
        "dependents",
        "identity",
        "observed",
        "orphaning",
        "owners",
    )

    def __init__(self, identity: Identity, *, observed: bool) -> None:
        self.identity = identity
        self.observed = observed
        """False: only known from references to it."""
        self.owners: tuple[Obj, ...] = ()
        self.dependents: dict[str, Node] = {}
        self.being_deleted = False
        self.deleting_dependents = False
        """It waits for its dependents to go (foreground deletion)."""
        self.orphaning = False

    def blocking_dependents(self) -> list[Node]:
        """Dependents whose reference holds this object's deletion back."""
        return [
            node
            for node in self.dependents.values()
            if any(
                owner.get("uid") == self.identity.uid and owner.get("blockOwnerDeletion")
                for owner in node.owners
            )
        ]


class Command(NamedTuple):
    """``delete``: look whether it should go. ``orphan``: free its dependents. ``verify``: it is
    virtual, ask whether it exists. ``invalid``: a namespaced owner is not in ``node``'s namespace
    (``owner`` is the reference as an identity)."""

    what: Literal["delete", "orphan", "verify", "invalid"]
    node: Node
    owner: Identity | None = None


@dataclass(slots=True)
class Facts:
    """What is taken from an object."""

    identity: Identity
    owners: tuple[Obj, ...]
    being_deleted: bool
    foreground: bool
    orphan: bool


def facts_of(obj: Obj, api_version: str, kind: str) -> Facts:
    metadata = meta(obj)
    finalizers = metadata.get("finalizers") or ()
    being_deleted = bool(metadata.get("deletionTimestamp"))
    return Facts(
        Identity(
            api_version,
            kind,
            metadata.get("namespace") or "",
            metadata.get("name") or "",
            metadata.get("uid") or "",
        ),
        tuple(metadata.get("ownerReferences") or ()),
        being_deleted,
        being_deleted and FOREGROUND_FINALIZER in finalizers,
        being_deleted and ORPHAN_FINALIZER in finalizers,
    )


class AbsentOwners:
    """Owners that are known not to exist, the last 500."""

    def __init__(self, limit: int = 500) -> None:
        self._limit = limit
        self._known: dict[Identity, None] = {}

    def add(self, identity: Identity) -> None:
        self._known.pop(identity, None)
        self._known[identity] = None
        if len(self._known) > self._limit:
            del self._known[next(iter(self._known))]

    def __contains__(self, identity: Identity) -> bool:
        return identity in self._known


class Graph:
    def __init__(self) -> None:
        self._nodes: dict[str, Node] = {}
        self.absent = AbsentOwners()

    def __len__(self) -> int:
        return len(self._nodes)

    def get(self, uid: str) -> Node | None:
        return self._nodes.get(uid)

    def observe(self, facts: Facts) -> list[Command]:
        """An object was added or changed."""
        commands: list[Command] = []
        node = self._nodes.get(facts.identity.uid)
        if node is None:
            node = self._nodes[facts.identity.uid] = Node(facts.identity, observed=True)
        elif not node.observed:
            if node.identity != facts.identity:
                commands += self._mismatched(node, facts.identity)
                node.identity = facts.identity
            node.observed = True
        if facts.owners != node.owners:
            commands += self._change_owners(node, facts.owners)
        node.being_deleted = node.being_deleted or facts.being_deleted
        commands += self._transitions(node, facts)
        return commands

    def remove(self, identity: Identity, *, virtual: bool = False) -> list[Command]:
        """The object is gone. ``virtual``: nobody saw it go, but the server says that there is
        none with this identity."""
        node = self._nodes.get(identity.uid)
        if node is None:
            return []
        if virtual:
            kept = self._keep_for_others(node, identity)
            if kept is not None:
                return kept
        del self._nodes[identity.uid]
        for owner in node.owners:
            parent = self._nodes.get(owner.get("uid") or "")
            if parent is not None:
                parent.dependents.pop(identity.uid, None)
        if node.dependents:
            self.absent.add(identity)
        commands = [Command("delete", dependent) for dependent in node.dependents.values()]
        for owner in node.owners:
            parent = self._nodes.get(owner.get("uid") or "")
            if parent is not None and parent.deleting_dependents:
                commands.append(Command("delete", parent))
        return commands

    def _keep_for_others(self, node: Node, absent: Identity) -> list[Command] | None:
        """What a virtual deletion means when others know the uid by another identity: only the
        dependents that meant the absent one are affected. None: nobody does."""
        if not node.observed:
            matching, others = self._partition(node, absent)
            if not others:
                return None
            commands = self._doomed(matching, absent)
            if node.identity == absent:
                alternative = _alternative(others, absent)
                if alternative is not None:
                    node.identity = alternative
                    commands.append(Command("verify", node))
            return commands
        if node.identity != absent:
            return self._doomed(self._partition(node, absent)[0], absent)
        return None

    def _doomed(self, dependents: Iterable[Node], absent: Identity) -> list[Command]:
        commands = [Command("delete", dependent) for dependent in dependents]
        if commands:
            self.absent.add(absent)
        return commands

    def _partition(self, node: Node, identity: Identity) -> tuple[list[Node], list[Node]]:
        """Dependents that mean exactly this identity, and those that mean another."""
        matching, others = [], []
        for dependent in node.dependents.values():
            if identity.namespace and identity.namespace != dependent.identity.namespace:
                others.append(dependent)
                continue
            found = [o for o in dependent.owners if o.get("uid") == identity.uid]
            if any(_same_coordinates(owner, identity) for owner in found):
                matching.append(dependent)
            if any(not _same_coordinates(owner, identity) for owner in found):
                others.append(dependent)
        return matching, others

    def _mismatched(self, node: Node, observed: Identity) -> list[Command]:
        """A virtual owner turns out to be something else than some dependents said."""
        commands = []
        for dependent in self._partition(node, observed)[1]:
            if observed.namespace and dependent.identity.namespace != observed.namespace:
                commands += self._invalid(dependent, observed.uid)
            commands.append(Command("delete", dependent))
        return commands

    def _change_owners(self, node: Node, owners: tuple[Obj, ...]) -> list[Command]:
        old = {owner.get("uid"): owner for owner in node.owners}
        new = {owner.get("uid"): owner for owner in owners}
        commands = []
        for uid, owner in old.items():
            now = new.get(uid)
            unblocked = owner.get("blockOwnerDeletion") and not (now or {}).get(
                "blockOwnerDeletion"
            )
            parent = self._nodes.get(uid or "")
            if parent is None:
                continue
            if unblocked:
                commands.append(Command("delete", parent))
            if now is None:
                parent.dependents.pop(node.identity.uid, None)
        node.owners = owners
        added = [owner for uid, owner in new.items() if uid not in old]
        return commands + self._link(node, added)

    def _link(self, node: Node, owners: Iterable[Obj]) -> list[Command]:
        commands: list[Command] = []
        suspicious = False
        for owner in owners:
            uid = owner.get("uid") or ""
            parent = self._nodes.get(uid)
            if parent is None:
                identity = _identity(owner, node.identity.namespace)
                parent = self._nodes[uid] = Node(identity, observed=False)
                commands.append(Command("verify", parent))
            elif not suspicious:
                suspicious, invalid = self._judge(node, owner, parent)
                commands += invalid
            parent.dependents[node.identity.uid] = node
        if suspicious:
            commands.append(Command("delete", node))
        return commands

    def _judge(self, node: Node, owner: Obj, parent: Node) -> tuple[bool, list[Command]]:
        """Whether the reference may not mean the node that has its uid."""
        elsewhere = parent.identity.namespace != node.identity.namespace
        if parent.identity.namespace and elsewhere:
            return True, self._invalid(node, parent.identity.uid) if parent.observed else []
        if not _same_coordinates(owner, parent.identity):
            return True, []
        return elsewhere and not parent.observed, []

    def _invalid(self, node: Node, owner_uid: str) -> list[Command]:
        for owner in node.owners:
            if owner.get("uid") == owner_uid:
                return [Command("invalid", node, _identity(owner, node.identity.namespace))]
        return []

    def _transitions(self, node: Node, facts: Facts) -> list[Command]:
        if facts.orphan:
            if node.orphaning:
                return []
            node.orphaning = True
            return [Command("orphan", node)]
        if facts.foreground and not node.deleting_dependents:
            node.deleting_dependents = True
            dependents = [Command("delete", d) for d in node.dependents.values()]
            return [*dependents, Command("delete", node)]
        return []


def _identity(owner: Obj, namespace: str) -> Identity:
    return Identity(
        owner.get("apiVersion") or "",
        owner.get("kind") or "",
        namespace,
        owner.get("name") or "",
        owner.get("uid") or "",
    )


def _same_coordinates(owner: Obj, identity: Identity) -> bool:
    return (
        owner.get("uid") == identity.uid
        and owner.get("name") == identity.name
        and owner.get("kind") == identity.kind
        and owner.get("apiVersion") == identity.api_version
    )


def _alternative(dependents: Iterable[Node], absent: Identity) -> Identity | None:
    """Another identity that dependents give to the uid: the next one after the absent one."""
    candidates = set()
    for dependent in dependents:
        for owner in dependent.owners:
            if owner.get("uid") != absent.uid:
                continue
            identity = _identity(owner, dependent.identity.namespace)
            same_kind = identity[:2] == absent[:2]
            if not absent.namespace and same_kind:
                identity = identity._replace(namespace="")
            if identity != absent:
                candidates.add(identity)
    ordered = sorted(candidates, key=_order)
    following = [i for i in ordered if _order(i) > _order(absent)]
    return next(iter(following or ordered), None)


def _order(identity: Identity) -> tuple[str, ...]:
    return (
        identity.kind,
        identity.api_version,
        identity.namespace,
        identity.name,
        identity.uid,
    )
