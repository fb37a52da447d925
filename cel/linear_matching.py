"""Patterns that Python's ``re`` would backtrack in for ever, matched in linear time.

RE2 never backtracks; ``re`` needs exponential time for some patterns, such as ``(a+)+$``. Those
are found when they are compiled: by a position automaton (Glushkov's) in which one text can lead
round a loop in two ways. They run on that automaton, a set of positions a character, and only
tell whether there is a match. What has zero-width assertions in the middle is left to ``re``.
"""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_POSITIONS = 1000
_MAX_ANALYSED = 80
_MAX_STATES = 2000
_SAMPLE = [*map(chr, range(128)), "é", "中", "\u2028"]
"""Characters that stand for all when classes are asked whether they overlap."""


class _Unsupported(Exception):
    """No automaton for this pattern."""


def linear_matcher(pattern: str, flags: int) -> LinearMatcher | None:
    """For a pattern that ``re`` may need exponential time for; None for others."""
    try:
        parser = import_module("re._parser")
        tree = parser.parse(pattern, flags)
    except (ImportError, re.error, RecursionError, OverflowError):
        return None
    if not _nests(tree, False):
        return None
    try:
        automaton = _Automaton(flags | tree.state.flags)
        matcher = automaton.build(list(tree))
    except (_Unsupported, RecursionError):
        return None
    return matcher if automaton.ambiguous() else None


def _nests(tree: Any, looped: bool) -> bool:
    """Whether a loop holds something that may match in several ways."""
    for op, value in tree:
        name = str(op)
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, inner = value
            if looped and low != high:
                return True
            if _nests(inner, looped or int(high) > _MAX_POSITIONS):
                return True
        elif name == "BRANCH":
            if looped or any(_nests(each, looped) for each in value[1]):
                return True
        elif name == "SUBPATTERN" and _nests(value[3], looped):
            return True
    return False


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class _Part:
    """Where a part of the pattern may begin and end, and whether it may be empty."""

    __slots__ = ("empty", "first", "last")

    def __init__(self, first: int, last: int, empty: bool) -> None:
        self.first = first
        self.last = last
        self.empty = empty


class _Automaton:
    def __init__(self, flags: int) -> None:
        self.flags = flags & (re.IGNORECASE | re.DOTALL | re.ASCII)
        self.chars: list[re.Pattern[str]] = []
        self.follow: list[int] = []
        self.doubled = False

    def build(self, items: list[Any]) -> LinearMatcher:
        starts = bool(items) and str(items[0][0]) == "AT"
        if starts and str(items[0][1]) not in ("AT_BEGINNING", "AT_BEGINNING_STRING"):
            raise _Unsupported
        ends = len(items) > int(starts) and str(items[-1][0]) == "AT"
        if ends and str(items[-1][1]) != "AT_END_STRING":
            raise _Unsupported
        part = self.sequence(items[int(starts) : len(items) - int(ends)], self.flags)
        return LinearMatcher(self.chars, self.follow, part, starts=starts, ends=ends)

    def sequence(self, items: Any, flags: int) -> _Part:
        whole = _Part(0, 0, True)
        for op, value in items:
            whole = self.join(whole, self.part(str(op), value, flags))
        return whole

    def join(self, a: _Part, b: _Part) -> _Part:
        for position in _bits(a.last):
            self.follow[position] |= b.first
        first = a.first | b.first if a.empty else a.first
        last = a.last | b.last if b.empty else b.last
        return _Part(first, last, a.empty and b.empty)

    def part(self, name: str, value: Any, flags: int) -> _Part:
        if name == "SUBPATTERN":
            _, added, removed, inner = value
            return self.sequence(inner, (flags | added) & ~removed)
        if name == "BRANCH":
            whole = _Part(0, 0, False)
            for each in value[1]:
                found = self.sequence(each, flags)
                # The parser takes out what alternatives begin with: (a|a) is a and twice nothing.
                self.doubled = self.doubled or (whole.empty and found.empty)
                whole = _Part(
                    whole.first | found.first, whole.last | found.last, whole.empty or found.empty
                )
            return whole
        if name in ("MAX_REPEAT", "MIN_REPEAT"):
            low, high, inner = value
            return self.repeat(int(low), int(high), inner, flags)
        if name in ("LITERAL", "NOT_LITERAL", "ANY", "IN"):
            return self.position(name, value, flags)
        raise _Unsupported

    def repeat(self, low: int, high: int, inner: Any, flags: int) -> _Part:
        whole = _Part(0, 0, True)
        if high <= _MAX_POSITIONS:
            for count in range(high):
                copy = self.sequence(inner, flags)
                whole = self.join(whole, _Part(copy.first, copy.last, copy.empty or count >= low))
            return whole
        for _ in range(max(low - 1, 0)):
            whole = self.join(whole, self.sequence(inner, flags))
        copy = self.sequence(inner, flags)
        for position in _bits(copy.last):
            # Two loops that go the same way: any text can be split between them.
            self.doubled = self.doubled or bool(self.follow[position] & copy.first)
            self.follow[position] |= copy.first
        return self.join(whole, _Part(copy.first, copy.last, copy.empty or low == 0))

    def position(self, name: str, value: Any, flags: int) -> _Part:
        if len(self.chars) >= _MAX_POSITIONS:
            raise _Unsupported
        self.chars.append(re.compile(_class(name, value), flags))
        self.follow.append(0)
        bit = 1 << (len(self.chars) - 1)
        return _Part(bit, bit, False)

    def ambiguous(self) -> bool:
        """Whether some text leads from a position back to it in two ways."""
        count = len(self.chars)
        if self.doubled or count > _MAX_ANALYSED:
            return True
        kinds = [
            sum(1 << at for at, char in enumerate(_SAMPLE) if pattern.fullmatch(char))
            for pattern in self.chars
        ]
        steps: dict[tuple[int, int], list[tuple[int, int]]] = {}
        back: dict[tuple[int, int], list[tuple[int, int]]] = {}
        todo = [(at, at) for at in range(count)]
        while todo:
            pair = todo.pop()
            if pair in steps:
                continue
            a, b = pair
            steps[pair] = [
                (x, y)
                for x in _bits(self.follow[a])
                for y in _bits(self.follow[b])
                if kinds[x] & kinds[y]
            ]
            for following in steps[pair]:
                back.setdefault(following, []).append(pair)
            todo += steps[pair]
        for at in range(count):
            ahead, behind = _reached((at, at), steps), _reached((at, at), back)
            if any(a != b for a, b in ahead & behind):
                return True
        return False


