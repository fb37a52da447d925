"""Evaluation: errors that logic absorbs, arithmetic as int64, budgets, equality."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.cel import types
from pilothouse.cel.environment import Environment
from pilothouse.cel.interfaces import Budget, CompileError, CostLimitExceeded, EvaluationError
from pilothouse.cel.values import MAX_INT, MIN_INT, Duration, Optional, Timestamp, Uint, equals

_ENVIRONMENT = Environment(
    {
        "a": types.INT,
        "b": types.INT,
        "d": types.DYN,
        "l": types.list_of(types.INT),
        "p": types.BOOL,
        "q": types.BOOL,
    }
)


def value(text: str, **activation: Any) -> Any:
    return _ENVIRONMENT.compile(text).evaluate(activation)


def error(text: str, **activation: Any) -> str:
    with pytest.raises(EvaluationError) as caught:
        value(text, **activation)
    return str(caught.value)


@pytest.mark.parametrize(
    "text", ["d.x || true", "true || d.x", "!(d.x && false)", "!(false && d.x)"]
)
def test_logic_absorbs_errors(text: str) -> None:
    assert value(text, d={}) is True


@pytest.mark.parametrize("text", ["d.x || false", "false || d.x", "d.x && true", "true && d.x"])
def test_logic_keeps_errors_that_matter(text: str) -> None:
    assert error(text, d={}) == "no such key: x"


def test_folds_absorb_as_logic_does() -> None:
    rows = [{}, {"n": 1}]
    assert value("d.exists(r, r.n == 1)", d=rows) is True
    assert value("d.all(r, r.n == 2)", d=rows) is False
    assert error("d.all(r, r.n == 1)", d=rows) == "no such key: n"
    assert error("d.exists_one(r, r.n == 1)", d=rows) == "no such key: n"


@given(st.integers(MIN_INT, MAX_INT), st.integers(MIN_INT, MAX_INT))
def test_int_arithmetic_is_checked(a: int, b: int) -> None:
    for symbol, exact in (("+", a + b), ("-", a - b), ("*", a * b)):
        if MIN_INT <= exact <= MAX_INT:
            assert value(f"a {symbol} b", a=a, b=b) == exact
        else:
            assert error(f"a {symbol} b", a=a, b=b) == "integer overflow"
    if b == 0:
        assert error("a / b", a=a, b=b) == "division by zero"
        assert error("a % b", a=a, b=b) == "modulus by zero"
    elif not (a == MIN_INT and b == -1):
        quotient, rest = value("a / b", a=a, b=b), value("a % b", a=a, b=b)
        assert quotient * b + rest == a
        assert abs(rest) < abs(b)
        assert rest == 0 or (rest < 0) == (a < 0)


_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-3, 3),
        st.integers(0, 3).map(Uint),
        st.floats(-3, 3, allow_nan=False).map(lambda f: round(f * 2) / 2),
        st.sampled_from(["", "a", "1"]),
        st.sampled_from([b"", b"a"]),
        st.integers(0, 2).map(Duration),
        st.integers(0, 2).map(Timestamp),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "b"]), inner, max_size=2),
        inner.map(Optional),
    ),
    max_leaves=6,
)


@given(_VALUES, _VALUES)
def test_equality_is_an_equivalence(a: Any, b: Any) -> None:
    assert equals(a, a)
    assert equals(a, b) == equals(b, a)
    assert value("d[0] == d[1]", d=[a, b]) == equals(a, b)
    assert value("d[0] != d[1]", d=[a, b]) is not equals(a, b)


def test_a_bool_is_no_number() -> None:
    assert not equals(True, 1)
    assert not equals([False], [0])
    assert value("d == {'a': 1}", d={"a": True}) is False
    assert value("1 in d", d=[True]) is False
    assert value("true in d", d=[1, True]) is True


def test_one_evaluation_has_a_limit() -> None:
    program = _ENVIRONMENT.compile("l.all(w, l.all(x, l.all(y, l.all(z, w + x + y + z >= 0))))")
    budget = Budget(10_000_000)
    with pytest.raises(CostLimitExceeded, match="actual cost limit exceeded"):
        program.evaluate({"l": list(range(100))}, budget)
    assert 0 < budget.remaining < 10_000_000


def test_logic_does_not_absorb_the_limit() -> None:
    text = "l.all(w, l.all(x, l.all(y, l.all(z, false || true)))) || true"
    with pytest.raises(CostLimitExceeded):
        _ENVIRONMENT.compile(text).evaluate({"l": list(range(100))})


def test_programs_share_a_budget() -> None:
    program, budget = _ENVIRONMENT.compile("a + b == 3"), Budget(10)
    cost = program.cost({"a": 1, "b": 2})
    program.evaluate({"a": 1, "b": 2}, budget)
    assert budget.remaining == 10 - cost == 6
    program.evaluate({"a": 1, "b": 2}, budget)
    with pytest.raises(CostLimitExceeded):
        program.evaluate({"a": 1, "b": 2}, budget)


def test_errors_cost_too() -> None:
    budget = Budget(100)
    with pytest.raises(EvaluationError):
        _ENVIRONMENT.compile("d.x == 1").evaluate({"d": {}}, budget)
    assert budget.remaining < 100


def test_what_is_used_is_known() -> None:
    program = _ENVIRONMENT.compile("l.exists(a, a == b)")
    assert program.uses("b") and program.uses("l") and not program.uses("a")
    assert error("a == 1") == "no such attribute(s): a"


def test_lazy_mappings_are_asked_only_for_what_is_used() -> None:
    asked: list[str] = []

    class Lazy(dict[str, Any]):
        def __missing__(self, key: str) -> Any:
            asked.append(key)
            return 7

    assert value("d.x == 7 || d.y == 7", d=Lazy()) is True
    assert asked == ["x"]


def test_types_must_fit_at_run_time_too() -> None:
    assert error("d + 1", d="a") == "no such overload"
    assert error("d.startsWith('a')", d=1) == "no such overload"
    assert error("d.sum() == 1", d=["a"]) == "no such overload: sum(list)"
    assert error("a < b", a=None, b=1) == "no such overload: _<_"
    assert error("d < 1", d="a") == "no such overload"
    assert error("d - 1", d=True) == "no such overload: _-_"
    assert error("d.all(x, true)", d=1) == "got 'types.Int', expected iterable type"
    assert error("!d", d=1) == "no such overload"


def test_errors_are_kept_per_environment() -> None:
    for _ in range(2):
        with pytest.raises(CompileError, match="undeclared reference to 'nope'"):
            _ENVIRONMENT.compile("nope")
    assert _ENVIRONMENT.compile("a") is _ENVIRONMENT.compile("a")
