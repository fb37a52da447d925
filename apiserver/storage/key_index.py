"""Keys in order, sorted lazily: cheap to write, cheap to page through.

Writers only note what came and went; the first reader after them merges it. An update of an
existing key costs nothing, and a list of an unchanged prefix is two bisections and a slice.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_FEW = 16


def prefix_end(prefix: str) -> str:
    """The least string above all that start with ``prefix``; "" when there is none."""
    while prefix and prefix[-1] == "\U0010ffff":
        prefix = prefix[:-1]
    return prefix[:-1] + chr(ord(prefix[-1]) + 1) if prefix else ""


class KeyIndex:
    """A sorted set of strings."""

    __slots__ = ("_added", "_keys", "_removed")

    def __init__(self, keys: Iterable[str] = ()) -> None:
        self._keys = sorted(keys)
        self._added: set[str] = set()
        self._removed: set[str] = set()

    def add(self, key: str) -> None:
        """``key`` must not be in the set."""
        if key in self._removed:
            self._removed.discard(key)
        else:
            self._added.add(key)

    def remove(self, key: str) -> None:
        """``key`` must be in the set."""
        if key in self._added:
            self._added.discard(key)
        else:
            self._removed.add(key)

    def between(self, prefix: str, start: str = "") -> tuple[list[str], int, int]:
        """The whole sorted list (not to be changed) and the part of it that holds the keys under
        ``prefix`` from ``start`` on."""
        if self._added or self._removed:
            self._merge()
        keys = self._keys
        low = bisect_left(keys, max(prefix, start))
        end = prefix_end(prefix)
        return keys, low, max(low, bisect_left(keys, end, low)) if end else len(keys)

    def count(self, prefix: str) -> int:
        _, low, high = self.between(prefix)
        return high - low

    def copy(self) -> KeyIndex:
        if self._added or self._removed:
            self._merge()
        twin = KeyIndex()
        twin._keys = self._keys.copy()
        return twin

    def _merge(self) -> None:
        """A few changes move a few keys; many are one filter and one (nearly linear) sort."""
        keys = self._keys
        if len(self._removed) <= _FEW:
            for key in self._removed:
                del keys[bisect_left(keys, key)]
        else:
            gone = self._removed
            keys = self._keys = [key for key in keys if key not in gone]
        if len(self._added) <= _FEW:
            for key in self._added:
                insort(keys, key)
        else:
            keys.extend(self._added)
            keys.sort()
        self._added.clear()
        self._removed.clear()
