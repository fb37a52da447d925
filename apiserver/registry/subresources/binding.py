"""``pods/binding`` and ``bindings``: gives a pod to a node (core/pod/storage BindingREST)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.errors import new_bad_request, new_conflict, new_unclassified
from pilothouse.apimachinery.schema import GroupResource, GroupVersionKind
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apiserver.endpoints.body import decode_kind
from pilothouse.apiserver.endpoints.options import manager_name, parse_write_options
from pilothouse.apiserver.endpoints.responses import object_response
from pilothouse.apiserver.registry.before import ensure_namespace
from pilothouse.apiserver.registry.interpret import precondition_failed
from pilothouse.apiserver.registry.subresources.pods import set_condition
from pilothouse.apiserver.registry.write import Write

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response

_KIND = GroupVersionKind("", "v1", "Binding")
_CONFLICTS = GroupResource("", "pods/binding")


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    binding = _decode(server, request)
    if binding["metadata"].get("name") != request.info.name:
        raise new_bad_request("name in URL does not match name in Binding object")
    return await _bind(server, request, served, binding, request.info.name)


async def handle_legacy(server: Server, request: Request, served: ServedResource) -> Response:
    """POST to ``bindings``: the object's own name counts."""
    binding = _decode(server, request)
    pods = server.registry.lookup("", "v1", "pods")
    assert pods is not None
    name = binding["metadata"].get("name") or ""
    return await _bind(server, request, pods, binding, name, asked=served)


def _decode(server: Server, request: Request) -> Obj:
    from pilothouse.apis.schemas import definition

    options = parse_write_options(request.query, "CreateOptions")
    schema = definition("io.k8s.api.core.v1.Binding")
    binding = decode_kind(server, request, _KIND, schema, options.field_validation)
    ensure_namespace(binding["metadata"], request.info.namespace)
    return binding


async def _bind(
    server: Server,
    request: Request,
    pods: ServedResource,
    binding: Obj,
    name: str,
    *,
    asked: ServedResource | None = None,
) -> Response:
    """``asked``: bindings, where they are what was posted to."""
    options = parse_write_options(request.query, "CreateOptions")
    _validate(binding)
    assert request.user is not None
    write = Write(
        pods,
        request.info.namespace,
        name,
        request.user,
        subresource="binding",
        dry_run=options.dry_run,
        manager=manager_name(options, request.headers.get("user-agent", "")),
        options=options.wire("CreateOptions"),
        warnings=request.warnings,
        audit_annotations=request.audit_annotations,
        kind=_KIND,
    )
    attributes = write.attributes("CREATE", binding, None)
    if asked is not None:
        attributes.resource, attributes.subresource = asked.gvr, ""
    shows = getattr(server.admission, "shows", None)
    if shows is None or shows(attributes):
        _track(server, write, binding, attributes.subresource)
    await server.admission.admit(attributes)
    await server.admission.validate(attributes)
    binding = attributes.obj or binding
    now = format_time(server.clock.now())
    await pods.store.write_through(
        write, lambda pod: assigned(pod, binding, now, pods), tracked=False
    )
    status = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}
    return object_response(request, status | {"code": 201}, 201)


def _track(server: Server, write: Write, binding: Obj, subresource: str) -> None:
    """Who set what, as admission sees it; nobody keeps it."""
    from pilothouse.apimachinery.managedfields import manager
    from pilothouse.apis.schemas import definition

    manager.update(
        None,
        binding,
        definition("io.k8s.api.core.v1.Binding"),
        manager=write.manager,
        api_version="v1",
        time=format_time(server.clock.now()),
        subresource=subresource,
    )


def _validate(binding: Obj) -> None:
    """:raises StatusError: 400 (upstream's errors here are no Status)."""
    from pilothouse.apis.core.validation_pod import validate_binding

    errors = validate_binding(binding)
    if errors:
        texts = [str(error) for error in errors]
        raise new_unclassified(texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]")


def assigned(pod: Obj, binding: Obj, now: str, pods: ServedResource) -> Obj:
    """The pod with its node; what doesn't change is shared with ``pod``. :raises StatusError: 404,
    409."""
    metadata, given = pod["metadata"], binding["metadata"]
    name = metadata["name"]
    _check_preconditions(metadata, given, pods)
    node = (pod.get("spec") or {}).get("nodeName")
    problem = ""
    if metadata.get("deletionTimestamp"):
        problem = f"pod {name} is being deleted, cannot be assigned to a host"
    elif node:
        problem = f'pod {name} is already assigned to node "{node}"'
    elif (pod.get("spec") or {}).get("schedulingGates"):
        problem = f"pod {name} has non-empty .spec.schedulingGates"
    if problem:
        raise new_conflict(_CONFLICTS, name, problem)
    bound: Obj = {**pod, "metadata": dict(metadata), "spec": dict(pod.get("spec") or {})}
    bound["spec"]["nodeName"] = binding["target"]["name"]
    for key in ("annotations", "labels"):
        if given.get(key):
            bound["metadata"][key] = {**(metadata.get(key) or {}), **given[key]}
    status = bound["status"] = dict(pod.get("status") or {})
    status.pop("nominatedNodeName", None)
    set_condition(status, {"type": "PodScheduled", "status": "True"}, now)
    return bound


def _check_preconditions(metadata: Obj, given: Obj, pods: ServedResource) -> None:
    for field, path in (("UID", "uid"), ("ResourceVersion", "resourceVersion")):
        wanted, found = given.get(path), metadata.get(path) or ""
        if wanted and wanted != found:
            key = pods.key(metadata.get("namespace") or "", metadata["name"])
            raise precondition_failed(
                pods.group_resource, metadata["name"], key, field, wanted, found
            )
