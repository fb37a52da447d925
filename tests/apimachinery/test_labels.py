"""Label selectors against the facts of upstream's selector_test.go."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery import labels
from pilothouse.apimachinery.labels import Requirement, Selector, parse_selector


@pytest.mark.parametrize(
    "text",
    ["x=a,y=b,z=c", "", "x!=a,y=b", "x=", "x= ", "x=,z= ", "x= ,z= ", "!x", "x>1", "x>1,z<5"],
)
def test_good_selectors_print_themselves(text: str) -> None:
    assert str(parse_selector(text)) == text.replace(" ", "")


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("x==a==b", "found '==', expected: ',' or 'end of string'"),
        (
            "!x=a",
            "found '=', expected: ',' or 'end of string'",
        ),
        (
            "x<a",
            "unable to parse requirement: values[0]: Invalid value: \"a\": for 'Gt', 'Lt' "
            "operators, the value must be an integer",
        ),
        ("x in", "unable to parse requirement: found '' expected: '('"),
        ("x in (a", "unable to parse requirement: found '', expected: ',' or ')'"),
        (
            "x y",
            "unable to parse requirement: found 'y', expected: in, notin, =, ==, !=, gt, lt",
        ),
        (",", "found ',', expected: !, identifier, or 'end of string'"),
        ("a,", "found '', expected: identifier after ','"),
        ("!", "unable to parse requirement: found '', expected: identifier"),
        (
            "a/b/c=d",
            'unable to parse requirement: <nil>: Invalid value: "a/b/c": a valid label key must '
            "consist of alphanumeric characters, '-', '_' or '.', and must start and end with an "
            "alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
            "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS "
            "subdomain prefix and '/' (e.g. 'example.com/MyName')",
        ),
    ],
)
def test_bad_selectors_have_upstreams_text(text: str, error: str) -> None:
    with pytest.raises(ValueError) as raised:
        parse_selector(text)
    assert str(raised.value) == error


@pytest.mark.parametrize(
    ("text", "values", "matches"),
    [
        ("", {"x": "y"}, True),
        ("x=y,z=w", {"x": "y", "z": "w"}, True),
        ("x!=y,z!=w", {"x": "z", "z": "a"}, True),
        ("notin=in", {"notin": "in"}, True),
        ("x", {"x": "z"}, True),
        ("!x", {"y": "z"}, True),
        ("x>1", {"x": "2"}, True),
        ("x<1", {"x": "0"}, True),
        ("x>1", {"x": "two"}, False),
        ("x>1", {}, False),
        ("x=z", {}, False),
        ("x=y,z=w", {"x": "w", "z": "w"}, False),
        ("x!=y,z!=w", {"x": "z", "z": "w"}, False),
        ("x", {"y": "z"}, False),
        ("!x", {"x": "z"}, False),
        ("x in (a,,b)", {"x": ""}, True),
        ("x in (a,b)", {"x": "c"}, False),
        ("x notin (a,b)", {}, True),
        ("x notin (a,b)", {"x": "a"}, False),
        ("a=1,b=2,c=3", {"a": "1", "b": "2", "c": "3"}, True),
        ("a=1,b=2,c=3", {"a": "1", "b": "2"}, False),
    ],
)
def test_matching(text: str, values: dict[str, str], matches: bool) -> None:
    assert parse_selector(text).matches(values) is matches


def test_no_labels_count_as_none() -> None:
    assert parse_selector("!a,b!=c").matches(None)
    assert not parse_selector("a").matches(None)
    assert not parse_selector("a=b").matches(None)


def test_values_and_keys_are_sorted() -> None:
    assert str(parse_selector("b in (z,a), a")) == "a,b in (a,z)"


def test_label_selector() -> None:
    convert = labels.selector_from_label_selector
    assert convert(None).nothing
    assert not convert(None).matches({})
    assert convert({}).empty
    assert str(convert({"matchLabels": {"b": "1", "a": "2"}})) == "a=2,b=1"
    selector = convert(
        {
            "matchLabels": {"app": "x"},
            "matchExpressions": [
                {"key": "tier", "operator": "In", "values": ["a", "b"]},
                {"key": "old", "operator": "DoesNotExist"},
            ],
        }
    )
    assert str(selector) == "app=x,!old,tier in (a,b)"
    assert selector.matches({"app": "x", "tier": "b"})
    assert not selector.matches({"app": "x", "tier": "b", "old": ""})
    with pytest.raises(ValueError, match='"Like" is not a valid label selector operator'):
        convert({"matchExpressions": [{"key": "a", "operator": "Like"}]})
    with pytest.raises(ValueError, match="values set can't be empty"):
        convert({"matchExpressions": [{"key": "a", "operator": "In"}]})


def test_requires_exact_and_add() -> None:
    selector = parse_selector("a=b,c in (d),e in (f,g)")
    assert selector.requires_exact("a") == "b"
    assert selector.requires_exact("c") == "d"
    assert selector.requires_exact("e") is None
    assert selector.add(Requirement("z", labels.EXISTS)).requirements[-1].key == "z"
    assert labels.NOTHING.add(Requirement("z", labels.EXISTS)) is labels.NOTHING


def test_selectors_compare_by_value() -> None:
    assert parse_selector("a=b, c") == parse_selector("c,a=b")
    assert labels.everything() != labels.nothing()
    assert len({parse_selector("a=b"), labels.selector_from_map({"a": "b"})}) == 1
    assert labels.format_label_selector({}) == "<none>"


_NAMES = st.sampled_from(["a", "b", "app", "example.com/x"])
_VALUES = st.sampled_from(["", "1", "22", "x", "in"])
_REQUIREMENTS = st.one_of(
    st.builds(
        lambda k, op, v: Requirement(k, op, [v]),
        _NAMES,
        st.sampled_from([labels.EQUALS, labels.DOUBLE_EQUALS, labels.NOT_EQUALS]),
        _VALUES,
    ),
    st.builds(
        lambda k, op, v: Requirement(k, op, sorted(set(v))),
        _NAMES,
        st.sampled_from([labels.IN, labels.NOT_IN]),
        st.lists(_VALUES, min_size=1),
    ),
    st.builds(
        lambda k, op: Requirement(k, op),
        _NAMES,
        st.sampled_from([labels.EXISTS, labels.DOES_NOT_EXIST]),
    ),
    st.builds(
        lambda k, op, v: Requirement(k, op, [str(v)]),
        _NAMES,
        st.sampled_from([labels.GREATER_THAN, labels.LESS_THAN]),
        st.integers(0, 30),
    ),
)


@given(st.lists(_REQUIREMENTS, max_size=4), st.dictionaries(_NAMES, _VALUES))
def test_the_text_of_a_selector_means_the_selector(
    requirements: list[Requirement], values: dict[str, str]
) -> None:
    selector = Selector(requirements)
    again = parse_selector(str(selector))
    assert again == selector
    assert again.matches(values) is all(r.matches(values) for r in requirements)


@given(st.text(alphabet="ab=!,()<> in", max_size=14))
def test_any_text_parses_or_is_refused(text: str) -> None:
    try:
        selector = parse_selector(text)
    except ValueError:
        return
    assert parse_selector(str(selector)) == selector
