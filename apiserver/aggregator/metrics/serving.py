"""metrics.k8s.io/v1beta1: GET and LIST of nodes and pods, made from windows of samples.

A local extension: it is served like a built-in group, and steps aside as soon as an APIService
of its name leads to a service (an installed metrics-server).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.errors import new_bad_request, new_not_found
from pilothouse.apimachinery.fields import parse_field_selector
from pilothouse.apimachinery.labels import parse_selector
from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.timefmt import format_duration, format_time
from pilothouse.apiserver.aggregator.metrics.usage import ContainerKey
from pilothouse.apiserver.endpoints.negotiation import method_not_allowed, negotiate
from pilothouse.apiserver.endpoints.responses import object_response

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.aggregator.metrics.sampler import Sampler
    from pilothouse.apiserver.aggregator.metrics.usage import Usage, Window
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response

GROUP = "metrics.k8s.io"
NODES, PODS = GroupResource("", "nodes"), GroupResource("", "pods")


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    """:raises StatusError: 400, 404, 405."""
    if request.info.verb not in ("get", "list"):
        raise method_not_allowed()
    await server.context.listers.ensure(NODES, PODS)  # type: ignore[attr-defined]
    metrics = NodeMetrics if served.gvr.resource == "nodes" else PodMetrics
    made = await metrics(server, _sampler(server)).read(request)
    info = request.info
    if info.verb == "get" and not made:
        name = info.name if metrics is NodeMetrics else f"{info.namespace}/{info.name}"
        raise new_not_found(GroupResource(GROUP, served.gvr.resource), name)
    if info.verb == "get" or request.local:
        head = {"kind": served.gvk.kind, "apiVersion": served.api_version}
        made = [head | each for each in made]
    if not request.local and negotiate(request.headers.get("accept", "")).transform == "Table":
        return object_response(request, table(made))
    if info.verb == "get":
        return object_response(request, made[0])
    return object_response(
        request,
        {
            "kind": f"{served.gvk.kind}List",
            "apiVersion": served.api_version,
            "metadata": {"resourceVersion": ""} if request.local else {},
            "items": made,
        },
    )


def _sampler(server: Server) -> Sampler:
    found: Sampler | None = server.services.get("usage")
    if found is None:
        from pilothouse.apiserver.aggregator.metrics.sampler import Sampler

        found = server.services["usage"] = Sampler(server.nodes, server.clock)
    return found


def _selects(request: Request) -> Callable[[Obj], bool]:
    """The request's name and selectors. :raises StatusError: 400."""
    try:
        labels = parse_selector(request.query_value("labelSelector"))
        fields = parse_field_selector(request.query_value("fieldSelector"))
    except ValueError as error:
        raise new_bad_request(str(error)) from error
    info = request.info

    def selects(obj: Obj) -> bool:
        metadata = obj["metadata"]
        if info.name and metadata["name"] != info.name:
            return False
        names = {
            "metadata.name": metadata["name"],
            "metadata.namespace": metadata.get("namespace") or "",
        }
        return labels.matches(metadata.get("labels")) and fields.matches(names)

    return selects


class NodeMetrics:
    def __init__(self, server: Server, sampler: Sampler) -> None:
        self._server = server
        self._sampler = sampler

    async def read(self, request: Request) -> list[Obj]:
        selects = _selects(request)
        listers, sampler = self._server.context.listers, self._sampler
        everyone = list(listers.list(NODES))
        sampler.forget_all_but({node["metadata"]["name"] for node in everyone})
        nodes = [node for node in everyone if selects(node)]
        names = [node["metadata"]["name"] for node in nodes]

        def is_known() -> bool:
            return all(_is_known(sampler.window(name)) for name in names)

        await sampler.sample(names, is_known)
        made = []
        for node in nodes:
            window = sampler.window(node["metadata"]["name"])
            usage, sample = window.node(), window.newest
            if usage is not None and sample is not None:
                head = _head(self._server, node, sample.time, usage.window)
                made.append(head | {"usage": quantities(usage)})
        return made


def _is_known(window: Window) -> bool:
    newest = window.newest
    return newest is None or newest.node is None or window.node() is not None


