"""CertificateSigningRequests: who asks is recorded, decisions come through /approval."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.names import is_path_segment_name
from pilothouse.apimachinery.object import copy_object
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apimachinery.timefmt import format_time
from pilothouse.apis.certificates.validation import (
    DECISIONS,
    validate_signing_request,
    validate_signing_request_status_update,
    validate_signing_request_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext
    from pilothouse.apiserver.request.context import UserInfo


class CertificateSigningRequestStrategy(BuiltInStrategy):
    resource = GroupResource("certificates.k8s.io", "certificatesigningrequests")
    namespaced = False
    has_generation = False
    selectable_fields = ("spec.signerName",)
    unmanaged_fields = ("spec", "status")
    unmanaged_status_fields = ("spec", "status.conditions")

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return is_path_segment_name(name, prefix=prefix)

    def record_requester(self, obj: Obj, user: UserInfo) -> None:
        spec = obj.setdefault("spec", {})
        for field in ("username", "uid", "groups", "extra"):
            spec.pop(field, None)
        spec["username"] = user.name
        if user.uid:
            spec["uid"] = user.uid
        if user.groups:
            spec["groups"] = list(user.groups)
        if user.extra:
            spec["extra"] = {key: list(values) for key, values in user.extra}

    def prepare_for_create(self, context: RegistryContext, obj: Obj) -> None:
        obj["status"] = {}

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        obj["spec"] = copy_object(old.get("spec") or {})

    def prepare_status_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        for kind in DECISIONS:
            _keep_decision(obj, old, kind)
        fill_condition_times(context, obj, old)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_signing_request(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_signing_request_update(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_signing_request_status_update(obj, old)


def _keep_decision(obj: Obj, old: Obj, kind: str) -> None:
    """Conditions of ``kind`` are those of ``old`` when they are as many."""
    conditions = (obj.get("status") or {}).get("conditions") or []
    known = [c for c in (old.get("status") or {}).get("conditions") or () if c["type"] == kind]
    places = [i for i, c in enumerate(conditions) if c.get("type") == kind]
    if len(places) == len(known):
        for i, condition in zip(places, known, strict=True):
            conditions[i] = condition


def fill_condition_times(context: RegistryContext, obj: Obj, old: Obj) -> None:
    now = format_time(context.clock.now())
    before = (old.get("status") or {}).get("conditions") or ()
    for condition in (obj.get("status") or {}).get("conditions") or ():
        if not condition.get("lastUpdateTime"):
            condition["lastUpdateTime"] = now
        if not condition.get("lastTransitionTime"):
            same = (
                c["lastTransitionTime"]
                for c in before
                if c.get("type") == condition.get("type")
                and c.get("status") == condition.get("status")
                and c.get("lastTransitionTime")
            )
            condition["lastTransitionTime"] = next(same, now)


STRATEGY = CertificateSigningRequestStrategy()
