"""A strategy that is another one but for what a sub-resource overrides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apiserver.registry.strategy import Strategy

if TYPE_CHECKING:
    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.registry.context import RegistryContext

_FLAGS = (
    "namespaced",
    "has_status",
    "has_generation",
    "allow_unconditional_update",
    "graceful",
    "columns",
    "selectable_fields",
    "ttl_seconds",
)


class DelegatingStrategy(Strategy):
    """Update hooks of a sub-resource on top of its parent's strategy."""

    def __init__(self, parent: Strategy) -> None:
        self.parent = parent
        for flag in _FLAGS:
            setattr(self, flag, getattr(parent, flag))

    def name_errors(self, name: str, prefix: bool) -> list[str]:
        return self.parent.name_errors(name, prefix)

    def default(self, obj: Obj) -> None:
        self.parent.default(obj)

    def canonicalize(self, obj: Obj) -> None:
        self.parent.canonicalize(obj)

    def fields(self, obj: Obj) -> dict[str, str]:
        return self.parent.fields(obj)

    def prepare_for_update(self, context: RegistryContext, obj: Obj, old: Obj) -> None:
        self.parent.prepare_for_update(context, obj, old)

    def validate_update(self, context: RegistryContext, obj: Obj, old: Obj) -> ErrorList:
        return self.parent.validate_update(context, obj, old)