def _reached(
    start: tuple[int, int], edges: dict[tuple[int, int], list[tuple[int, int]]]
) -> set[tuple[int, int]]:
    found: set[tuple[int, int]] = set()
    todo = list(edges.get(start, ()))
    while todo:
        pair = todo.pop()
        if pair not in found:
            found.add(pair)
            todo += edges.get(pair, ())
    return found


_CATEGORIES = {
    "CATEGORY_DIGIT": r"\d",
    "CATEGORY_NOT_DIGIT": r"\D",
    "CATEGORY_SPACE": r"\s",
    "CATEGORY_NOT_SPACE": r"\S",
    "CATEGORY_WORD": r"\w",
    "CATEGORY_NOT_WORD": r"\W",
}


def _class(name: str, value: Any) -> str:
    """A pattern for one position."""
    if name == "ANY":
        return "."
    if name == "LITERAL":
        return _char(value)
    if name == "NOT_LITERAL":
        return f"[^{_char(value)}]"
    out: list[str] = []
    for op, inner in value:
        kind = str(op)
        if kind == "NEGATE":
            out.append("^")
        elif kind == "LITERAL":
            out.append(_char(inner))
        elif kind == "RANGE":
            out.append(f"{_char(inner[0])}-{_char(inner[1])}")
        elif kind == "CATEGORY" and str(inner) in _CATEGORIES:
            out.append(_CATEGORIES[str(inner)])
        else:
            raise _Unsupported
    return f"[{''.join(out)}]"


def _char(code: int) -> str:
    return f"\\U{code:08x}"


class LinearMatcher:
    """Tells whether a text has a match. What it has learned of characters and sets is kept,
    within limits."""

    __slots__ = ("_chars", "_ends", "_follow", "_masks", "_part", "_starts", "_steps")

    def __init__(
        self,
        chars: list[re.Pattern[str]],
        follow: list[int],
        part: _Part,
        *,
        starts: bool,
        ends: bool,
    ) -> None:
        self._chars = chars
        self._follow = follow
        self._part = part
        self._starts = starts
        self._ends = ends
        self._masks: dict[str, int] = {}
        self._steps: dict[tuple[int, str], int] = {}

    def matches(self, text: str) -> bool:
        part = self._part
        if part.empty and not (self._starts and self._ends and text):
            return True
        steps, last, ends = self._steps, part.last, self._ends
        active, allowed = 0, part.first
        for char in text:
            key = (active | (allowed << len(self._chars)), char)
            following = steps.get(key)
            if following is None:
                following = self._step(active, allowed, char)
                if len(steps) > _MAX_STATES:
                    steps.clear()
                steps[key] = following
            active = following
            if not ends and active & last:
                return True
            if self._starts:
                allowed = 0
                if not active:
                    return False
        return bool(active & last)

    def _step(self, active: int, allowed: int, char: str) -> int:
        for position in _bits(active):
            allowed |= self._follow[position]
        return allowed & self._mask(char)

    def _mask(self, char: str) -> int:
        mask = self._masks.get(char)
        if mask is None:
            if len(self._masks) > _MAX_STATES:
                self._masks.clear()
            mask = sum(1 << at for at, each in enumerate(self._chars) if each.fullmatch(char))
            self._masks[char] = mask
        return mask
