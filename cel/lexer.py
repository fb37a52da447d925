"""From text to tokens (cel-go's CEL.g4)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from pilothouse.cel.source import Source

_ESCAPE = (
    r"\\(?:[abfnrtv\"'\\?`]|[0-3][0-7][0-7]|[xX][0-9a-fA-F]{2}"
    r"|u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8})"
)
_STRING = (
    rf'(?:"""(?:{_ESCAPE}|[^\\])*?"""'
    rf"|'''(?:{_ESCAPE}|[^\\])*?'''"
    rf'|"(?:{_ESCAPE}|[^\\"\n\r])*"'
    rf"|'(?:{_ESCAPE}|[^\\'\n\r])*'"
    r'|[rR]"""[\s\S]*?"""'
    r"|[rR]'''[\s\S]*?'''"
    r'|[rR]"[^"\n\r]*"'
    r"|[rR]'[^'\n\r]*')"
)
_TOKEN = re.compile(
    rf"(?P<SPACE>[\t \r\n\f]+|//[^\n]*)"
    rf"|(?P<BYTES>[bB]{_STRING})"
    rf"|(?P<STRING>{_STRING})"
    r"|(?P<NUM_FLOAT>[0-9]+\.[0-9]+(?:[eE][+-]?[0-9]+)?|[0-9]+[eE][+-]?[0-9]+"
    r"|\.[0-9]+(?:[eE][+-]?[0-9]+)?)"
    r"|(?P<NUM_UINT>0x[0-9a-fA-F]+[uU]|[0-9]+[uU])"
    r"|(?P<NUM_INT>0x[0-9a-fA-F]+|[0-9]+)"
    r"|(?P<IDENTIFIER>[A-Za-z_][A-Za-z0-9_]*)"
    r"|(?P<ESC_IDENTIFIER>`[A-Za-z0-9_.\-/ ]+`)"
    r"|(?P<OP>==|!=|<=|>=|&&|\|\||[\[\]{}().,\-!?:+*/%<>])"
)
_WORDS = frozenset(("in", "true", "false", "null"))
_UNFINISHED = re.compile(
    rf"[bB]?(?:[rR](?:\"[^\n\r]*|'[^\n\r]*)"
    rf"|\"(?:{_ESCAPE}|[^\\\n\r])*|'(?:{_ESCAPE}|[^\\\n\r])*)(?:\\(?:[xX][0-9a-fA-F]*|.))?"
    r"|[&|=]|`[A-Za-z0-9_.\-/ ]*"
)
"""What may become a token, up to where it can't any more."""


class Token(NamedTuple):
    """``kind`` is the class of the grammar, or the text of operators and words."""

    kind: str
    text: str
    offset: int


def tokenize(source: Source) -> list[Token]:
    """All tokens with ``<EOF>`` at the end; what is none is reported and left out."""
    text = source.text
    tokens: list[Token] = []
    at, end = 0, len(text)
    match = _TOKEN.match
    while at < end:
        found = match(text, at)
        if found is None:
            bad = _UNFINISHED.match(text, at)
            stop = at + 1 if bad is None else min(bad.end() + (text[at] != "\\"), end)
            if bad is not None and bad.group()[-2:-1] == "\\":
                stop = bad.end()
            shown = text[at:stop]
            source.report(at, f"Syntax error: token recognition error at: '{shown}'")
            at = stop
            continue
        kind = found.lastgroup or ""
        if kind != "SPACE":
            value = found.group()
            known = kind == "OP" or (kind == "IDENTIFIER" and value in _WORDS)
            tokens.append(Token(value if known else kind, value, at))
        at = found.end()
    tokens.append(Token("<EOF>", "<EOF>", end))
    return tokens
