"""ValidatingAdmissionPolicy: rules in CEL that users configure (admission/plugin/policy)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.admission.policy.plugin import PolicyPlugin

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes


class ValidatingAdmissionPolicy(PolicyPlugin):
    def compile(self, spec: Obj) -> Any:
        from pilothouse.apiserver.admission.policy.validator import Validator

        return Validator(spec)

    async def validate(self, attributes: Attributes) -> None:
        from pilothouse.apiserver.admission.policy.validating import Dispatch

        if self._metrics is None:
            from pilothouse.apiserver.admission.policy.metrics import ValidatingMetrics

            self._metrics = ValidatingMetrics(self.context.hooks.metrics)
        hooks = self.context.hooks
        dispatch = Dispatch(attributes, self.view, hooks.authorizer, self._metrics)
        await dispatch.run(self.source.hooks())


PLUGINS = {"ValidatingAdmissionPolicy": ValidatingAdmissionPolicy}
