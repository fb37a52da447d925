"""What is remembered by the shape of a new object is what comparing it gives."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.managedfields import creation
from pilothouse.apimachinery.managedfields.creation import fields_of_new
from pilothouse.apimachinery.managedfields.typed import TypedError
from pilothouse.apis.schemas import definition

_CORE = "io.k8s.api.core.v1."
_SCALARS = st.sampled_from(["", "a", "b", 0, 1, True, False, 1.0, 0.0, None])
_ports = st.lists(
    st.fixed_dictionaries(
        {"containerPort": st.sampled_from([1, 2, True])},
        optional={"protocol": st.sampled_from(["TCP", "UDP", ""]), "name": _SCALARS},
    ),
    max_size=3,
)
_containers = st.lists(
    st.none()
    | st.fixed_dictionaries(
        {"name": st.sampled_from(["a", "b"])},
        optional={
            "image": _SCALARS,
            "args": st.lists(st.sampled_from(["x", "y"]), max_size=2),
            "ports": _ports,
            "resources": st.fixed_dictionaries({}, optional={"limits": st.just({"cpu": "1"})}),
            "env": st.just([]) | st.just([{"name": "E", "value": ""}]),
        },
    ),
    max_size=2,
)
_metadata = st.fixed_dictionaries(
    {"name": st.sampled_from(["p", "q"])},
    optional={
        "labels": st.none() | st.dictionaries(st.sampled_from(["l", "m"]), _SCALARS, max_size=2),
        "finalizers": st.lists(st.sampled_from(["f", "g"]), max_size=3),
        "ownerReferences": st.lists(
            st.fixed_dictionaries({"uid": st.sampled_from(["1", "2"])}), max_size=2
        ),
    },
)
_pods = st.fixed_dictionaries(
    {"kind": st.just("Pod"), "apiVersion": st.just("v1"), "metadata": _metadata},
    optional={
        "spec": st.fixed_dictionaries(
            {},
            optional={
                "containers": _containers,
                "nodeName": _SCALARS,
                "hostNetwork": _SCALARS,
                "securityContext": st.none() | st.just({}) | st.just({"runAsUser": 0}),
                "nodeSelector": st.just({}) | st.just({"": ""}),
            },
        ),
        "status": st.none() | st.fixed_dictionaries({}, optional={"phase": _SCALARS}),
    },
)
_events = st.fixed_dictionaries(
    {
        "metadata": _metadata,
        "involvedObject": st.dictionaries(st.sampled_from(["kind", "name"]), _SCALARS),
    },
    optional={
        "count": _SCALARS,
        "eventTime": _SCALARS,
        "source": st.none() | st.dictionaries(st.sampled_from(["component", "host"]), _SCALARS),
        "series": st.none() | st.fixed_dictionaries({"count": _SCALARS}),
    },
)


def _agrees(obj: dict[str, Any], kind: str, reset: tuple[tuple[str, ...], ...]) -> None:
    schema = definition(_CORE + kind)
    try:
        wanted = creation._compared(creation.tracked_view(obj), schema, reset)
    except TypedError as error:
        with pytest.raises(TypedError, match=str(error).replace("[", r"\[")):
            fields_of_new(obj, schema, reset)
        return
    found = fields_of_new(obj, schema, reset)
    assert found == wanted
    assert list(found) == list(wanted)


@given(_pods, st.sampled_from([(), (("status",),)]))
def test_pods(obj: dict[str, Any], reset: tuple[tuple[str, ...], ...]) -> None:
    _agrees(obj, "Pod", reset)


@given(_events)
def test_events(obj: dict[str, Any]) -> None:
    _agrees(obj, "Event", ())


def test_replicas_share_their_fields() -> None:
    schema = definition(_CORE + "Pod")
    one, other = (
        {"metadata": {"generateName": "r-", "labels": {"app": name}}, "spec": {"nodeName": name}}
        for name in ("a", "b")
    )
    assert fields_of_new(one, schema, ()) is fields_of_new(other, schema, ())


def test_big_objects_are_not_remembered() -> None:
    schema = definition(_CORE + "ConfigMap")
    before = len(creation._known)
    obj = {"metadata": {}, "data": {f"k{i}": "v" for i in range(400)}}
    assert len(fields_of_new(obj, schema, ())["f:data"]) == 401
    obj = {"metadata": {"finalizers": ["a" * 100_000]}}
    assert fields_of_new(obj, schema, ()) == fields_of_new(obj, schema, ())
    assert len(creation._known) == before
