"""Times of microseconds by the short way are what the long way gives."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apiserver.codec import go_values
from pilothouse.apiserver.codec.go_values import GoValueError, micro_time

_TEXTS = st.datetimes().map(lambda t: t.isoformat(timespec="microseconds") + "Z")
_NEAR = st.from_regex(
    r"\A[0-2]\d{3}-[01]\d-[0-3]\d[T ][0-2]\d:[0-6]\d:[0-6]\d[.,]\d{5}[\dZ٣][Zz]\Z"
)


@given(_TEXTS | _NEAR | st.just("0001-01-01T00:00:00.000000Z") | st.text(max_size=30))
def test_micro_times(text: str) -> None:
    try:
        wanted = go_values._any_micro_time(text)
    except ValueError:
        with pytest.raises(GoValueError):
            micro_time(text)
    else:
        assert micro_time(text) == wanted


def test_zero_is_none_with_any_fraction() -> None:
    assert micro_time("0001-01-01T00:00:00.000005Z") is None
