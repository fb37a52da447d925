"""RequestInfo: what a path and method ask for (apiserver pkg/endpoints/request)."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RequestInfo:
    """``verb`` is Kubernetes' (get, list, watch, create, update, patch, delete,
    deletecollection) for resources and the lower-case method for other paths."""

    is_resource_request: bool
    path: str
    verb: str
    api_prefix: str = ""
    api_group: str = ""
    api_version: str = ""
    namespace: str = ""
    resource: str = ""
    subresource: str = ""
    name: str = ""
    parts: tuple[str, ...] = ()
    """Segments after the resource: name, subresource, rest of the path."""
    label_selector: str = ""
    field_selector: str = ""
