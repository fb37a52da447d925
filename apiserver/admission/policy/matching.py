"""Whether a policy or a binding concerns a request (admission/plugin/policy/matching); pure.

A ``MatchResources`` is compiled once; a request is asked against it with what else is known of
the request: the labels of its namespace and the other resources as which its object can be had.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pilothouse.apimachinery.errors import StatusError, new_internal_error
from pilothouse.apimachinery.labels import selector_from_label_selector

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from pilothouse.apimachinery.labels import Selector
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apimachinery.schema import (
        GroupResource,
        GroupVersionKind,
        GroupVersionResource,
    )
    from pilothouse.apiserver.admission.interfaces import Attributes, Operation


class Equivalent(NamedTuple):
    """Another resource whose objects are the same ones; ``kind`` is None when unknown."""

    resource: GroupVersionResource
    kind: GroupVersionKind | None


class Match(NamedTuple):
    """As what the policy sees the request."""

    resource: GroupVersionResource
    kind: GroupVersionKind


@dataclass(frozen=True, slots=True)
class Question:
    """A request as matching needs it.

    ``namespace_labels`` is None for cluster-scoped objects (which no namespace selector
    excludes), or the error with which the namespace could not be read.
    """

    attributes: Attributes
    namespace_labels: Mapping[str, str] | StatusError | None
    equivalents: tuple[Equivalent, ...] = ()


@dataclass(frozen=True, slots=True)
class Rule:
    """A NamedRuleWithOperations."""

    operations: frozenset[str]
    groups: frozenset[str]
    versions: frozenset[str]
    resources: tuple[tuple[str, str], ...]
    """(resource, sub-resource), either may be ``*``."""
    scope: str
    names: frozenset[str]

    @classmethod
    def parse(cls, rule: Obj) -> Rule:
        resources = [text.partition("/") for text in rule.get("resources") or ()]
        return cls(
            frozenset(rule.get("operations") or ()),
            frozenset(rule.get("apiGroups") or ()),
            frozenset(rule.get("apiVersions") or ()),
            tuple((name, sub) for name, _, sub in resources),
            rule.get("scope") or "*",
            frozenset(rule.get("resourceNames") or ()),
        )

    def covers(self, operation: str, group: str, resource: str, subresource: str) -> bool:
        """Without the version, the scope and the name."""
        return (
            (operation in self.operations or "*" in self.operations)
            and (group in self.groups or "*" in self.groups)
            and any(
                name in ("*", resource) and sub in ("*", subresource)
                for name, sub in self.resources
            )
        )

    def matches(self, attributes: Attributes, resource: GroupVersionResource) -> bool:
        """The rule against the request as one about ``resource``; names aside."""
        return (
            self.covers(
                attributes.operation, resource.group, resource.resource, attributes.subresource
            )
            and (resource.version in self.versions or "*" in self.versions)
            and self._in_scope(attributes, resource)
        )

    def _in_scope(self, attributes: Attributes, resource: GroupVersionResource) -> bool:
        if self.scope == "*":
            return True
        cluster = not attributes.namespace or (
            resource.group == "" and resource.resource == "namespaces"
        )
        return cluster if self.scope == "Cluster" else self.scope == "Namespaced" and not cluster

    def names_match(self, attributes: Attributes) -> bool:
        return not self.names or attributes.name in self.names


class Criteria:
    """A compiled ``MatchResources``; ``None`` of a binding matches everything."""

    __slots__ = ("_equivalent", "_namespaces", "_objects", "excluded", "rules")

    def __init__(self, resources: Obj | None) -> None:
        resources = resources or {}
        self._namespaces = _selector(resources.get("namespaceSelector"))
        self._objects = _selector(resources.get("objectSelector"))
        self.rules = tuple(Rule.parse(rule) for rule in resources.get("resourceRules") or ())
        excluded = resources.get("excludeResourceRules") or ()
        self.excluded = tuple(Rule.parse(rule) for rule in excluded)
        self._equivalent = resources.get("matchPolicy") == "Equivalent"

    def may_concern(
        self,
        operation: Operation,
        resource: GroupResource,
        subresource: str,
        equivalents: Iterable[Equivalent] = (),
    ) -> bool:
        """Whether any request of that sort could match: what the chain remembers."""
        if not self.rules:
            return True
        groups = {(resource.group, resource.resource)}
        if self._equivalent:
            groups |= {(e.resource.group, e.resource.resource) for e in equivalents}
        return any(
            rule.covers(operation, group, name, subresource)
            for rule in self.rules
            for group, name in groups
        )

    def match(self, question: Question) -> Match | None:
        """:raises StatusError: the rules match, but a selector cannot be judged."""
        in_namespace, namespace_error = self._in_namespace(question)
        if not in_namespace and namespace_error is None:
            return None
        selected, object_error = self._selected(question.attributes)
        if not selected and object_error is None:
            return None
        if self.excluded and self._by_rules(self.excluded, question) is not None:
            return None
        found: Match | None
        if self.rules:
            found = self._by_rules(self.rules, question)
        else:
            found = Match(question.attributes.resource, question.attributes.kind)
        if found is None:
            return None
        error = namespace_error or object_error
        if error is not None:
            raise error
        return found

    def _in_namespace(self, question: Question) -> tuple[bool, StatusError | None]:
        labels = question.namespace_labels
        if labels is None:
            return True, None
        if isinstance(self._namespaces, StatusError):
            return False, self._namespaces
        if self._namespaces.empty:
            return True, None
        if isinstance(labels, StatusError):
            return False, labels
        return self._namespaces.matches(labels), None

    def _selected(self, attributes: Attributes) -> tuple[bool, StatusError | None]:
        selector = self._objects
        if isinstance(selector, StatusError):
            return False, selector
        if selector.empty:
            return True, None
        return any(
            selector.matches((obj.get("metadata") or {}).get("labels"))
            for obj in (attributes.obj, attributes.old_obj)
            if obj is not None
        ), None

    def _by_rules(self, rules: tuple[Rule, ...], question: Question) -> Match | None:
        attributes = question.attributes
        own = attributes.resource
        for rule in rules:
            if rule.matches(attributes, own) and rule.names_match(attributes):
                return Match(own, attributes.kind)
        if not self._equivalent:
            return None
        for rule in rules:
            for equivalent in question.equivalents:
                resource = equivalent.resource
                if resource == own or not rule.matches(attributes, resource):
                    continue
                if equivalent.kind is None:
                    raise new_internal_error(
                        f"unable to convert to {resource.group}/{resource.version}, "
                        f"Resource={resource.resource}: unknown kind"
                    )
                if rule.names_match(attributes):
                    return Match(resource, equivalent.kind)
        return None


def namespace_of(attributes: Attributes) -> str:
    """The namespace that a request is about; of a Namespace itself, its own name."""
    resource = attributes.resource
    if resource.resource == "namespaces" and not resource.group:
        return attributes.name
    return attributes.namespace


def _selector(selector: Obj | None) -> Selector | StatusError:
    try:
        return selector_from_label_selector(selector if selector is not None else {})
    except ValueError as error:
        return new_internal_error(str(error))
