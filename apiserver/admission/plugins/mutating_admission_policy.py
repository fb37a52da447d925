"""MutatingAdmissionPolicy: changes in CEL that users configure (admission/plugin/policy)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.admission.plugin import MUTATING_POLICIES, MUTATING_POLICY_BINDINGS
from pilothouse.apiserver.admission.policy.plugin import PolicyPlugin

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Attributes


class MutatingAdmissionPolicy(PolicyPlugin):
    policies = MUTATING_POLICIES
    bindings = MUTATING_POLICY_BINDINGS

    def compile(self, spec: Obj) -> Any:
        from pilothouse.apiserver.admission.policy.mutator import Mutator

        return Mutator(spec)

    async def admit(self, attributes: Attributes) -> None:
        from pilothouse.apiserver.admission.policy.mutating import Dispatch

        if self._metrics is None:
            from pilothouse.apiserver.admission.policy.metrics import MutatingMetrics

            self._metrics = MutatingMetrics(self.context.hooks.metrics)
        hooks = self.context.hooks
        dispatch = Dispatch(attributes, self.view, hooks.authorizer, self._metrics)
        await dispatch.run(self.source.hooks())


PLUGINS = {"MutatingAdmissionPolicy": MutatingAdmissionPolicy}
