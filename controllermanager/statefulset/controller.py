"""Keeps StatefulSets: pods with names of their own, and the claims that belong to each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import (
    StatusError,
    is_already_exists,
    is_conflict,
    is_not_found,
)
from pilothouse.apimachinery.labels import selector_from_label_selector
from pilothouse.apimachinery.object import (
    Obj,
    controller_of,
    copy_object,
    meta,
    name_of,
    namespace_of,
    object_key,
    uid_of,
)
from pilothouse.controllermanager import pods as podutil
from pilothouse.controllermanager.controller import Controller, SyncError, with_status
from pilothouse.controllermanager.controller_ref import RefManager, controller_reference
from pilothouse.controllermanager.revision_history import (
    STATEFUL_SET_HASH_LABEL,
    RevisionHistory,
    template_of,
)
from pilothouse.controllermanager.statefulset import identity
from pilothouse.controllermanager.statefulset.compute import SetSync, Steps
from pilothouse.kubeclient.resources import (
    CONTROLLER_REVISIONS,
    PERSISTENT_VOLUME_CLAIMS,
    PODS,
    STATEFUL_SETS,
)

if TYPE_CHECKING:
    from pilothouse.kubeclient.interfaces import Environment

_CONFLICTS = 4
"""How often a pod's update is tried again at once."""


