"""From CRDs in the store to resources that are served (the shell of ``apiextensions``).

One worker looks at each CRD that changed: names and conditions are settled, the registry is
brought up to date before the condition Established can be seen, and the objects of a CRD that is
being deleted are deleted before the CRD goes.
"""

from __future__ import annotations

import asyncio
import copy
import logging
from typing import TYPE_CHECKING, Any

import orjson

from pilothouse.apimachinery.errors import StatusError, is_conflict, is_not_found
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupResource, GroupVersionResource
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apimachinery.wait import ExponentialBackoff
from pilothouse.apiserver.apiextensions import conditions

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.apiextensions.serving import CustomKind
    from pilothouse.apiserver.apiextensions.store import CustomStore
    from pilothouse.apiserver.local import LocalClient
    from pilothouse.apiserver.registry.store import Admission
    from pilothouse.apiserver.server import APIServer
    from pilothouse.apiserver.storage.cacher.cacher import Cacher
    from pilothouse.apiserver.storage.cacher.watch_cache import Event

log = logging.getLogger(__name__)

CRDS = GroupVersionResource("apiextensions.k8s.io", "v1", "customresourcedefinitions")
_RESOURCE = GroupResource(CRDS.group, CRDS.resource)
_ACTIVITY = "crd"
_EMPTY_TIMEOUT = 60.0


