"""The group metrics.k8s.io/v1beta1 as rows, with what OpenAPI says of its kinds and its role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from pilothouse.apimachinery.errors import StatusError, is_already_exists
from pilothouse.apimachinery.schema import GroupVersionResource
from pilothouse.apis.resource import Resource
from pilothouse.apiserver.registry.resources import ServedResource

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.kubeclient.interfaces import Client

_READ = ("get", "list")
ROWS = (
    Resource("metrics.k8s.io", "v1beta1", "nodes", "NodeMetrics", "", False, _READ),
    Resource("metrics.k8s.io", "v1beta1", "pods", "PodMetrics", "", True, _READ),
)
_QUANTITIES = {"type": "object", "additionalProperties": {"type": "string"}}
_CONTAINER = {
    "type": "object",
    "required": ["name", "usage"],
    "properties": {"name": {"type": "string"}, "usage": _QUANTITIES},
}
_COMMON = {
    "timestamp": {"type": "string", "format": "date-time"},
    "window": {"type": "string"},
}
_CLUSTER_ROLES = GroupVersionResource("rbac.authorization.k8s.io", "v1", "clusterroles")


class MetricsResource(ServedResource):
    """Answered by ``serving.handle``; nothing is stored."""

    def __init__(self, row: Resource) -> None:
        super().__init__(row, load_schema=_nothing, load_strategy=_nothing, load_store=_nothing)

    @property
    def openapi_schema(self) -> dict[str, Any]:
        own: dict[str, Any] = {"usage": _QUANTITIES}
        if self.namespaced:
            own = {"containers": {"type": "array", "items": _CONTAINER}}
        properties = {**_COMMON, **own}
        return {"type": "object", "required": list(properties), "properties": properties}


def _nothing(*_: object) -> NoReturn:
    raise LookupError("metrics are not stored")


def served() -> list[ServedResource]:
    return [MetricsResource(row) for row in ROWS]


def reader_role() -> Obj:
    """What metrics-server's manifests add to the roles view, edit and admin."""
    labels = {
        f"rbac.authorization.k8s.io/aggregate-to-{role}": "true"
        for role in ("admin", "edit", "view")
    }
    rule = {
        "apiGroups": ["metrics.k8s.io"],
        "resources": ["pods", "nodes"],
        "verbs": ["get", "list", "watch"],
    }
    metadata = {"name": "system:aggregated-metrics-reader", "labels": labels}
    return {"metadata": metadata, "rules": [rule]}


async def ensure_role(client: Client) -> None:
    try:
        await client.create(_CLUSTER_ROLES, reader_role())
    except StatusError as error:
        if not is_already_exists(error):
            raise
