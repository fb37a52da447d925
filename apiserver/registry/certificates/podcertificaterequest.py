"""PodCertificateRequests: made by kubelets, answered once by a signer through /status."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.certificates.validation_pod_request import (
    validate_pod_request,
    validate_pod_request_status_update,
    validate_pod_request_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext


class PodCertificateRequestStrategy(BuiltInStrategy):
    resource = GroupResource("certificates.k8s.io", "podcertificaterequests")
    has_generation = False
    allow_unconditional_update = False
    selectable_fields = ("spec.signerName", "spec.podName", "spec.nodeName")

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {}

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        obj["status"] = copy_object(old.get("status") or {})

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_pod_request(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_pod_request_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_pod_request_status_update(obj, old)


STRATEGY = PodCertificateRequestStrategy()
