"""An informer's objects together with our own writes that it has not shown yet.

Binding writes four times in a row; a sync that saw only some of them would do them again, and the
binder could give one volume to two claims.
"""

from __future__ import annotations

from pilothouse.apimachinery.object import Obj, meta, object_key
from pilothouse.kubeclient.cache.informer import SharedInformer


class Latest:
    def __init__(self, informer: SharedInformer) -> None:
        self._informer = informer
        self._written: dict[str, Obj] = {}

    def wrote(self, obj: Obj) -> Obj:
        """Remembers what the server answered."""
        self._written[object_key(obj)] = obj
        return obj

    def gone(self, obj: Obj) -> None:
        self._written.pop(object_key(obj), None)

    def get(self, key: str) -> Obj | None:
        seen, written = self._informer.get(key), self._written.get(key)
        if written is None:
            return seen
        if seen is not None and _version(seen) >= _version(written):
            del self._written[key]
            return seen
        return written

    def list(self) -> list[Obj]:
        keys = {object_key(obj): None for obj in self._informer.list()}
        keys.update(dict.fromkeys(self._written))
        return [obj for key in keys if (obj := self.get(key)) is not None]


def _version(obj: Obj) -> int:
    text = meta(obj).get("resourceVersion") or "0"
    return int(text) if text.isdecimal() else 0
