"""``certificatesigningrequests/approval``: the conditions of a CSR."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import copy_object
from pilothouse.apis.certificates.validation import validate_signing_request_approval_update
from pilothouse.apiserver.endpoints import get
from pilothouse.apiserver.registry.certificates.certificatesigningrequest import (
    fill_condition_times,
)
from pilothouse.apiserver.registry.subresources.delegate import DelegatingStrategy
from pilothouse.apiserver.registry.subresources.ephemeral_containers import update_with

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.endpoints.handler import Server
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.registry.resources import ServedResource
    from pilothouse.apiserver.request.context import Request, Response


class ApprovalStrategy(DelegatingStrategy):
    """Only conditions change; spec and certificate stay as they are."""

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        status = copy_object(old.get("status") or {})
        asked = (obj.get("status") or {}).get("conditions")
        if asked:
            status["conditions"] = asked
        else:
            status.pop("conditions", None)
        obj["spec"], obj["status"] = copy_object(old.get("spec") or {}), status
        fill_condition_times(context, obj, old)

    def validate_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        return validate_signing_request_approval_update(obj, old)


async def handle(server: Server, request: Request, served: ServedResource) -> Response:
    if request.info.verb == "get":
        return await get.handle(server, request, served)
    return await update_with(server, request, served, ApprovalStrategy(served.strategy))