class PodMetrics:
    def __init__(self, server: Server, sampler: Sampler) -> None:
        self._server = server
        self._sampler = sampler

    async def read(self, request: Request) -> list[Obj]:
        selects = _selects(request)
        pods = [
            pod
            for pod in self._server.context.listers.list(PODS, request.info.namespace)
            if selects(pod) and _runs(pod)
        ]
        nodes = dict.fromkeys(pod["spec"]["nodeName"] for pod in pods)

        def is_known() -> bool:
            return all(self._usages(pod) is not None for pod in pods)

        def outdated() -> set[str]:
            return {pod["spec"]["nodeName"] for pod in pods if not self._has_all(pod)}

        await self._sampler.sample(nodes, is_known, outdated)
        return [made for pod in pods if (made := self._metrics(pod)) is not None]

    def _usages(self, pod: Obj) -> dict[str, Usage] | None:
        """By container; None when that of one is not known yet."""
        metadata = pod["metadata"]
        window = self._sampler.window(pod["spec"]["nodeName"])
        found: dict[str, Usage] = {}
        for name in _containers(pod):
            key = ContainerKey(metadata.get("namespace", ""), metadata["name"], name)
            newest = window.newest
            if newest is None or key not in newest.containers:
                continue
            usage = window.container(key)
            if usage is None:
                return None
            found[name] = usage
        return found

    def _has_all(self, pod: Obj) -> bool:
        """Whether the last sample is not older than the pod's containers."""
        metadata = pod["metadata"]
        newest = self._sampler.window(pod["spec"]["nodeName"]).newest
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        return newest is not None and all(
            ContainerKey(namespace, name, each) in newest.containers for each in _containers(pod)
        )

    def _metrics(self, pod: Obj) -> Obj | None:
        usages = self._usages(pod)
        sample = self._sampler.window(pod["spec"]["nodeName"]).newest
        if not usages or sample is None:
            return None
        window = min(usage.window for usage in usages.values())
        containers = [{"name": name, "usage": quantities(each)} for name, each in usages.items()]
        return _head(self._server, pod, sample.time, window) | {"containers": containers}


def _runs(pod: Obj) -> bool:
    phase = (pod.get("status") or {}).get("phase")
    return bool(pod["spec"].get("nodeName")) and phase == "Running"


def _containers(pod: Obj) -> Iterable[str]:
    spec = pod["spec"]
    yield from (container["name"] for container in spec.get("containers") or ())
    for container in spec.get("initContainers") or ():
        if container.get("restartPolicy") == "Always":
            yield container["name"]


def _head(server: Server, obj: Obj, time: Any, window: float) -> Obj:
    metadata = obj["metadata"]
    head: Obj = {"name": metadata["name"]}
    if metadata.get("namespace"):
        head["namespace"] = metadata["namespace"]
    head["creationTimestamp"] = format_time(server.clock.now())
    if metadata.get("labels"):
        head["labels"] = dict(metadata["labels"])
    return {
        "metadata": head,
        "timestamp": format_time(time),
        "window": format_duration(round(window, 3)),
    }


def quantities(usage: Usage) -> Obj:
    return {"cpu": f"{usage.cpu_nanocores}n", "memory": f"{usage.memory_bytes // 1024}Ki"}


def table(made: list[Obj]) -> Obj:
    """The columns that metrics-server prints."""
    columns: list[Obj] = [
        {"name": "Name", "type": "string", "format": "name", "description": "Name of the resource",
         "priority": 0}
    ]  # fmt: skip
    for name, kind in (("cpu", "quantity"), ("memory", "quantity"), ("Window", "duration")):
        columns.append(
            {"name": name, "type": "string", "format": kind, "description": "", "priority": 0}
        )
    rows = []
    for each in made:
        usages = [c["usage"] for c in each["containers"]] if "containers" in each else []
        total = [_sum(u[name] for u in usages or [each["usage"]]) for name in ("cpu", "memory")]
        part = {
            "kind": "PartialObjectMetadata",
            "apiVersion": "meta.k8s.io/v1",
            "metadata": each["metadata"],
        }
        cells = [each["metadata"]["name"], *total, each["window"]]
        rows.append({"cells": cells, "object": part})
    return {
        "kind": "Table",
        "apiVersion": "meta.k8s.io/v1",
        "metadata": {},
        "columnDefinitions": columns,
        "rows": rows,
    }


def _sum(texts: Iterable[str]) -> str:
    first, *rest = (Quantity.parse(text) for text in texts)
    for each in rest:
        first = first + each
    return str(first)