class StatefulSetController(Controller):
    name = "statefulset-controller"
    max_retries = None

    def __init__(self, env: Environment, *, workers: int = 5) -> None:
        super().__init__(env, workers=workers)
        self._sets = self.watch_keys(STATEFUL_SETS)
        self._pods = self.watch(PODS, self._pod_added, self._pod_updated, self._pod_deleted)
        self._pods.add_index(podutil.CONTROLLER_INDEX, podutil.controller_index)
        self._claims = self.watch(PERSISTENT_VOLUME_CLAIMS)
        revisions = self.watch(CONTROLLER_REVISIONS)
        self._history = RevisionHistory(
            self.client, STATEFUL_SETS, revisions, STATEFUL_SET_HASH_LABEL
        )
        self._unseen: dict[str, dict[str, int]] = {}
        """Pods by set that we wrote and the informer has not shown: name to resourceVersion
        (0: deleted)."""

    # Events.

    def _resolve(self, pod: Obj) -> Obj | None:
        reference = controller_of(pod)
        if reference is None or reference.get("kind") != "StatefulSet":
            return None
        owner = self._sets.get(f"{namespace_of(pod)}/{reference.get('name')}")
        return owner if owner is not None and uid_of(owner) == reference.get("uid") else None

    def _pod_added(self, pod: Obj) -> None:
        owner = self._resolve(pod)
        if owner is not None:
            self._noticed(owner, pod)
            self.enqueue(owner)
        elif controller_of(pod) is None:
            self._enqueue_matching(pod)

    def _enqueue_matching(self, pod: Obj) -> None:
        labels = meta(pod).get("labels")
        for stateful_set in self._sets.list(namespace_of(pod)) if labels else ():
            selector = selector_from_label_selector(stateful_set["spec"].get("selector"))
            if identity.is_member(stateful_set, pod) and selector.matches(labels):
                self.enqueue(stateful_set)

    def _pod_updated(self, old: Obj, pod: Obj) -> None:
        former = self._resolve(old)
        if former is not None and controller_of(old) != controller_of(pod):
            self.enqueue(former)
        owner = self._resolve(pod)
        if owner is None:
            if controller_of(pod) is None:
                self._enqueue_matching(pod)
            return
        self._noticed(owner, pod)
        self.enqueue(owner)
        min_ready = owner["spec"].get("minReadySeconds")
        if min_ready and podutil.is_ready(pod) and not podutil.is_ready(old):
            self.queue.add_after(object_key(owner), min_ready + 1)

    def _pod_deleted(self, pod: Obj) -> None:
        owner = self._resolve(pod)
        if owner is not None:
            self._unseen.get(object_key(owner), {}).pop(name_of(pod), None)
            self.enqueue(owner)

    def _noticed(self, owner: Obj, pod: Obj) -> None:
        unseen = self._unseen.get(object_key(owner))
        if not unseen or name_of(pod) not in unseen:
            return
        version = unseen[name_of(pod)]
        if (version == 0 and podutil.is_deleted(pod)) or (
            version and int(meta(pod)["resourceVersion"]) >= version
        ):
            del unseen[name_of(pod)]

    def _lags(self, key: str) -> bool:
        """Whether the informer has yet to show a write of ours. What it showed before the write's
        answer came is found here: its event could not know what we waited for."""
        unseen = self._unseen.get(key)
        if not unseen:
            return False
        namespace = key.partition("/")[0]
        for name, version in list(unseen.items()):
            pod = self._pods.get(f"{namespace}/{name}")
            if version == 0 and (pod is None or podutil.is_deleted(pod)):
                del unseen[name]
            elif version and pod is not None and int(meta(pod)["resourceVersion"]) >= version:
                del unseen[name]
        return bool(unseen)

    # Sync.

    async def sync(self, key: str) -> None:
        stateful_set = self._sets.get(key)
        if stateful_set is None:
            self._unseen.pop(key, None)
            return
        if self._lags(key):
            return  # the informer is behind our own writes and will wake us
        try:
            selector = selector_from_label_selector(stateful_set["spec"].get("selector"))
        except ValueError as error:
            raise SyncError(f"error converting StatefulSet {key} selector: {error}") from error
        references = RefManager(self.client, STATEFUL_SETS, stateful_set, selector, PODS)
        members = [
            pod for pod in self._candidates(stateful_set) if identity.is_member(stateful_set, pod)
        ]
        pods = await references.claim(members)
        revisions = await self._history.of(stateful_set, selector)
        update = await self._history.current(stateful_set, revisions)
        recorded = (stateful_set.get("status") or {}).get("currentRevision")
        current = next((r for r in revisions if name_of(r) == recorded), update)
        sync = SetSync(
            stateful_set,
            pods,
            (name_of(current), template_of(current)),
            (name_of(update), template_of(update)),
            self.now(),
        )
        try:
            steps = sync.plan()
        except ValueError as error:
            raise SyncError(str(error)) from error
        done = Steps()
        try:
            await self._carry_out(key, stateful_set, pods, steps, done)
        except Exception:  # not when we are stopped: whoever lost the lead writes no more
            await self._write_status(stateful_set, sync.status(done))
            raise
        await self._write_status(stateful_set, sync.status(done))
        live = {name_of(current), name_of(update)} | {identity.revision_of(p) for p in pods}
        await self._history.truncate(stateful_set, revisions, live)
        wait = podutil.next_availability_check(pods, sync.min_ready, self.now())
        if wait is not None:
            self.queue.add_after(key, wait)

    def _candidates(self, stateful_set: Obj) -> list[Obj]:
        namespace = namespace_of(stateful_set)
        mine = podutil.controller_index_key(namespace, controller_reference(stateful_set))
        return [
            *self._pods.by_index(podutil.CONTROLLER_INDEX, mine),
            *self._pods.by_index(podutil.CONTROLLER_INDEX, namespace),
        ]

    async def _carry_out(
        self, key: str, owner: Obj, pods: Sequence[Obj], steps: Steps, done: Steps
    ) -> None:
        for pod in steps.claims:
            await self._create_claims(owner, pod)
        if not podutil.is_deleted(owner):
            for pod in pods:
                await self._hand_over_claims(owner, pod)
        for pod in steps.repair:
            await self._repair(key, owner, pod)
        for pod in steps.create:
            await self._create(key, owner, pod)
            done.create.append(pod)
        for pod in steps.delete:
            await self._delete(key, owner, pod)
            done.delete.append(pod)

    async def _create(self, key: str, owner: Obj, pod: Obj) -> None:
        try:
            await self._create_claims(owner, pod)
            created = await self.client.create(PODS, pod, namespace_of(owner))
        except (StatusError, SyncError) as error:
            if is_already_exists(error):
                raise
            self._event(owner, "create", name_of(pod), error)
            raise
        version = int(meta(created)["resourceVersion"])
        self._unseen.setdefault(key, {})[name_of(pod)] = version
        self._event(owner, "create", name_of(pod))
        await self._hand_over_claims(owner, created, new=True)

    async def _delete(self, key: str, owner: Obj, pod: Obj) -> None:
        unseen = self._unseen.setdefault(key, {})
        unseen[name_of(pod)] = 0
        try:
            await self.client.delete(PODS, name_of(pod), namespace_of(pod))
        except StatusError as error:
            unseen.pop(name_of(pod), None)
            if not is_not_found(error):
                self._event(owner, "delete", name_of(pod), error)
                raise
        self._event(owner, "delete", name_of(pod))

    async def _repair(self, key: str, owner: Obj, pod: Obj) -> None:
        await self._create_claims(owner, pod)
        try:
            updated = await self._update_identity(owner, pod)
        except StatusError as error:
            self._event(owner, "update", name_of(pod), error)
            raise
        version = int(meta(updated)["resourceVersion"])
        self._unseen.setdefault(key, {})[name_of(pod)] = version
        self._event(owner, "update", name_of(pod))

    async def _update_identity(self, owner: Obj, pod: Obj) -> Obj:
        """On a conflict with what is stored by now: its adoption may have changed it."""
        for _ in range(_CONFLICTS):
            try:
                return await self.client.update(PODS, identity.with_identity(owner, pod))
            except StatusError as error:
                if not is_conflict(error):
                    raise
                pod = await self.client.get(PODS, name_of(pod), namespace_of(pod))
        return await self.client.update(PODS, identity.with_identity(owner, pod))

    async def _create_claims(self, owner: Obj, pod: Obj) -> None:
        for claim in identity.claims_of(owner, pod).values():
            present = self._claims.get(object_key(claim))
            if present is not None:
                if podutil.is_deleted(present):
                    raise SyncError(f"pvc {name_of(claim)} is being deleted")
                continue
            what, whose = f"Claim {name_of(claim)}", f"Pod {name_of(pod)}"
            where = f"in StatefulSet {name_of(owner)}"
            try:
                await self.client.create(PERSISTENT_VOLUME_CLAIMS, claim, namespace_of(owner))
            except StatusError as error:
                if is_already_exists(error):
                    continue
                message = f"Create {what} for {whose} {where} failed error: {error}"
                self.recorder.event(owner, "Warning", "FailedCreate", message)
                raise SyncError(f"failed to create PVC {name_of(claim)}: {error}") from error
            message = f"Create {what} {whose} {where} success"
            self.recorder.event(owner, "Normal", "SuccessfulCreate", message)

    async def _hand_over_claims(self, owner: Obj, pod: Obj, *, new: bool = False) -> None:
        """Claims belong to nobody, the set or the pod, as the retention policy says. ``new``: the
        pod has just been created."""
        for wanted in identity.claims_of(owner, pod).values():
            claim = self._claims.get(object_key(wanted))
            if claim is None:
                continue
            owners = identity.wanted_claim_owners(owner, claim, pod)
            changes = new or owners is not None
            if changes and identity.has_unexpected_controller(owner, claim, pod):
                self.recorder.event(
                    owner, "Warning", "ConflictingController",
                    f"PersistentVolumeClaim {name_of(claim)} has a conflicting OwnerReference that "
                    "acts as a manging controller, the retention policy is ignored for this claim",
                )  # fmt: skip
            if owners is not None:
                changed = copy_object(claim)
                changed["metadata"]["ownerReferences"] = owners
                await self.client.update(PERSISTENT_VOLUME_CLAIMS, changed)

    def _event(self, owner: Obj, verb: str, pod: str, error: BaseException | None = None) -> None:
        subject = f"{verb.title()} Pod {pod} in StatefulSet {name_of(owner)}"
        if error is None:
            reason, message = f"Successful{verb.title()}", f"{subject} successful"
            self.recorder.event(owner, "Normal", reason, message)
        else:
            reason, message = f"Failed{verb.title()}", f"{subject} failed error: {error}"
            self.recorder.event(owner, "Warning", reason, message)

    async def _write_status(self, stateful_set: Obj, status: Obj) -> None:
        old = stateful_set.get("status") or {}
        if _comparable(old) != _comparable(status):
            new = with_status(stateful_set, status)
            await self.client.update(STATEFUL_SETS, new, subresource="status")


def _comparable(status: Obj) -> Obj:
    return {k: v for k, v in status.items() if v}
