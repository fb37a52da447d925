"""What the two policy plugins have in common: when they are asked, and with what.

While there are no policies, and for requests that none concerns, the chain does not call them:
it asks anew whenever a policy or binding changes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.schema import GroupResource, GroupVersionResource
from pilothouse.apiserver.admission.plugin import (
    MUTATING_POLICIES,
    MUTATING_POLICY_BINDINGS,
    VALIDATING_POLICIES,
    VALIDATING_POLICY_BINDINGS,
    Plugin,
)

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.admission.interfaces import Operation
    from pilothouse.apiserver.admission.policy.served import ServedView
    from pilothouse.apiserver.admission.policy.source import PolicySource

_EXCLUDED = frozenset(
    (
        VALIDATING_POLICIES,
        VALIDATING_POLICY_BINDINGS,
        MUTATING_POLICIES,
        MUTATING_POLICY_BINDINGS,
        GroupResource("authentication.k8s.io", "selfsubjectreviews"),
        GroupResource("authentication.k8s.io", "tokenreviews"),
        GroupResource("authorization.k8s.io", "localsubjectaccessreviews"),
        GroupResource("authorization.k8s.io", "selfsubjectaccessreviews"),
        GroupResource("authorization.k8s.io", "selfsubjectrulesreviews"),
        GroupResource("authorization.k8s.io", "subjectaccessreviews"),
    )
)
"""Policies must not lock a cluster out of itself."""


class PolicyPlugin(Plugin):
    policies = VALIDATING_POLICIES
    bindings = VALIDATING_POLICY_BINDINGS

    def set_up(self) -> None:
        configuration = self.context.configuration
        self._policies = configuration[self.policies]
        self._bindings = configuration[self.bindings]
        self._source: PolicySource[Any] | None = None
        self._view: ServedView | None = None
        self._metrics: Any = None
        """Made when there is something to count."""

    def interested(self, operation: Operation, resource: GroupResource, subresource: str) -> bool:
        if resource in _EXCLUDED or not self.row.matches(operation, resource, subresource):
            return False
        if not self._bindings.in_namespace() or not self._policies.in_namespace():
            return False
        return self.source.concern(
            operation, resource, subresource, self._other_groups(resource, subresource)
        )

    def _other_groups(self, resource: GroupResource, subresource: str) -> list[Any]:
        """The resources of other groups over the same objects (Events)."""
        registry = self.context.hooks.registry
        served = None if registry is None else registry.by_group_resource(resource)
        if served is None:
            return []
        gvr: GroupVersionResource = served.gvr
        return list(self.view.equivalents(gvr, subresource))

    @property
    def view(self) -> ServedView:
        if self._view is None:
            from pilothouse.apiserver.admission.policy.served import ServedView

            self._view = ServedView(self.context)
        return self._view

    @property
    def source(self) -> PolicySource[Any]:
        if self._source is None:
            from pilothouse.apiserver.admission.policy.source import PolicySource

            self._source = PolicySource(self._policies, self._bindings, self.compile)
        return self._source

    def compile(self, spec: Obj) -> Any:
        """The policy's evaluator; expressions that are wrong fail when they are evaluated."""
        raise AssertionError(f"{self.name} has no evaluator")
