from __future__ import annotations

import pytest

from pilothouse.apiserver.apiextensions.go_regexp import RegexpError, compile_go


@pytest.mark.parametrize(
    ("pattern", "text", "found"),
    [
        ("^a$", "a\n", False),
        ("(?m)^a$", "a\nb", True),
        (r"^[[:alpha:]]+\z", "abc", True),
        (r"^[[:^digit:]]$", "1", False),
        (r"^\pL+$", "äö", True),
        (r"^\p{Greek}$", "λ", True),
        (r"^\PL$", "1", True),
        (r"^\d$", "٣", False),
        ("a(?i)b", "aB", True),
        ("(a(?i)b)c", "aBC", False),
        ("(?i:a)b", "AB", False),
        (r"^\Qa.b\E$", "axb", False),
        (r"^[]a]$", "]", True),
        (r"^(?P<x>a)\x{62}$", "ab", True),
        (r"^[&&~]+$", "&~", True),
    ],
)
def test_means_what_go_means(pattern: str, text: str, found: bool) -> None:
    assert (compile_go(pattern).search(text) is not None) is found


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("(", "error parsing regexp: missing closing ): `(`"),
        ("[a", "error parsing regexp: missing closing ]: `[a`"),
        ("*a", "error parsing regexp: missing argument to repetition operator: `*`"),
        (r"\y", r"error parsing regexp: invalid escape sequence: `\y`"),
        ("(?=a)", "error parsing regexp: invalid or unsupported Perl syntax: `(?=`"),
        (r"(a)\1", r"error parsing regexp: invalid escape sequence: `\1`"),
        ("a\\", "error parsing regexp: trailing backslash at end of expression: ``"),
    ],
)
def test_refuses_what_go_refuses(pattern: str, message: str) -> None:
    with pytest.raises(RegexpError) as error:
        compile_go(pattern)
    assert str(error.value) == message
