"""The admission webhooks that are configured, compiled once per version of a configuration.

Configurations count in the order of their names, the webhooks of each in their own order. They
come from an index that follows the watch cache: a configuration counts for the first request
after the write that made it.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.admission.policy.matching import Criteria

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupResource
    from pilothouse.apiserver.admission.interfaces import Operation
    from pilothouse.apiserver.admission.plugin import ObjectIndex
    from pilothouse.apiserver.admission.policy.matching import Equivalent, Match, Question
    from pilothouse.apiserver.admission.webhook.conditions import Conditions
    from pilothouse.apiserver.webhook.client_config import Target

_DEFAULT_TIMEOUT = 10.0


class Hook:
    """One webhook of a configuration of either kind."""

    def __init__(self, uid: str, configuration: str, spec: Obj) -> None:
        self.uid = uid
        """Unique over all configurations, also when webhooks of one share a name."""
        self.configuration = configuration
        self.name: str = spec.get("name") or ""
        self.spec = spec
        self.criteria = Criteria(
            {
                "namespaceSelector": spec.get("namespaceSelector") or {},
                "objectSelector": spec.get("objectSelector") or {},
                "resourceRules": spec.get("rules") or [],
                "matchPolicy": spec.get("matchPolicy") or "Exact",
            }
        )
        self.ignore_failures = spec.get("failurePolicy") == "Ignore"
        self.timeout = float(spec.get("timeoutSeconds") or _DEFAULT_TIMEOUT)
        self.reinvocable = spec.get("reinvocationPolicy") == "IfNeeded"

    @property
    def supports_dry_run(self) -> bool:
        return self.spec.get("sideEffects") in ("None", "NoneOnDryRun")

    @cached_property
    def target(self) -> Target:
        """:raises ConfigError: nobody who could be called."""
        from pilothouse.apiserver.webhook.client_config import target_of

        return target_of(self.spec.get("clientConfig") or {})

    @cached_property
    def conditions(self) -> Conditions | None:
        """None without matchConditions."""
        found = self.spec.get("matchConditions")
        if not found:
            return None
        from pilothouse.apiserver.admission.webhook.conditions import Conditions

        return Conditions(found)

    def may_concern(
        self,
        operation: Operation,
        resource: GroupResource,
        subresource: str,
        equivalents: Iterable[Equivalent],
    ) -> bool:
        # Criteria without rules match everything; a webhook without rules matches nothing.
        return bool(self.criteria.rules) and self.criteria.may_concern(
            operation, resource, subresource, equivalents
        )

    def match(self, question: Question) -> Match | None:
        """By selectors and rules. :raises StatusError: a selector cannot be judged."""
        return self.criteria.match(question) if self.criteria.rules else None


class Hooks:
    """All webhooks of one kind of configuration, in the order in which they are asked."""

    def __init__(self, index: ObjectIndex) -> None:
        self._index = index
        self._generation = -1
        self._compiled: dict[str, tuple[Obj, list[Hook]]] = {}
        self._ordered: tuple[Hook, ...] = ()

    def ordered(self) -> tuple[Hook, ...]:
        if self._generation != self._index.generation:
            self._generation = self._index.generation
            self._compile()
        return self._ordered

    def _compile(self) -> None:
        known, self._compiled = self._compiled, {}
        ordered: list[Hook] = []
        for obj in sorted(self._index.in_namespace(), key=_name):
            name = _name(obj)
            before = known.get(name)
            hooks = before[1] if before is not None and before[0] is obj else hooks_of(obj)
            self._compiled[name] = (obj, hooks)
            ordered += hooks
        self._ordered = tuple(ordered)


def hooks_of(configuration: Obj) -> list[Hook]:
    """The webhooks of one configuration; their names need not be unique."""
    name = _name(configuration)
    seen: dict[str, int] = {}
    hooks = []
    for spec in configuration.get("webhooks") or ():
        own: Any = spec.get("name") or ""
        number = seen.get(own, 0)
        seen[own] = number + 1
        hooks.append(Hook(f"{name}/{own}/{number}", name, spec))
    return hooks


def _name(obj: Obj) -> str:
    name: str = obj["metadata"]["name"]
    return name
