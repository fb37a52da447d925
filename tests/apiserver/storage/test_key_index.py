"""KeyIndex is a sorted set."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apiserver.storage.key_index import KeyIndex, prefix_end

_keys = st.text("ab/\U0010ffff0", max_size=4)


@given(st.lists(st.tuples(st.booleans(), _keys), max_size=80), _keys, _keys, st.integers(1, 40))
def test_it_is_a_sorted_set(
    changes: list[tuple[bool, str]], prefix: str, start: str, read_every: int
) -> None:
    index, model = KeyIndex(), set[str]()
    for number, (wanted, key) in enumerate(changes):
        if wanted and key not in model:
            model.add(key)
            index.add(key)
        elif not wanted and key in model:
            model.remove(key)
            index.remove(key)
        if number % read_every == 0:
            assert index.count("") == len(model)
    for twin in (index, index.copy()):
        keys, low, high = twin.between(prefix, start)
        found = sorted(key for key in model if key.startswith(prefix) and key >= start)
        assert keys[low:high] == found


@given(_keys, _keys)
def test_prefix_end(prefix: str, key: str) -> None:
    end = prefix_end(prefix)
    inside = key >= prefix and (not end or key < end)
    assert inside == key.startswith(prefix)


def test_a_copy_is_independent() -> None:
    index = KeyIndex(["a"])
    twin = index.copy()
    twin.add("b")
    index.remove("a")
    assert (index.count(""), twin.count("")) == (0, 2)
