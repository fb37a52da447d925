"""The store keeps its indices equal to what a scan would find."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from pilothouse.kubeclient.cache.store import Store

_NAMES = st.sampled_from(["a", "b", "c"])
_STEPS = st.lists(
    st.tuples(st.sampled_from(["set", "remove"]), _NAMES, _NAMES, st.lists(_NAMES, unique=True)),
    max_size=40,
)


def _obj(namespace, name, tags):
    return {"metadata": {"namespace": namespace, "name": name}, "tags": tags}


@given(_STEPS)
def test_indices_equal_a_scan(steps):
    store = Store()
    store.add_index("tags", lambda o: o["tags"])
    for verb, namespace, name, tags in steps:
        if verb == "set":
            store.set(_obj(namespace, name, tags))
        else:
            store.remove(f"{namespace}/{name}")
    everything = store.list()
    for value in "abc":
        assert _ids(store.by_index("tags", value)) == _ids(
            [o for o in everything if value in o["tags"]]
        )
        assert _ids(store.list(value)) == _ids(
            [o for o in everything if o["metadata"]["namespace"] == value]
        )
    assert set(store.index_values("tags")) == {t for o in everything for t in o["tags"]}


def test_index_added_late_covers_present_objects():
    store = Store()
    store.set(_obj("n", "x", ["t"]))
    store.add_index("tags", lambda o: o["tags"])
    assert len(store.by_index("tags", "t")) == 1


def _ids(objects):
    return sorted(id(o) for o in objects)
