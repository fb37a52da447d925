"""Go's regular expressions (RE2 syntax) in terms of Python's ``re``.

What means something else there is translated: ``$`` and ``\\z``, POSIX and Unicode classes,
``\\Q…\\E``, flags in the middle. Perl classes are ASCII in Go, so patterns compile with re.ASCII.
"""

from __future__ import annotations

import re
import sys
import unicodedata
from collections.abc import Callable
from functools import lru_cache

from pilothouse.cel.linear_matching import linear_matcher

_POSIX = {
    "alnum": "0-9A-Za-z",
    "alpha": "A-Za-z",
    "ascii": "\\x00-\\x7F",
    "blank": "\\t ",
    "cntrl": "\\x00-\\x1F\\x7F",
    "digit": "0-9",
    "graph": "!-~",
    "lower": "a-z",
    "print": " -~",
    "punct": "!-/:-@\\[-`{-~",
    "space": "\\t\\n\\v\\f\\r ",
    "upper": "A-Z",
    "word": "0-9A-Za-z_",
    "xdigit": "0-9A-Fa-f",
}
_SCRIPTS = {
    "Latin": "LATIN ",
    "Greek": "GREEK ",
    "Cyrillic": "CYRILLIC ",
    "Han": "CJK UNIFIED IDEOGRAPH",
    "Hiragana": "HIRAGANA ",
    "Katakana": "KATAKANA ",
    "Hangul": "HANGUL ",
    "Arabic": "ARABIC ",
    "Hebrew": "HEBREW ",
}
_ESCAPES = frozenset("dDwWsSbBtnrfvax0123456789")
_REPETITION = re.compile(r"(?:[*+?]|\{[0-9]+(?:,[0-9]*)?\})\??")
_FLAGS = re.compile(r"\(\?([imsU]*)(?:-([imsU]*))?([:)])")


class RegexpError(ValueError):
    """No valid pattern; the text follows Go's."""

    def __init__(self, text: str) -> None:
        super().__init__(f"error parsing regexp: {text}")


@lru_cache(maxsize=512)
def compile_go(pattern: str) -> re.Pattern[str]:
    """:raises RegexpError: Go would not compile it."""
    translated = _Translator(pattern).translate()
    try:
        return re.compile(translated, re.ASCII)
    except (re.error, RecursionError, OverflowError) as error:
        raise RegexpError(_as_go(str(error), pattern)) from None


def _as_go(text: str, pattern: str) -> str:
    if "unterminated subpattern" in text or "missing )" in text:
        return f"missing closing ): `{pattern}`"
    if "unbalanced parenthesis" in text:
        return f"unexpected ): `{pattern}`"
    if "unterminated character set" in text:
        return f"missing closing ]: `{pattern[pattern.find('[') :]}`"
    if "nothing to repeat" in text or "multiple repeat" in text:
        at = re.search(r"position (\d+)", text)
        where = int(at[1]) if at else 0
        return f"missing argument to repetition operator: `{pattern[where : where + 1] or '*'}`"
    return f"{text}: `{pattern}`"


