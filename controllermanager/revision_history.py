"""ControllerRevisions: the templates that a DaemonSet or StatefulSet has had.

:class:`RevisionHistory` finds or makes the revision of the present template and drops old ones;
what is equal and what may go is decided by the pure functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import StatusError, is_already_exists, is_not_found
from pilothouse.apimachinery.hashing import hash_object
from pilothouse.apimachinery.object import (
    Obj,
    copy_object,
    get_nested,
    meta,
    name_of,
    namespace_of,
)
from pilothouse.controllermanager.controller import with_status
from pilothouse.controllermanager.controller_ref import RefManager, controller_reference
from pilothouse.controllermanager.deployment.revisions import same_template
from pilothouse.kubeclient.resources import CONTROLLER_REVISIONS

if TYPE_CHECKING:
    from pilothouse.apimachinery.labels import Selector
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.kubeclient.cache.informer import SharedInformer
    from pilothouse.kubeclient.interfaces import Client

HASH_LABEL = "controller-revision-hash"
"""Of pods, and of a DaemonSet's revisions."""
STATEFUL_SET_HASH_LABEL = "controller.kubernetes.io/hash"
"""Of a StatefulSet's revisions."""


def template_of(revision: Obj) -> Obj:
    template = dict(get_nested(revision, "data", "spec", "template", default={}))
    template.pop("$patch", None)
    return template


def number_of(revision: Obj) -> int:
    return int(revision.get("revision") or 0)


def is_for(revision: Obj, owner: Obj) -> bool:
    """Whether the revision holds the owner's present template."""
    return same_template(template_of(revision), owner["spec"]["template"])


def make_revision(
    owner: Obj, number: int, collision_count: int | None, label: str = HASH_LABEL
) -> Obj:
    template = {**owner["spec"]["template"], "$patch": "replace"}
    hashed = hash_object(owner["spec"]["template"], collision_count)
    labels = dict(get_nested(template, "metadata", "labels", default={}))
    metadata: Obj = {
        "name": f"{name_of(owner)[:223]}-{hashed}",
        "namespace": namespace_of(owner),
        "labels": labels | {label: hashed},
        "ownerReferences": [controller_reference(owner)],
    }
    if meta(owner).get("annotations"):
        metadata["annotations"] = meta(owner)["annotations"]
    return {
        "apiVersion": "apps/v1",
        "kind": "ControllerRevision",
        "metadata": metadata,
        "data": {"spec": {"template": _sorted(template)}},
        "revision": number,
    }


def _sorted(value: Any) -> Any:
    """With keys in order, as Go writes maps: clients compare ``data`` byte by byte."""
    if isinstance(value, dict):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(item) for item in value] if isinstance(value, list) else value


def surplus(revisions: Iterable[Obj], live: set[str], limit: int) -> list[Obj]:
    """The oldest revisions beyond ``limit`` that nobody uses; ``live`` holds names and hashes."""
    unused = [
        revision
        for revision in revisions
        if name_of(revision) not in live
        and (meta(revision).get("labels") or {}).get(HASH_LABEL) not in live
    ]
    unused.sort(key=number_of)
    return unused[: max(0, len(unused) - limit)]


class RevisionHistory:
    """The revisions of the owners of one resource."""

    def __init__(
        self,
        client: Client,
        owner_resource: GroupVersionResource,
        informer: SharedInformer,
        label: str = HASH_LABEL,
    ) -> None:
        self._label = label
        self._client = client
        self._owner_resource = owner_resource
        self._informer = informer

    async def of(self, owner: Obj, selector: Selector) -> list[Obj]:
        """The owner's revisions by number, adopted if need be."""
        references = RefManager(
            self._client, self._owner_resource, owner, selector, CONTROLLER_REVISIONS
        )
        revisions = await references.claim(self._informer.list(namespace_of(owner)))
        return sorted(revisions, key=lambda r: (number_of(r), name_of(r)))

    async def current(self, owner: Obj, revisions: Sequence[Obj]) -> Obj:
        """The revision of the present template, the newest by number; made when there is none.

        :raises StatusError: its name is taken by another template; collisionCount was raised.
        """
        equal = [revision for revision in revisions if is_for(revision, owner)]
        others = [revision for revision in revisions if not is_for(revision, owner)]
        number = max(map(number_of, others), default=0) + 1
        if not equal:
            return await self._create(owner, number)
        newest = max(equal, key=number_of)
        if number_of(newest) >= number:
            return newest
        updated = copy_object(newest)
        updated["revision"] = number
        return await self._client.update(CONTROLLER_REVISIONS, updated)

    async def _create(self, owner: Obj, number: int) -> Obj:
        collisions = get_nested(owner, "status", "collisionCount")
        revision = make_revision(owner, number, collisions, self._label)
        try:
            return await self._client.create(CONTROLLER_REVISIONS, revision, namespace_of(owner))
        except StatusError as error:
            if not is_already_exists(error):
                raise
            existing = await self._client.get(
                CONTROLLER_REVISIONS, name_of(revision), namespace_of(owner)
            )
            if is_for(existing, owner):
                return existing
            status = {**(owner.get("status") or {}), "collisionCount": (collisions or 0) + 1}
            await self._client.update(
                self._owner_resource, with_status(owner, status), subresource="status"
            )
            raise

    async def truncate(self, owner: Obj, revisions: Sequence[Obj], live: set[str]) -> None:
        limit = owner["spec"].get("revisionHistoryLimit")
        for revision in surplus(revisions, live, 10 if limit is None else limit):
            try:
                await self._client.delete(
                    CONTROLLER_REVISIONS, name_of(revision), namespace_of(revision)
                )
            except StatusError as error:
                if not is_not_found(error):
                    raise
