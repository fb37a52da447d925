"""PUT of an object, or of its status: the whole object replaces the stored one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_bad_request, new_conflict
from pilothouse.apimachinery.object import copy_object
from pilothouse.apiserver.endpoints.body import decode
from pilothouse.apiserver.endpoints.negotiation import negotiate
from pilothouse.apiserver.endpoints.options import manager_name, parse_write_options
from pilothouse.apiserver.endpoints.responses import entry_response
from pilothouse.apiserver.filters.authorization import attributes_of, check_remotely
from pilothouse.apiserver.registry.before import ensure_namespace
from pilothouse.apiserver.registry.interpret import OPTIMISTIC_LOCK
from pilothouse.apiserver.registry.write import Write

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.endpoints.options import WriteOptions
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.registry.updating import Mode
    from pilothouse.apiserver.request.context import Request, Response


async def handle(
    server: Server, request: Request, served: ServedResource, mode: Mode = "main"
) -> Response:
    """:raises StatusError: 400, 403, 404, 409, 415, 422."""
    info = request.info
    options = parse_write_options(request.query, "UpdateOptions")
    if not request.local:
        negotiate(request.headers.get("accept", ""))
    bodies = Bodies(server, request, served, options)
    write = new_write(server, request, served, options, "UpdateOptions")
    entry, created = await served.store.update(
        write, bodies, mode=mode, uid=bodies.first["metadata"].get("uid") or ""
    )
    assert info.name
    return entry_response(request, served, entry, server.clock.now(), 201 if created else 200)


def new_write(
    server: Server, request: Request, served: ServedResource, options: WriteOptions, kind: str
) -> Write:
    """The circumstances of an update or patch of a named object."""
    info = request.info
    assert request.user is not None
    namespace = info.namespace
    if not served.namespaced and served.resource.name != "namespaces":
        namespace = ""

    async def authorize_create() -> None:
        from dataclasses import replace

        question = replace(attributes_of(request), verb="create")
        await check_remotely(server.authorizer, question)

    return Write(
        served,
        namespace,
        info.name,
        request.user,
        subresource=info.subresource,
        dry_run=options.dry_run,
        manager=manager_name(options, request.headers.get("user-agent", "")),
        # Admission is told of a patch as of the update that it is.
        options=options.wire("UpdateOptions" if kind == "PatchOptions" else kind),
        force=bool(options.force),
        warnings=request.warnings,
        audit_annotations=request.audit_annotations,
        authorize_create=authorize_create,
    )


def check_name(obj: Obj, name: str) -> None:
    """:raises StatusError: 400, the object is not the one that the URL names."""
    own = obj["metadata"].get("name") or ""
    if not own:
        raise new_bad_request(
            f"the name of the object ({name} based on URL) was undeterminable: "
            "name must be provided"
        )
    if own != name:
        raise new_bad_request(
            f"the name of the object ({own}) does not match the name on the URL ({name})"
        )


class Bodies:
    """The wanted object, anew for each attempt of the compare-and-swap loop."""

    def __init__(
        self, server: Server, request: Request, served: ServedResource, options: WriteOptions
    ) -> None:
        self._server = server
        self._request = request
        self._served = served
        self._validation = options.field_validation
        self._used = False
        self._spare: Obj | None = None
        self.first = self._decode()
        if request.local and not self.first["metadata"].get("resourceVersion"):
            self._spare = copy_object(self.first)

    def _decode(self) -> Obj:
        request, served = self._request, self._served
        obj = decode(self._server, request, served, self._validation)
        namespace = request.info.namespace if served.namespaced else ""
        ensure_namespace(obj["metadata"], namespace)
        check_name(obj, request.info.name)
        return obj

    def __call__(self, existing: Obj | None) -> Obj:
        if not self._used:
            self._used = True
            return self.first
        if not self._request.local:
            return self._decode()
        if self._spare is None:
            raise new_conflict(
                self._served.group_resource, self._request.info.name, OPTIMISTIC_LOCK
            )
        return copy_object(self._spare)  # type: ignore[no-any-return]
