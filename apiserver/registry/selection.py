"""Selectors over cache entries (apiserver pkg/storage/selection_predicate.go)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
            match = labels.matches

            def by_labels(entry: CacheEntry) -> bool:
                return match(entry.obj["metadata"].get("labels"))

            return by_labels
        if all(name == "metadata.name" for name, _, _ in fields.requirements):
            by_fields: Predicate = _NameMatch(fields)
        else:
            by_fields = _FieldMatch(fields, strategy)
        if labels is None:
            return by_fields
        match = labels.matches
        return lambda entry: match(entry.obj["metadata"].get("labels")) and by_fields(entry)


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
            fields = memo["fields"] = self._strategy.fields(entry.obj)
        return self._fields.matches(fields)
