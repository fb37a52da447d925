"""The policies that are in force: each with its bindings, compiled once per version.

A policy without a binding does nothing. The objects come from indices that follow the watch
caches, so a policy counts for the first request after the write that made it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from pilothouse.apimachinery.schema import GroupVersionKind, parse_api_version
from pilothouse.apiserver.admission.policy.matching import Criteria

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import GroupResource
    from pilothouse.apiserver.admission.interfaces import Operation
    from pilothouse.apiserver.admission.plugin import ObjectIndex
    from pilothouse.apiserver.admission.policy.matching import Equivalent

E = TypeVar("E")


@dataclass(frozen=True, slots=True)
class Binding:
    """A binding of either kind."""

    name: str
    criteria: Criteria | None
    """None matches whatever the policy matches."""
    param_ref: Obj | None
    actions: tuple[str, ...]

    @classmethod
    def parse(cls, obj: Obj) -> Binding:
        spec = obj.get("spec") or {}
        resources = spec.get("matchResources")
        return cls(
            obj["metadata"]["name"],
            None if resources is None else Criteria(resources),
            spec.get("paramRef"),
            tuple(spec.get("validationActions") or ()),
        )


class Policy(Generic[E]):
    """A policy of either kind; ``evaluator`` compiles its expressions when first asked for."""

    def __init__(self, obj: Obj, compile_spec: Callable[[Obj], E]) -> None:
        self.obj = obj
        self.name: str = obj["metadata"]["name"]
        self.spec: Obj = obj.get("spec") or {}
        self.criteria = Criteria(self.spec.get("matchConstraints"))
        self.ignore_failures = self.spec.get("failurePolicy") == "Ignore"
        self._compile = compile_spec
        self._evaluator: Any = None

    @property
    def evaluator(self) -> E:
        if self._evaluator is None:
            self._evaluator = self._compile(self.spec)
        found: E = self._evaluator
        return found

    @property
    def param_kind(self) -> GroupVersionKind | None:
        kind = self.spec.get("paramKind")
        if kind is None:
            return None
        group, version = parse_api_version(kind.get("apiVersion") or "")
        return GroupVersionKind(group, version, kind.get("kind") or "")


@dataclass(frozen=True, slots=True)
class Hook(Generic[E]):
    policy: Policy[E]
    bindings: tuple[Binding, ...]


class PolicySource(Generic[E]):
    """Hooks in the order of their policies' names, bindings likewise (upstream's is random)."""

    def __init__(
        self, policies: ObjectIndex, bindings: ObjectIndex, compile_spec: Callable[[Obj], E]
    ) -> None:
        self._policies = policies
        self._bindings = bindings
        self._compile = compile_spec
        self._known: dict[str, Policy[E]] = {}
        self._parsed: dict[str, tuple[Obj, Binding]] = {}
        self._hooks: tuple[Hook[E], ...] = ()
        self._generations = (-1, -1)

    def hooks(self) -> tuple[Hook[E], ...]:
        generations = (self._policies.generation, self._bindings.generation)
        if generations != self._generations:
            self._hooks = tuple(self._refresh())
            self._generations = generations
        return self._hooks

    def concern(
        self,
        operation: Operation,
        resource: GroupResource,
        subresource: str,
        equivalents: Iterable[Equivalent],
    ) -> bool:
        """Whether any policy could match a request of that sort."""
        known = tuple(equivalents)
        return any(
            hook.policy.criteria.may_concern(operation, resource, subresource, known)
            for hook in self.hooks()
        )

    def _refresh(self) -> Iterable[Hook[E]]:
        bound: dict[str, list[Binding]] = {}
        parsed: dict[str, tuple[Obj, Binding]] = {}
        for obj in self._bindings.in_namespace():
            name = obj["metadata"]["name"]
            known = self._parsed.get(name)
            entry = known if known and known[0] is obj else (obj, Binding.parse(obj))
            parsed[name] = entry
            policy_name = (obj.get("spec") or {}).get("policyName") or ""
            bound.setdefault(policy_name, []).append(entry[1])
        self._parsed = parsed
        policies: dict[str, Policy[E]] = {}
        for name in sorted(bound):
            found = self._policies.get("", name)
            if found is None:
                continue
            policy = self._known.get(name)
            if policy is None or policy.obj is not found:
                policy = Policy(found, self._compile)
            policies[name] = policy
            bindings = sorted(bound[name], key=lambda binding: binding.name)
            yield Hook(policy, tuple(bindings))
        self._known = policies
