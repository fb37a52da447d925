"""Quantities against the facts of upstream's quantity_test.go."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.quantity import (
    FORMAT_WRONG,
    NUMERIC_WRONG,
    SUFFIX_WRONG,
    Quantity,
    QuantityError,
    canonical,
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", "0"), ("0Ki", "0"), ("0.0", "0"), ("1.5", "1500m"), ("1.5Gi", "1536Mi"),
        ("0.5", "500m"), ("100m", "100m"), ("1024Ki", "1Mi"), ("1000Ki", "1000Ki"),
        ("1000k", "1M"), ("12e6", "12e6"), ("1E6", "1E6"), ("1.3E+6", "1300e3"),
        ("1E-3", "1E-3"), ("50k", "50k"), ("1e14", "100e12"), ("100.035k", "100.035k"),
        ("0.05Gi", "53687091200m"), ("0.5Mi", "512Ki"), ("1.1Ki", "1126400m"),
        ("0.3Ki", "307200m"), ("500Ki", "500Ki"), ("1023", "1023"), ("0.1m", "100u"),
        ("3.001n", "4n"), ("0.0000000001", "1n"), ("0.5e-9", "1e-9"), ("0.00000012345", "124n"),
        ("9Ei", "9223372036854775807"), ("9223372036854775807Ki", "9223372036854775807"),
        ("12E", "12E"), ("-1.5", "-1500m"), ("1.234", "1.234"), ("+", "0"), ("e3", "0"),
        ("300.2T", "300200G"), ("1e1000000000", "10e999999999"),
    ],
)  # fmt: skip
def test_canonical_form(text: str, expected: str) -> None:
    assert canonical(text) == expected


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", FORMAT_WRONG), ("1.1.M", FORMAT_WRONG), ("1+1.0M", FORMAT_WRONG),
        ("0.1mi", SUFFIX_WRONG), ("0.1am", FORMAT_WRONG), ("aoeu", FORMAT_WRONG),
        (".5i", SUFFIX_WRONG), ("1i", SUFFIX_WRONG), ("-3.01i", SUFFIX_WRONG),
        ("-3.01e-", SUFFIX_WRONG), (" 1", FORMAT_WRONG), ("1 ", FORMAT_WRONG),
        ("1e99999999999999999999", SUFFIX_WRONG), ("Pi", NUMERIC_WRONG), ("1\n", FORMAT_WRONG),
        ("٣", FORMAT_WRONG), ("1" * 5000, NUMERIC_WRONG),
    ],
)  # fmt: skip
def test_parse_errors(text: str, error: str) -> None:
    with pytest.raises(QuantityError) as raised:
        Quantity.parse(text)
    assert str(raised.value) == error


def test_numbers_of_json() -> None:
    assert canonical(5) == "5"
    assert canonical(0.1) == "100m"
    assert canonical(1e21) == "1e+21"
    assert canonical(" 1Gi ") == "1Gi"
    with pytest.raises(QuantityError):
        Quantity.parse(True)
    with pytest.raises(QuantityError):
        Quantity.parse(float("inf"))


def test_values_round_away_from_zero_and_stay_in_int64() -> None:
    assert Quantity.parse("1500m").value() == 2
    assert Quantity.parse("-1500m").value() == -2
    assert Quantity.parse("1n").milli_value() == 1
    assert Quantity.parse("2").milli_value() == 2000
    assert Quantity.parse("10E").value() == (1 << 63) - 1
    assert Quantity.parse("1e1000000000").value() == (1 << 63) - 1
    assert Quantity.parse("1e-1000000000").value() == 1
    assert Quantity.of_milli(1500).round_up(0) == 2
    assert Quantity.parse("1.5").as_float() == 1.5


def test_arithmetic_keeps_the_receivers_format() -> None:
    one_gi, half = Quantity.parse("1Gi"), Quantity.parse("500M")
    assert str(one_gi + half) == "1573741824"
    assert str(half + one_gi) == "1573741824"
    assert str(Quantity.parse("1Gi") + Quantity.parse("1024k")) == "1049576Ki"
    assert str(Quantity(0) + one_gi) == "1Gi"
    assert str(one_gi - one_gi) == "0"
    assert str(-half) == "-500M"
    assert str(half * 3) == "1500M"


def test_comparison_is_by_value() -> None:
    assert Quantity.parse("1Ki") == Quantity.parse("1024")
    assert hash(Quantity.parse("1Ki")) == hash(Quantity.parse("1.024k"))
    assert Quantity.parse("1") > Quantity.parse("999m")
    assert Quantity.parse("1e1000000000") > Quantity.parse("1E")
    assert Quantity.parse("-1e1000000000") < Quantity.parse("1n")
    assert Quantity.parse("-1").cmp(Quantity.parse("1e3")) == -1
    assert Quantity.parse("0") == 0
    assert not Quantity.parse("0Ki")
    assert str(Quantity.parse("1e1000000000") + Quantity.parse("1")) == "10e999999999"


_TEXTS = st.builds(
    lambda sign, whole, fraction, suffix: f"{sign}{whole}{fraction}{suffix}",
    st.sampled_from(["", "-", "+"]),
    st.integers(0, 10**6),
    st.one_of(st.just(""), st.integers(0, 999).map(lambda n: f".{n:03d}")),
    st.sampled_from(["", "m", "k", "M", "G", "Ki", "Mi", "Gi", "e3", "E-2"]),
)


def exact(quantity: Quantity) -> Fraction:
    return quantity.unscaled * Fraction(10) ** quantity.scale


@given(_TEXTS)
def test_the_canonical_text_means_the_same(text: str) -> None:
    quantity = Quantity.parse(text)
    again = Quantity.parse(str(quantity))
    assert again == quantity
    assert hash(again) == hash(quantity)
    assert exact(again) == exact(quantity)
    assert quantity.value() >= exact(quantity) if quantity.sign() > 0 else True


@given(_TEXTS, _TEXTS)
def test_arithmetic_is_exact(a: str, b: str) -> None:
    x, y = Quantity.parse(a), Quantity.parse(b)
    assert exact(x + y) == exact(x) + exact(y)
    assert exact(x - y) == exact(x) - exact(y)
    assert (x < y) is (exact(x) < exact(y))
    assert (x + y) - y == x


@given(st.text(max_size=12))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        quantity = Quantity.parse(text)
    except QuantityError:
        return
    str(quantity)
    quantity.value()
