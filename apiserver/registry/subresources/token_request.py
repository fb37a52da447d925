"""``serviceaccounts/token``: the end-point around :class:`~.token.TokenIssuer`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.managedfields import manager as field_manager
from pilothouse.apimachinery.schema import GroupVersionKind
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.codec.zero_values import with_structs
from pilothouse.apiserver.endpoints.body import decode_kind
from pilothouse.apiserver.endpoints.options import manager_name, parse_write_options
from pilothouse.apiserver.endpoints.responses import object_response
from pilothouse.apiserver.registry.before import ensure_namespace
from pilothouse.apiserver.registry.subresources.token import DEFAULT_SECONDS, credential_id
from pilothouse.apiserver.registry.write import Write

if TYPE_CHECKING:
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response

_KIND = GroupVersionKind("authentication.k8s.io", "v1", "TokenRequest")


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    from pilothouse.apis.schemas import definition

    info = request.info
    options = parse_write_options(request.query, "CreateOptions")
    schema = definition("io.k8s.api.authentication.v1.TokenRequest")
    obj = decode_kind(server, request, _KIND, schema, options.field_validation)
    assert request.user is not None
    write = Write(
        served,
        info.namespace,
        info.name,
        request.user,
        subresource="token",
        dry_run=options.dry_run,
        options=options.wire("CreateOptions"),
        warnings=request.warnings,
        audit_annotations=request.audit_annotations,
        kind=_KIND,
    )
    spec = obj.setdefault("spec", {})
    if spec.get("expirationSeconds") is None:
        spec["expirationSeconds"] = DEFAULT_SECONDS
    field_manager.update(
        None,
        obj,
        schema,
        manager=manager_name(options, request.headers.get("user-agent", "")),
        api_version=_KIND.api_version,
        time=format_time(server.clock.now()),
        subresource="token",
    )
    ensure_namespace(obj["metadata"], info.namespace)
    obj = with_structs(obj, schema)
    attributes = write.attributes("CREATE", obj, None)
    await server.admission.admit(attributes)
    # The issuer reads caches: wait until they show what this caller has seen.
    await served.store.cacher.wait_until_fresh()
    account = served.store.cacher.get(served.key(info.namespace, info.name))
    if attributes.obj is not None and account is not None:
        named = attributes.obj["metadata"]
        named["creationTimestamp"] = format_time(server.clock.now())
        for key in ("name", "uid"):
            named[key] = named.get(key) or account.obj["metadata"].get(key)
    await server.admission.validate(attributes)
    issuer = server.services["tokens"]
    answer = issuer.issue(info.namespace, info.name, attributes.obj, request.warnings)
    if request.audit is not None:
        issued = credential_id(answer["status"]["token"])
        request.audit_annotations["authentication.kubernetes.io/issued-credential-id"] = issued
    return object_response(request, answer, 201)