class CustomResources:
    """Started between the routes and serving: existing CRDs are served from the beginning."""

    def __init__(self, server: APIServer, admission: Admission) -> None:
        self._server = server
        self._admission = admission
        self._registry = server.registry
        self._kinds: dict[str, CustomKind] = {}
        self._names: dict[str, Obj] = {}
        """Of each CRD only what naming conflicts are about: CRDs are large."""
        self._dirty: dict[str, None] = {}
        self._worker: asyncio.Task[Any] | None = None
        self._deleting: set[str] = set()
        self._retrying: set[str] = set()
        """CRDs whose clean-up failed and waits for its next turn."""
        self._cacher: Cacher | None = None
        self._client: LocalClient | None = None
        self._backoff = ExponentialBackoff(server.clock, 0.05, 30.0)

    async def start(self) -> None:
        """Serves what the store holds already, then follows it."""
        served = self._registry.lookup(*CRDS)
        assert served is not None
        self._cacher = cacher = served.store.cacher
        await cacher.ensure_ready()
        self._client = self._server.local_client(user_agent="kube-apiserver")
        # No await up to the subscription: nothing is missed.
        for entry in cacher.list(served.prefix)[0]:
            self._learn(orjson.loads(entry.data), entry.data)
            self._queue(entry.name)
        cacher.subscribe(self._on_event)

    async def close(self) -> None:
        if self._cacher is not None:
            self._cacher.unsubscribe(self._on_event)
        for kind in self._kinds.values():
            await kind.close()
        self._kinds.clear()

    def _on_event(self, event: Event) -> None:
        entry = event.entry
        if event.type == "DELETED":
            self._remove(entry.name)
        else:
            # Not entry.obj, which would keep the decoded object for good.
            self._learn(orjson.loads(entry.data), entry.data)
            self._queue(entry.name)

    def _learn(self, crd: Obj, data: bytes) -> None:
        name = crd["metadata"]["name"]
        accepted = (crd.get("status") or {}).get("acceptedNames") or {}
        self._names[name] = {
            "metadata": {"name": name},
            "spec": {"group": crd["spec"].get("group")},
            "status": {"acceptedNames": accepted},
            "waiting": crd["spec"]["names"] != accepted,
        }
        self._serve(crd, data)

    # serving

    def _serve(self, crd: Obj, data: bytes) -> None:
        """Brings the registry to what ``crd`` says."""
        name = crd["metadata"]["name"]
        accepted = any(
            conditions.is_true(crd, type_)
            for type_ in (conditions.NAMES_ACCEPTED, conditions.ESTABLISHED)
        )
        if not accepted:
            return
        known = self._kinds.get(name)
        if known is not None:
            from pilothouse.apiserver.apiextensions.serving import identity

            if known.identity == identity(crd):
                known.data = data
                if crd["metadata"].get("deletionTimestamp") and not known.terminating:
                    old = known.served
                    self._registry.change(known.terminate(crd), old)
                return
        self._install(crd, data, known)

    def _install(self, crd: Obj, data: bytes, known: CustomKind | None) -> None:
        from pilothouse.apiserver.apiextensions.serving import CustomKind

        server = self._server
        kind = CustomKind(crd, data, server.storage, server.context, self._admission)
        old = known.served if known is not None else []
        mine = {each.gvr for each in old}
        added = []
        for served in kind.served:
            other = self._registry.lookup(*served.gvr)
            # A built-in resource of that name stays what it is.
            if other is None or other.gvr in mine or other.resource.custom:
                added.append(served)
        self._kinds[kind.name] = kind
        self._registry.change(added, old)
        if known is not None:
            server.tasks.start(known.close(), f"close-{kind.name}")

    def _remove(self, name: str) -> None:
        kind = self._kinds.pop(name, None)
        if kind is not None:
            self._registry.change((), kind.served)
            self._server.tasks.start(kind.close(), f"close-{name}")
        self._backoff.reset(name)
        stub = self._names.pop(name, None)
        if stub is not None:
            self._queue_group(stub["spec"]["group"], name)

    # the worker

    def _queue(self, name: str) -> None:
        if name in self._dirty:
            return
        self._dirty[name] = None
        self._server.activity.begin(_ACTIVITY)
        if self._worker is None:
            self._worker = self._server.tasks.start(self._work(), "crds")

    def _queue_group(self, group: str, name: str) -> None:
        """Names may have become free for those CRDs of a group that wait for some."""
        for other, stub in self._names.items():
            if stub["waiting"] and stub["spec"]["group"] == group and other != name:
                self._queue(other)

    async def _work(self) -> None:
        try:
            while self._dirty:
                name = next(iter(self._dirty))
                del self._dirty[name]
                try:
                    await self._sync(name)
                except StatusError as error:
                    if not (is_conflict(error) or is_not_found(error)):
                        log.warning("CustomResourceDefinition %s: %s", name, error)
                        self._later(name)
                except Exception:
                    log.exception("CustomResourceDefinition %s", name)
                finally:
                    self._server.activity.end(_ACTIVITY)
        finally:
            self._worker = None

    def _later(self, name: str) -> None:
        def due() -> None:
            self._retrying.discard(name)
            self._queue(name)

        self._retrying.add(name)
        self._server.clock.call_later(self._backoff.next(name), due)

    async def _sync(self, name: str) -> None:
        """Conditions, accepted names and, when it is time, the end."""
        cacher = self._cacher
        assert cacher is not None and self._client is not None
        entry = cacher.get(cacher.prefix + name)
        if entry is None:
            return
        crd: Obj = orjson.loads(entry.data)
        status = self._wanted_status(crd)
        if status is not None:
            self._serve({**crd, "status": status}, entry.data)
            updated = {**crd, "status": status}
            crd = await self._client.update(CRDS, updated, subresource="status")
            self._queue_group(crd["spec"]["group"], name)
        metadata = crd["metadata"]
        finalizers = metadata.get("finalizers") or ()
        if metadata.get("deletionTimestamp") and conditions.FINALIZER in finalizers:
            if name not in self._deleting and name not in self._retrying:
                self._deleting.add(name)
                self._server.activity.begin(_ACTIVITY)
                self._server.tasks.start(self._finalize(crd), f"finalize-{name}")

    def _wanted_status(self, crd: Obj) -> Obj | None:
        """The status that ``crd`` should have; None when it has it."""
        now = format_time(self._server.clock.now())
        before = crd.get("status") or {}
        status: Obj = copy_object(before)
        names = conditions.names_and_conditions(crd, self._names.values())
        status["acceptedNames"] = names.accepted
        wanted = [names.names_accepted, names.established]
        approval = conditions.approval_condition(crd)
        if approval is not None:
            wanted.append(approval)
        self._check_structure(crd, status, wanted)
        for each in wanted:
            if not conditions.same_condition(each, conditions.find_condition(crd, each["type"])):
                conditions.set_condition(status, each, now)
        return None if status == before else status

    def _check_structure(self, crd: Obj, status: Obj, wanted: list[Obj]) -> None:
        """New schemas are structural, or validation has refused them: only what was stored by
        older servers, and says so itself, has to be looked at."""
        known = conditions.find_condition(crd, conditions.NON_STRUCTURAL)
        if known is None and not crd["spec"].get("preserveUnknownFields"):
            return
        structural = conditions.non_structural_condition(crd)
        if structural is not None:
            wanted.append(structural)
        elif known is not None:
            kept = [c for c in status["conditions"] if c["type"] != conditions.NON_STRUCTURAL]
            status["conditions"] = kept

    # the end of a CRD

    async def _finalize(self, crd: Obj) -> None:
        name = crd["metadata"]["name"]
        try:
            await self._delete_instances(name)
        except StatusError as error:
            if not is_not_found(error):
                if not is_conflict(error):
                    log.warning("deleting the objects of %s: %s", name, error)
                self._later(name)
        except Exception:
            log.exception("deleting the objects of %s", name)
            self._later(name)
        finally:
            self._deleting.discard(name)
            self._server.activity.end(_ACTIVITY)

    async def _set_terminating(self, name: str, status: str, reason: str, text: str) -> Obj:
        """Writes the condition; with status False the finalizer goes too."""
        assert self._client is not None
        while True:
            crd: Obj = copy_object(await self._client.get(CRDS, name))
            new = conditions.condition(conditions.TERMINATING, status, reason, text)
            now = format_time(self._server.clock.now())
            conditions.set_condition(crd.setdefault("status", {}), new, now)
            if status == "False":
                finalizers = crd["metadata"].get("finalizers") or []
                rest = [each for each in finalizers if each != conditions.FINALIZER]
                crd["metadata"]["finalizers"] = rest
            try:
                return await self._client.update(CRDS, crd, subresource="status")
            except StatusError as error:
                if not is_conflict(error):
                    raise

    async def _delete_instances(self, name: str) -> None:
        reason, text = "InstanceDeletionInProgress", "CustomResource deletion is in progress"
        crd = await self._set_terminating(name, "True", reason, text)
        kind = self._kinds.get(name)
        if not conditions.is_true(crd, conditions.ESTABLISHED) or kind is None:
            reason, text = "NeverEstablished", "resource was never established"
            await self._set_terminating(name, "False", reason, text)
            return
        store = kind.storage_store()
        reason, failed = "InstanceDeletionFailed", ""
        try:
            await _delete_all(store)
            if not await self._emptied(store):
                reason = "InstanceDeletionCheck"
                failed = (
                    "could not confirm zero CustomResources remaining: context deadline exceeded"
                )
        except StatusError as error:
            failed = f"could not issue all deletes: {error}"
        if failed:
            self._later(name)
            await self._set_terminating(name, "True", reason, failed)
            return
        reason, text = "InstanceDeletionCompleted", "removed all instances"
        await self._set_terminating(name, "False", reason, text)

    async def _emptied(self, store: CustomStore) -> bool:
        """Waits until finalizers have let the last object go."""
        cacher = store.cacher
        if not len(cacher):
            return True
        gone = asyncio.get_running_loop().create_future()

        def on_event(event: Event) -> None:
            if not len(cacher) and not gone.done():
                gone.set_result(True)

        def too_late() -> None:
            if not gone.done():
                gone.set_result(False)

        cacher.subscribe(on_event)
        timer = self._server.clock.call_later(_EMPTY_TIMEOUT, too_late)
        # Others must act now: that is no work of ours.
        self._server.activity.end(_ACTIVITY)
        try:
            return bool(await gone)
        finally:
            self._server.activity.begin(_ACTIVITY)
            timer.cancel()
            cacher.unsubscribe(on_event)


class _AdmitAll:
    async def admit(self, attributes: Any) -> None: ...

    async def validate(self, attributes: Any) -> None: ...


async def _delete_all(store: CustomStore) -> None:
    """Every object, without admission: whoever may delete the CRD may delete them."""
    from pilothouse.apiserver.registry.write import Write
    from pilothouse.apiserver.server import LOOPBACK

    store = copy.copy(store)
    store.admission = _AdmitAll()
    await store.cacher.wait_until_fresh()
    for entry in list(store.cacher.list(store.served.prefix)[0]):
        write = Write(store.served, entry.namespace, entry.name, LOOPBACK)
        try:
            await store.delete(write, {})
        except StatusError as error:
            if not is_not_found(error):
                raise
