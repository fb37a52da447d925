"""Who controls what: owner references, adoption and release (controller_ref_manager).

:func:`sort_out` is the pure decision; :class:`RefManager` carries it out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import StatusError, is_invalid, is_not_found
from pilothouse.apimachinery.object import Obj, controller_of, meta, name_of, namespace_of, uid_of
from pilothouse.controllermanager.controller import SyncError

if TYPE_CHECKING:
    from pilothouse.apimachinery.labels import Selector
    from pilothouse.apimachinery.schema import GroupVersionResource
    from pilothouse.kubeclient.interfaces import Client, PatchType

STRATEGIC: PatchType = "application/strategic-merge-patch+json"


def controller_reference(owner: Obj) -> Obj:
    """metav1.NewControllerRef"""
    return {
        "apiVersion": owner["apiVersion"],
        "kind": owner["kind"],
        "name": name_of(owner),
        "uid": uid_of(owner),
        "controller": True,
        "blockOwnerDeletion": True,
    }


def is_controlled_by(obj: Obj, owner: Obj) -> bool:
    reference = controller_of(obj)
    return reference is not None and reference.get("uid") == uid_of(owner)


@dataclass(frozen=True, slots=True)
class Claims:
    owned: list[Obj]
    adopt: list[Obj]
    release: list[Obj]


def sort_out(owner: Obj, selector: Selector, objects: Sequence[Obj]) -> Claims:
    """What of ``objects`` is the owner's, should become it, or should no longer be."""
    claims = Claims([], [], [])
    going = bool(meta(owner).get("deletionTimestamp"))
    for obj in objects:
        reference = controller_of(obj)
        matches = selector.matches(meta(obj).get("labels"))
        if reference is not None:
            if reference.get("uid") != uid_of(owner):
                continue
            if matches:
                claims.owned.append(obj)
            elif not going:
                claims.release.append(obj)
        elif matches and not going and not meta(obj).get("deletionTimestamp"):
            if namespace_of(obj) == namespace_of(owner):
                claims.adopt.append(obj)
    return claims


class RefManager:
    """Claims objects of one resource for one owner."""

    def __init__(
        self,
        client: Client,
        owner_resource: GroupVersionResource,
        owner: Obj,
        selector: Selector,
        resource: GroupVersionResource,
    ) -> None:
        self._client = client
        self._owner_resource = owner_resource
        self._owner = owner
        self._selector = selector
        self._resource = resource

    async def claim(self, objects: Sequence[Obj]) -> list[Obj]:
        """The owner's objects, after adoptions and releases."""
        claims = sort_out(self._owner, self._selector, objects)
        owned = list(claims.owned)
        if claims.adopt:
            await self._check_can_adopt()
        for obj in claims.adopt:
            if await self._adopt(obj):
                owned.append(obj)
        for obj in claims.release:
            await self._release(obj)
        return owned

    async def _check_can_adopt(self) -> None:
        """The owner must still live on the server, not only in our cache."""
        owner = self._owner
        fresh = await self._client.get(self._owner_resource, name_of(owner), namespace_of(owner))
        where = f"{namespace_of(owner)}/{name_of(owner)}"
        if uid_of(fresh) != uid_of(owner):
            raise SyncError(
                f"original {owner['kind']} {where} is gone: got uid {uid_of(fresh)}, "
                f"wanted {uid_of(owner)}"
            )
        if meta(fresh).get("deletionTimestamp"):
            raise SyncError(
                f"can't adopt: {where} has just been deleted at {meta(fresh)['deletionTimestamp']}"
            )

    async def _adopt(self, obj: Obj) -> bool:
        reference = controller_reference(self._owner)
        patch = {"metadata": {"ownerReferences": [reference], "uid": uid_of(obj)}}
        try:
            await self._patch(obj, patch)
        except StatusError as error:
            if is_not_found(error):
                return False
            raise
        return True

    async def _release(self, obj: Obj) -> None:
        gone = {"$patch": "delete", "uid": uid_of(self._owner)}
        patch = {"metadata": {"ownerReferences": [gone], "uid": uid_of(obj)}}
        try:
            await self._patch(obj, patch)
        except StatusError as error:
            # Gone, or replaced by another object of the same name: nothing to release.
            if not is_not_found(error) and not is_invalid(error):
                raise

    async def _patch(self, obj: Obj, patch: Obj) -> None:
        await self._client.patch(self._resource, name_of(obj), patch, STRATEGIC, namespace_of(obj))
