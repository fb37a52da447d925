"""Which mutating webhooks are to see an object again (mutating/reinvocationcontext.go); pure."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson

from pilothouse.apis.meta.equality import semantic_equal

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj


class Reinvoke:
    """Of one request; kept from the first round to the second."""

    def __init__(self) -> None:
        self._last: bytes | None = None
        self._invoked: set[str] = set()
        """Reinvocable webhooks that have been asked since the last change."""
        self._again: set[str] = set()

    def invoked(self, uid: str) -> None:
        self._invoked.add(uid)

    def require(self) -> None:
        """The object has changed: who was asked before is to be asked again."""
        self._again |= self._invoked
        self._invoked = set()

    def wanted(self, uid: str) -> bool:
        return uid in self._again

    def remember(self, obj: Obj | None) -> None:
        """What the webhooks have made of the object."""
        if self._invoked or self._again:
            self._last = orjson.dumps(obj)

    def changed_since(self, obj: Obj | None) -> bool:
        """Whether others have changed it after the first round's webhooks."""
        return self._last is not None and not semantic_equal(orjson.loads(self._last), obj)