class _Translator:
    def __init__(self, pattern: str) -> None:
        self.pattern = pattern
        self.at = 0
        self.out: list[str] = []

    def translate(self) -> str:
        pattern, out = self.pattern, self.out
        end = len(pattern)
        # One entry a group: whether $ means the end of a line in it, and what closes it.
        multiline = [False]
        closing: list[str] = []
        opened = 0
        while self.at < end:
            char = pattern[self.at]
            if char == "\\":
                self._escape(False)
            elif char == "[":
                self._class()
            elif char == "$":
                out.append("$" if multiline[-1] else "\\Z")
                self.at += 1
            elif char == "(":
                flags = _FLAGS.match(pattern, self.at)
                if flags is None:
                    self._group()
                    multiline.append(multiline[-1])
                    closing.append(")")
                    continue
                self.at = flags.end()
                on, off, colon = flags[1], flags[2] or "", flags[3] == ":"
                lines = (multiline[-1] or "m" in on) and "m" not in off
                out.append(_flag_group(on, off))
                if colon:
                    multiline.append(lines)
                    closing.append(")")
                else:
                    # Flags hold to the end of the group that is open now.
                    multiline[-1] = lines
                    if closing:
                        closing[-1] += ")"
                    else:
                        opened += 1
            elif char == ")":
                out.append(closing.pop() if closing else ")")
                if len(multiline) > 1:
                    multiline.pop()
                self.at += 1
            else:
                if char in "*+?{":
                    self._repetition()
                else:
                    out.append(char)
                    self.at += 1
        return "".join(out) + ")" * opened

    def _repetition(self) -> None:
        """One operator, lazy or not. Python would take a second one for possessive."""
        match = _REPETITION.match(self.pattern, self.at)
        if match is None:
            # A brace that is no repetition stands for itself.
            self.out.append("\\{")
            self.at += 1
            return
        self.out.append(match[0])
        self.at = match.end()
        second = _REPETITION.match(self.pattern, self.at)
        if second is not None:
            shown = match[0] + second[0]
            raise RegexpError(f"invalid nested repetition operator: `{shown}`")

    def _group(self) -> None:
        pattern = self.pattern
        self.at += 1
        if pattern.startswith("?", self.at):
            for prefix in ("?P<", "?<"):
                is_name = pattern.startswith(prefix, self.at) and pattern[
                    self.at + len(prefix) : self.at + len(prefix) + 1
                ] not in ("=", "!")
                if is_name:
                    self.at += len(prefix)
                    self.out.append("(?P<")
                    return
            snippet = pattern[self.at - 1 : self.at + 2]
            raise RegexpError(f"invalid or unsupported Perl syntax: `{snippet}`")
        self.out.append("(")

    def _escape(self, in_class: bool) -> None:
        pattern = self.pattern
        if self.at + 1 >= len(pattern):
            raise RegexpError("trailing backslash at end of expression: ``")
        char = pattern[self.at + 1]
        self.at += 2
        out = self.out
        if char == "Q" and not in_class:
            stop = pattern.find("\\E", self.at)
            stop = len(pattern) if stop < 0 else stop
            out.append(re.escape(pattern[self.at : stop]))
            self.at = min(len(pattern), stop + 2)
        elif char in "pP":
            self._property(char == "P", in_class)
        elif char == "z" and not in_class:
            out.append("\\Z")
        elif char == "A" and not in_class:
            out.append("\\A")
        elif char == "x" and pattern.startswith("{", self.at):
            stop = pattern.find("}", self.at)
            try:
                out.append(re.escape(chr(int(pattern[self.at + 1 : stop], 16))))
            except ValueError:
                raise RegexpError("invalid escape sequence: `\\x{`") from None
            self.at = stop + 1
        elif char in "123456789" or (char.isalnum() and char not in _ESCAPES):
            raise RegexpError(f"invalid escape sequence: `\\{char}`")
        elif in_class and char in "bB":
            raise RegexpError(f"invalid escape sequence: `\\{char}`")
        else:
            out.append("\\" + char)

    def _class(self) -> None:
        pattern, out = self.pattern, self.out
        self.at += 1
        out.append("[")
        if pattern.startswith("^", self.at):
            out.append("^")
            self.at += 1
        if pattern.startswith("]", self.at):
            out.append("\\]")
            self.at += 1
        while self.at < len(pattern):
            char = pattern[self.at]
            if char == "]":
                out.append("]")
                self.at += 1
                return
            if char == "[" and pattern.startswith(":", self.at + 1):
                stop = pattern.find(":]", self.at + 2)
                if stop > 0:
                    self._posix(pattern[self.at + 2 : stop])
                    self.at = stop + 2
                    continue
            if char == "\\":
                self._escape(True)
                continue
            # Python warns of what might become set operations.
            out.append("\\" + char if char in "[&~|" else char)
            self.at += 1

    def _posix(self, name: str) -> None:
        negated = name.startswith("^")
        found = _POSIX.get(name.removeprefix("^"))
        if found is None:
            raise RegexpError(f"invalid character class range: `[:{name}:]`")
        self.out.append(_complement(found) if negated else found)

    def _property(self, negated: bool, in_class: bool) -> None:
        pattern = self.pattern
        if pattern.startswith("{", self.at):
            stop = pattern.find("}", self.at)
            name = pattern[self.at + 1 : stop]
            self.at = stop + 1
        else:
            name = pattern[self.at : self.at + 1]
            self.at += 1
        if name.startswith("^"):
            name, negated = name[1:], not negated
        ranges = _unicode_ranges(name)
        if negated:
            ranges = _complement(ranges)
        self.out.append(ranges if in_class else f"[{ranges}]")


def _flag_group(on: str, off: str) -> str:
    on = "".join(sorted(set(on) & set("ims")))
    off = "".join(sorted(set(off) & set("ims")))
    return f"(?{on}{'-' + off if off else ''}:" if on or off else "(?:"


@lru_cache(maxsize=64)
def _unicode_ranges(name: str) -> str:
    """The inside of a character class for a general category or a script."""
    prefix = _SCRIPTS.get(name)
    known = name and name[0] in "LMNPSZC" and len(name) <= 2
    if prefix is None and not known:
        raise RegexpError(f"invalid character class range: `\\p{{{name}}}`")
    parts: list[str] = []
    start = -1
    for code in range(sys.maxunicode + 2):
        inside = False
        if code <= sys.maxunicode:
            char = chr(code)
            if prefix is not None:
                inside = unicodedata.name(char, "").startswith(prefix)
            else:
                inside = unicodedata.category(char).startswith(name)
        if inside and start < 0:
            start = code
        elif not inside and start >= 0:
            parts.append(_range(start, code - 1))
            start = -1
    return "".join(parts)


def _range(first: int, last: int) -> str:
    return _char(first) if first == last else f"{_char(first)}-{_char(last)}"


def _char(code: int) -> str:
    return f"\\U{code:08x}"


@lru_cache(maxsize=64)
def _complement(ranges: str) -> str:
    """The class of all characters that ``ranges`` leaves out."""
    inside = re.compile(f"[{ranges}]")
    parts: list[str] = []
    start = -1
    for code in range(sys.maxunicode + 2):
        outside = code <= sys.maxunicode and not inside.match(chr(code))
        if outside and start < 0:
            start = code
        elif not outside and start >= 0:
            parts.append(_range(start, code - 1))
            start = -1
    return "".join(parts)


@lru_cache(maxsize=512)
def matcher(pattern: str) -> Callable[[str], bool]:
    """Whether a text has a match, in a time that grows with the text and no faster.

    :raises RegexpError: Go would not compile it.
    """
    compiled = compile_go(pattern)
    linear = linear_matcher(compiled.pattern, re.ASCII)
    if linear is not None:
        return linear.matches
    search = compiled.search
    return lambda text: search(text) is not None
