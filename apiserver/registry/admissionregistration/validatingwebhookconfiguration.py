"""ValidatingWebhookConfigurations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apis.admissionregistration.defaults import set_webhook_defaults
from pilothouse.apis.admissionregistration.validation_webhooks import validate_webhooks
from pilothouse.apiserver.registry.admissionregistration.match_conditions import (
    expression_errors,
)
from pilothouse.apiserver.registry.builtin import BuiltInStrategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj


class ValidatingWebhookConfigurationStrategy(BuiltInStrategy):
    resource = GroupResource("admissionregistration.k8s.io", "validatingwebhookconfigurations")
    namespaced = False
    has_status = False
    allow_unconditional_update = False

    def default(self, obj: Obj) -> None:
        set_webhook_defaults(obj, mutating=False)

    def check_create(self, obj: Obj) -> ErrorList:
        return validate_webhooks(obj) + expression_errors(obj)

    def check_update(self, obj: Obj, old: Obj) -> ErrorList:
        return validate_webhooks(obj, old) + expression_errors(obj, old)


STRATEGY = ValidatingWebhookConfigurationStrategy()
