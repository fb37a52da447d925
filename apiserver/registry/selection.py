"""Selectors over cache entries (apiserver pkg/storage/selection_predicate.go)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pilothouse.apimachinery.fields import FieldSelector
    from pilothouse.apimachinery.labels import Selector
    from pilothouse.apiserver.registry.strategy import Strategy
    from pilothouse.apiserver.storage.cacher.interfaces import CacheEntry, Predicate


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a resource is asked for. None: everything."""

    labels: Selector | None = None
    fields: FieldSelector | None = None

    @property
    def empty(self) -> bool:
        return self.labels is None and self.fields is None

    @property
    def single_name(self) -> str:
        """The one name that ``metadata.name=`` allows, or ""."""
        return (self.fields.requires_exact("metadata.name") or "") if self.fields else ""

    @property
    def single_namespace(self) -> str:
        return (self.fields.requires_exact("metadata.namespace") or "") if self.fields else ""

    def predicate(self, strategy: Strategy) -> Predicate | None:
        labels, fields = self.labels, self.fields
        if labels is None and fields is None:
            return None
        if fields is None:
            assert labels is not None
            return _LabelMatch(labels)
        if all(name == "metadata.name" for name, _, _ in fields.requirements):
            by_fields: Predicate = _NameMatch(fields)
        else:
            by_fields = _FieldMatch(fields, strategy)
        if labels is None:
            return by_fields
        match = labels.matches
        return lambda entry: match(entry.labels) and by_fields(entry)


class _LabelMatch:
    """Labels are kept apart from the object: a big list is looked through without decoding it."""

    __slots__ = ("_equals", "_matches")

    def __init__(self, labels: Selector) -> None:
        self._matches = labels.matches
        self._equals: tuple[str, str] | None = None
        if len(labels.requirements) == 1 and not labels.nothing:
            key = labels.requirements[0].key
            value = labels.requires_exact(key)
            self._equals = None if value is None else (key, value)

    def __call__(self, entry: CacheEntry) -> bool:
        return self._matches(entry.labels)

    def select(self, entries: Iterable[CacheEntry]) -> list[CacheEntry]:
        if self._equals is not None:
            key, value = self._equals
            return [e for e in entries if (found := e.labels) and found.get(key) == value]
        matches = self._matches
        return [entry for entry in entries if matches(entry.labels)]


class _NameMatch:
    """Needs no look into the object."""

    __slots__ = ("_fields",)

    def __init__(self, fields: FieldSelector) -> None:
        self._fields = fields

    def __call__(self, entry: CacheEntry) -> bool:
        return self._fields.matches({"metadata.name": entry.name})


class _FieldMatch:
    """Fields are computed once per entry and shared by all watchers."""

    __slots__ = ("_fields", "_strategy")

    def __init__(self, fields: FieldSelector, strategy: Strategy) -> None:
        self._fields = fields
        self._strategy = strategy

    def __call__(self, entry: CacheEntry) -> bool:
        memo = entry.memo
        fields = memo.get("fields")
        if fields is None:
            fields = memo["fields"] = self._strategy.fields(entry.peek())
        return self._fields.matches(fields)
