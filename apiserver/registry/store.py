"""The generic store of one kind (apiserver pkg/registry/generic/registry/store.go).

Endpoints call it with a :class:`~.write.Write` and, for updates, a pure function from the live
object to the wanted one; the store adds what upstream adds around it, in upstream's order:

create: managed fields → mutating admission → prepare, validate, canonicalize → ``begin_create`` →
validating admission → write;
update: the same around each attempt of a compare-and-swap loop that starts from the cached
object and, when that was stale, goes on from the store's.

Results are cache entries: bytes for the wire, a shared read-only dict for in-process readers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pilothouse.apimachinery.errors import (
    StatusError,
    new_bad_request,
    new_generate_name_conflict,
    new_not_found,
)
from pilothouse.apimachinery.managedfields import manager as field_manager
from pilothouse.apimachinery.names import generate_name
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.codec.decode import coerce
from pilothouse.apiserver.codec.defaulting import apply_defaults
from pilothouse.apiserver.codec.zero_values import fill_status, fill_zero_values
from pilothouse.apiserver.registry.before import (
    before_create,
    dedup_owner_references,
    ensure_namespace,
    fill_system_fields,
    wipe_system_fields,
)
from pilothouse.apiserver.registry.deletion import delete, delete_collection
from pilothouse.apiserver.registry.interpret import interpret
from pilothouse.apiserver.registry.updating import Update, write_through
from pilothouse.apiserver.storage.errors import KeyExists, OutcomeUnknown, StorageError
from pilothouse.apiserver.storage.versioner import encode, invalid_version, parse_revision, splice

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.typeschema import TypeSchema
    from pilothouse.apiserver.admission.interfaces import Attributes
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.registry.strategy import Strategy
    from pilothouse.apiserver.registry.updating import Mode, Mutate
    from pilothouse.apiserver.registry.write import Write
    from pilothouse.apiserver.storage.cacher.cacher import Cacher
    from pilothouse.apiserver.storage.cacher.watch_cache import Entry
    from pilothouse.apiserver.storage.interfaces import KeyValue, Storage

_NAME_RETRIES = 7
_ADMISSION = "admissionregistration.k8s.io"
"""Who has written a webhook or a policy may rely on it: the answer waits for our own watch."""


class Admission(Protocol):
    """``admission/chain.py``."""

    async def admit(self, attributes: Attributes) -> None: ...

    async def validate(self, attributes: Attributes) -> None: ...


class Store:
    """Everything that can be done to the objects of one kind."""

    versions_differ: bool = False
    """Other versions have other fields, so that their managers need a look of their own."""
    fits: Callable[[Obj, str], None] | None = None
    """For an apply where versions differ: raises TypedError when the version named has no place
    for the object."""

    def __init__(
        self,
        served: ServedResource,
        storage: Storage,
        cacher: Cacher,
        context: RegistryContext,
        admission: Admission,
    ) -> None:
        self.served = served
        """The stored version; other versions of the kind share this store."""
        self.resource = served.group_resource
        self.storage = storage
        self.cacher = cacher
        self.context = context
        self.admission = admission
        self._counts_at_once = self.resource.group == _ADMISSION and not storage.synchronous_watch

    @property
    def strategy(self) -> Strategy:
        return self.served.strategy

    @property
    def ttl(self) -> int:
        """Seconds that objects live: 0, or --event-ttl for kinds that expire (Events)."""
        seconds = self.strategy.ttl_seconds
        config = self.context.config
        return seconds if not seconds or config is None else int(config.event_ttl)

    # reads

    async def get(self, namespace: str, name: str, resource_version: str = "") -> Entry:
        """The object, as new as ``resource_version`` asks ("": the newest). :raises
        StatusError: 404, 504."""
        key = self.served.key(namespace, name)
        await self._fresh_enough(resource_version)
        entry = self.cacher.get(key)
        if entry is None:
            raise new_not_found(self.resource, name)
        return entry

    async def _fresh_enough(self, resource_version: str) -> None:
        try:
            if resource_version == "0":
                await self.cacher.ensure_ready()
            elif resource_version:
                revision = parse_revision(resource_version)
                await self.cacher.wait_until_fresh(revision)
            else:
                await self.cacher.wait_until_fresh()
        except StorageError as error:
            raise interpret(error, "get", self.resource, "") from error
        except ValueError as error:
            raise invalid_version(resource_version, error) from error

    async def live(self, key: str) -> Entry | None:
        """The object to start a read-modify-write from: cached, so possibly stale with etcd."""
        try:
            await self.cacher.ensure_ready()
        except StorageError as error:
            raise interpret(error, "get", self.resource, "") from error
        return self.cacher.get(key)

    async def read(self, key: str) -> Entry | None:
        """The object straight from the store."""
        if self.storage.synchronous_watch:
            return await self.live(key)
        try:
            kv = await self.storage.get(key)
        except StorageError as error:
            raise interpret(error, "get", self.resource, "") from error
        return None if kv is None else self.cacher.entry_of(kv)

    def entry_of(self, kv: KeyValue | None) -> Entry | None:
        return None if kv is None else self.cacher.entry_of(kv)

    # create

    async def create(self, write: Write, obj: Obj) -> Entry:
        """Creates ``obj`` (decoded and defaulted, the store's own from here on)."""
        metadata = obj["metadata"]
        wipe_system_fields(metadata)
        ensure_namespace(metadata, write.namespace if self.strategy.namespaced else "")
        dedup_owner_references(obj, write.warnings, after_admission=False)
        fill_zero_values(obj, write.served.schema)
        self.drop_status(obj)
        self.update_managed_fields(write, None, obj)
        attributes = write.attributes("CREATE", self.to_storage(write, obj), None)
        attributes.redecode = self.redecode
        await self.admission.admit(attributes)
        assert attributes.obj is not None
        return await self.create_admitted(write, attributes.obj)

    def drop_status(self, obj: Obj) -> None:
        if self.strategy.has_status:
            obj.pop("status", None)

    async def create_admitted(self, write: Write, obj: Obj) -> Entry:
        """From prepare on: ``obj`` has passed mutating admission."""
        metadata = obj["metadata"]
        # Admission may have moved the object to where its user must not write.
        ensure_namespace(metadata, write.namespace if self.strategy.namespaced else "")
        dedup_owner_references(obj, write.warnings, after_admission=True)
        fill_system_fields(metadata, self.context)
        generated = bool(metadata.get("generateName")) and not metadata.get("name")
        if generated:
            metadata["name"] = generate_name(metadata["generateName"], self.context.random)
        kind = self.served.gvk.group_kind
        self.strategy.record_requester(obj, write.user)
        before_create(self._hooks(write), self.context, kind, obj, write.warnings)
        if self.strategy.has_status:
            fill_status(obj, self.served.schema)
        rollback = self.strategy.begin_create(self.context, obj, write.dry_run)
        try:
            await self.admission.validate(write.attributes("CREATE", obj, None))
            entry = await self._insert(write, obj, retries=_NAME_RETRIES if generated else 0)
        except BaseException as error:
            if rollback is not None:
                rollback()
            raise self._already_exists(error, metadata) from error
        if rollback is not None and write.dry_run:
            rollback()
        return entry

    async def _insert(self, write: Write, obj: Obj, retries: int) -> Entry:
        metadata = obj["metadata"]
        namespace = metadata.get("namespace") or ""
        while True:
            key = self.served.key(namespace, metadata["name"])
            try:
                return await self._write_new(write, key, obj)
            except KeyExists:
                if not retries:
                    raise
                retries -= 1
                metadata["name"] = generate_name(metadata["generateName"], self.context.random)

    async def _write_new(self, write: Write, key: str, obj: Obj) -> Entry:
        await self.follow()
        version = obj["metadata"].pop("resourceVersion", None) or ""
        data = encode(obj)
        if write.dry_run:
            existing = await self.read(key)
            if existing is not None:
                raise KeyExists(None)
            if version.isdigit() and int(version):  # upstream answers with what it was given
                data = splice(data, int(version))
            return self._unstored(key, data)
        if version.isdigit() and int(version):
            # Only now, as upstream's store: what else is wrong is told first, dry runs may go on.
            raise new_bad_request("resourceVersion should not be set on objects to be created")
        data = self.stored_form(key, obj, data)
        try:
            revision = await self.storage.create(key, data, ttl=self.ttl)
        except OutcomeUnknown:
            found = await self.storage.get(key)
            if found is None or found.value != data:
                raise
            revision = found.mod_revision
        return await self.written(key, data, revision)

    async def follow(self) -> None:
        """Before a create: the cache is to see it. :raises StorageError: it can't be filled."""
        await self.cacher.ensure_ready()

    def _unstored(self, key: str, data: bytes) -> Entry:
        """A dry run's result: an entry without a resourceVersion of its own."""
        from pilothouse.apiserver.storage.cacher.watch_cache import Entry

        namespace, _, name = key[len(self.served.prefix) :].rpartition("/")
        return Entry(key, namespace, name, 0, data)

    def _already_exists(self, error: BaseException, metadata: Obj) -> BaseException:
        if not isinstance(error, StorageError):
            return error
        name = metadata.get("name") or ""
        status = interpret(error, "create", self.resource, name)
        if isinstance(error, KeyExists):
            if metadata.get("generateName"):
                status = new_generate_name_conflict(self.resource, name, 1)
            key = self.served.key(metadata.get("namespace") or "", name)
            existing = self.cacher.get(key)
            if existing is not None and existing.obj["metadata"].get("deletionTimestamp"):
                status.message = f"object is being deleted: {status.message}"
        return status

    # update

    async def update(
        self,
        write: Write,
        mutate: Mutate,
        *,
        mode: Mode = "main",
        managed: bool = False,
        force_create: bool = False,
        uid: str = "",
        strategy: Strategy | None = None,
    ) -> tuple[Entry, bool]:
        """Read-modify-write: (entry, whether it was created). See ``updating.py``.

        ``mutate`` gets the live object (shared, read-only) or None and returns a new one; it may
        be called again. ``managed``: it has set managedFields itself (apply). ``uid``: the
        precondition that a PUT's own metadata.uid is. ``strategy`` replaces the kind's hooks for
        sub-resources that validate by rules of their own.
        """
        may_create = force_create or (mode == "main" and self.strategy.allow_create_on_update)
        hooks = strategy or self._hooks(write)
        return await Update(self, write, mutate, mode, managed, hooks, may_create, uid).run()

    async def write_through(
        self, write: Write, change: Callable[[Obj], Obj], *, tracked: bool = True
    ) -> Entry:
        """Read-modify-write without the kind's hooks and admission (upstream's direct use of
        ``GuaranteedUpdate``): ``change`` gets the live object, read-only, and returns a new one.
        Nobody manages what it changed unless ``tracked``.

        :raises StatusError: 404, and whatever ``change`` raises about an object that is fresh.
        """
        return await write_through(self, write, change, tracked=tracked)

    def stored_form(self, key: str, obj: Obj, data: bytes) -> bytes:
        """What is written of ``obj``, which is ``data`` encoded."""
        self.cacher.remember(key, data, obj)
        return data

    async def written(self, key: str, data: bytes, revision: int) -> Entry:
        """The entry of a write of ``data`` that returned ``revision``."""
        if self._counts_at_once:
            await self.followed(revision)
        return self.cacher.written(key, data, revision)

    async def followed(self, revision: int) -> None:
        """Waits until readers of the watch cache know of a write, where they rely on it."""
        if self._counts_at_once:
            try:
                await self.cacher.wait_until_fresh(revision)
            except (StatusError, StorageError):
                return  # it has been written, and will be seen

    async def outdated(self, key: str) -> bool:
        """Whether an object is to be written anew although nothing in it has changed."""
        stale: Callable[[str], bool] | None = getattr(self.storage, "stale", None)
        return stale is not None and stale(key)

    def dry_result(self, key: str, existing: Entry, data: bytes) -> Entry:
        """What a dry run answers: ``data`` at the live object's resourceVersion."""
        entry = self._unstored(key, splice(data, existing.revision))
        entry.revision = existing.revision
        return entry

    # delete

    async def delete(self, write: Write, options: Obj) -> tuple[Entry | Obj, bool]:
        """(the object, or a Status when it is gone; whether it is gone)."""
        return await delete(self, write, options)

    async def delete_collection(
        self, write: Write, options: Obj, entries: list[Entry]
    ) -> list[Entry]:
        """Deletes ``entries`` one after the other; those that are gone already count too."""
        return await delete_collection(self, write, options, entries)

    # shared

    def to_storage(self, write: Write, obj: Obj) -> Obj:
        converter = write.served.converter
        if converter is None:
            return obj
        stored = converter.to_storage(obj)
        self.strategy.default(stored)
        return stored

    def redecode(self, obj: Obj) -> Obj:
        """An object in the stored version that a patch of admission has made, as a decoded request
        body would be. :raises StatusError: 400, a value has the wrong type."""
        schema = self.served.schema
        obj = coerce(obj, schema)
        if not isinstance(obj.get("metadata"), dict):
            obj["metadata"] = {}
        apply_defaults(obj, schema)
        self.strategy.default(obj)
        fill_zero_values(obj, schema)
        return obj

    async def reconcile_managers(self, write: Write, live: Obj, obj: Obj, *, apply: bool) -> None:
        """Where ``versions_differ``: managedFields of those who speak another version.

        :raises StatusError: 409, an apply would take what they own.
        """

    def update_managed_fields(self, write: Write, old: Obj | None, obj: Obj) -> None:
        schema: TypeSchema = write.served.schema
        field_manager.update(
            old,
            obj,
            schema,
            manager=write.manager,
            api_version=write.served.api_version,
            time=format_time(self.context.clock.now()),
            subresource=write.subresource,
            reset_fields=[tuple(path.split(".")) for path in self._unmanaged(write)],
        )

    def _hooks(self, write: Write) -> Strategy:
        """Events are checked more strictly when they come by way of their own group."""
        if write.served.gvr.group == "events.k8s.io":
            return write.served.strategy
        return self.strategy

    def _unmanaged(self, write: Write) -> tuple[str, ...]:
        if write.subresource == "finalize":
            return ("status",)
        if write.subresource == "status":
            return self.strategy.unmanaged_status_fields
        return () if write.subresource else self.strategy.unmanaged_fields
