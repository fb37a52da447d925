"""Patterns that would keep ``re`` busy for ever; they match as ``re`` does, only sooner."""

from __future__ import annotations

import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.cel import types
from pilothouse.cel.environment import Environment
from pilothouse.cel.linear_matching import linear_matcher
from pilothouse.cel.regular_expressions import RegexpError, compile_go, matcher

_EVIL = (
    "(a+)+$",
    "^(a|a)*$",
    "^(a|aa)+$",
    "^([a-z]+)*$",
    r"^(\w+\s?)*$",
    "(x+x+)+y",
    "^((a+b?)*c?)*$",
    r"^(([a-z])+.)+[A-Z]([a-z])+$",
)
_KIND = (
    r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$",
    "^[a-z]+$",
    "^(ab|cd)*$",
    r"^\d{1,3}(\.\d{1,3}){3}$",
    "a*b*c*",
)


@pytest.mark.parametrize("pattern", _EVIL)
def test_evil_patterns_end(pattern: str) -> None:
    started = time.process_time()
    for text in ("a" * 2000 + "!", "x" * 2000, "a a" * 500 + "!", "ab" * 1000 + "!"):
        matcher(pattern)(text)
    assert time.process_time() - started < 2


@pytest.mark.parametrize("pattern", _KIND)
def test_others_stay_with_re(pattern: str) -> None:
    assert linear_matcher(compile_go(pattern).pattern, re.ASCII) is None


@given(st.sampled_from(_EVIL), st.text("abcxyA1 .!\n", max_size=12))
def test_answers_are_those_of_re(pattern: str, text: str) -> None:
    linear = linear_matcher(compile_go(pattern).pattern, re.ASCII)
    assert linear is not None
    assert linear.matches(text) == (compile_go(pattern).search(text) is not None)


_PIECES = st.recursive(
    st.sampled_from(["a", "b", "[ab]", "[^a]", ".", r"\w", "(?i:A)"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map(lambda pair: f"({pair[0]}|{pair[1]})"),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{1,3}", "*?", "{2,}"])).map(
            lambda pair: f"({pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=6,
)


@given(_PIECES, st.booleans(), st.booleans(), st.lists(st.text("abA\n", max_size=7), max_size=5))
def test_any_automaton_agrees_with_re(
    body: str, starts: bool, ends: bool, texts: list[str]
) -> None:
    pattern = f"{'^' if starts else ''}{body}{'$' if ends else ''}"
    compiled = compile_go(pattern)
    linear = linear_matcher(compiled.pattern, re.ASCII)
    if linear is not None:
        for text in texts:
            assert linear.matches(text) == (compiled.search(text) is not None), (pattern, text)


def test_rules_with_evil_patterns_end() -> None:
    environment = Environment({"s": types.STRING})
    text = "s.matches('^(a+)+$') || s.find('(a+)+b') != '' || s.findAll('(a|a)*c').size() > 0"
    assert environment.compile(text).evaluate({"s": "a" * 3000 + "!"}) is False


@pytest.mark.parametrize("pattern", ["a++", "a**", "(?=a)", r"\1", "a{2}{3}", "(", "[b-a]"])
def test_what_re2_refuses_is_refused(pattern: str) -> None:
    with pytest.raises(RegexpError, match="error parsing regexp"):
        compile_go(pattern)
