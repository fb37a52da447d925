"""The parser: shapes, places, and that nothing makes it crash or hang."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pilothouse.cel import ast
from pilothouse.cel.environment import MACROS, Environment
from pilothouse.cel.interfaces import CompileError, EvaluationError
from pilothouse.cel.parser import parse
from pilothouse.cel.source import Source
from pilothouse.cel.types import DYN

_ENVIRONMENT = Environment({"x": DYN, "y": DYN})
_PIECES = (
    "x y 1 2u 0x1f 1.5 'a' \"b\" b'c' r'\\d' true false null [ ] { } ( ) . , : ? ?. [? + - * / % ! "
    "== != < <= > >= && || in has( .all( .exists( .map( .filter( .size() .optMap( .matches( "
    "int( string( timestamp( duration( quantity( ip( // \\ ` @ # \n é 9223372036854775808"
).split(" ")


def shape(text: str) -> str:
    """The tree, with all calls written out."""

    def show(expr: ast.Expr) -> str:
        if isinstance(expr, ast.Literal):
            return repr(expr.value)
        if isinstance(expr, ast.Ident):
            return expr.name
        if isinstance(expr, ast.Select):
            inner = f"{show(expr.operand)}.{expr.field}"
            return f"has({inner})" if expr.test_only else inner
        if isinstance(expr, ast.Call):
            args = ", ".join(map(show, expr.args))
            target = "" if expr.target is None else f"{show(expr.target)}."
            return f"{target}{expr.function}({args})"
        if isinstance(expr, ast.Comprehension):
            return f"{expr.kind}({show(expr.range)}, {show(expr.step)})"
        return type(expr).__name__

    return show(parse(Source(text), MACROS))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1 + 2 * 3 - 4", "_-_(_+_(1, _*_(2, 3)), 4)"),
        ("a && b && c || d", "_||_(_&&_(a, b, c), d)"),
        ("a ? b : c ? d : e", "_?_:_(a, b, _?_:_(c, d, e))"),
        ("-1 - -x", "_-_(-1, -_(x))"),
        ("!!a == !!!b", "_==_(a, !_(b))"),
        ("a.b.c(1)[2].?d", "_?._(_[_](a.b.c(1), 2), 'd')"),
        ("has(a.b)", "has(a.b)"),
        ("a.all(i, i)", "all(a, _&&_(@result, i))"),
        (".a.b", ".a.b"),
        ("1 in [1] == true", "_==_(@in(1, ListExpr), True)"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("'\\x41' + r'\\x41'", "_+_('A', '\\\\x41')"),
        ("b'\\xff\\377é'", repr(b"\xff\xff\xc3\xa9")),
    ],
)
def test_shapes(text: str, expected: str) -> None:
    assert shape(text) == expected


def test_errors_point_at_their_place() -> None:
    with pytest.raises(CompileError) as caught:
        _ENVIRONMENT.compile("x.all(i,\n\ti +)")
    assert str(caught.value) == (
        "ERROR: <input>:2:5: Syntax error: mismatched input ')' expecting {'[', '{', '(', '.', "
        "'-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, BYTES, "
        "IDENTIFIER}\n |  i +)\n | ....^"
    )


def test_wide_characters_are_marked_wide() -> None:
    with pytest.raises(CompileError) as caught:
        _ENVIRONMENT.compile("'é' + z")
    assert str(caught.value).endswith("\n | 'é' + z\n | .\uff0e....^")


@pytest.mark.parametrize("text", ["(" * 5000, "[" * 5000, "x" + ".a" * 5000, "-" * 5000, "!" * 99])
def test_depth_is_limited(text: str) -> None:
    with pytest.raises(CompileError):
        _ENVIRONMENT.compile(text)


def test_size_is_limited() -> None:
    with pytest.raises(CompileError, match="code point size exceeds limit: size: 100001"):
        _ENVIRONMENT.compile("x" * 100_001)


def test_long_chains_are_fine() -> None:
    assert _ENVIRONMENT.compile(" + ".join(["1"] * 200)).evaluate({}) == 200
    assert _ENVIRONMENT.compile(" || ".join(["false"] * 2000)).evaluate({}) is False


@given(
    st.one_of(st.text(max_size=40), st.lists(st.sampled_from(_PIECES), max_size=14).map(" ".join))
)
@example("x.map(x, x)")
@example("{x: 1}.transformMap(k, v, v)")
@example("x.exists(x, x.exists(x, x))")
def test_any_text_has_a_value_or_an_error(text: str) -> None:
    try:
        program = _ENVIRONMENT.compile(text)
    except CompileError as error:
        assert str(error)
        return
    for value in (1, "a", [1, 2, "b"], {"a": [True]}, None):
        try:
            program.evaluate({"x": value, "y": value})
        except EvaluationError as error:
            assert str(error)
