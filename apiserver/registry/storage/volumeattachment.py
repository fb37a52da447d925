"""VolumeAttachments."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.storage.validation import (
    validate_attachment,
    validate_attachment_status_update,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class VolumeAttachmentStrategy(BuiltInStrategy):
    resource = GroupResource("storage.k8s.io", "volumeattachments")
    namespaced = False
    has_generation = False
    allow_unconditional_update = False

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_attachment(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_attachment(obj, old)

    def check_status_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_attachment_status_update(obj)


STRATEGY = VolumeAttachmentStrategy()
