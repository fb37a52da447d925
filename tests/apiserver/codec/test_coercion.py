"""Coercion: what Go's decoder and encoder would have made of a value."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.schema import gvk_of
from pilothouse.apis.schemas import definition, for_gvk
from pilothouse.apiserver.codec import strict
from pilothouse.apiserver.codec.coercion import CoercionError, coerce
from pilothouse.apiserver.codec.defaulting import apply_defaults
from pilothouse.apiserver.codec.zero_values import fill_zero_values

CORE = "io.k8s.api.core.v1."


def coerced(name: str, obj: dict[str, Any], errors: list[str] | None = None) -> dict[str, Any]:
    return coerce(obj, definition(name), errors)


def failure(name: str, obj: Any) -> str:
    with pytest.raises(CoercionError) as raised:
        coerced(name, obj)
    return raised.value.message


def test_nulls_and_empty_omitempty_values_go() -> None:
    obj = {
        "metadata": {"name": "a", "labels": {}, "creationTimestamp": None, "generateName": ""},
        "spec": {
            "hostNetwork": False,
            "nodeSelector": None,
            "terminationGracePeriodSeconds": 0,
            "containers": [],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    }
    assert coerced(CORE + "Pod", obj) == {
        "metadata": {"name": "a"},
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    }


def test_quantities_times_and_numbers_become_canonical() -> None:
    limits = {"cpu": 0.5, "memory": "1024Ki", "x": 3, "y": None}
    pod = coerced(CORE + "Pod", {"spec": {"containers": [{"resources": {"limits": limits}}]}})
    assert pod["spec"]["containers"][0]["resources"]["limits"] == {
        "cpu": "500m",
        "memory": "1Mi",
        "x": "3",
        "y": "0",
    }
    meta = {"creationTimestamp": "2026-01-02T05:04:05.9+02:00"}
    assert coerced(CORE + "Pod", {"metadata": meta})["metadata"] == {
        "creationTimestamp": "2026-01-02T03:04:05Z"
    }
    lease = {"spec": {"renewTime": "2026-01-02T03:04:05.5Z"}}
    assert coerced("io.k8s.api.coordination.v1.Lease", lease)["spec"] == {
        "renewTime": "2026-01-02T03:04:05.500000Z"
    }


def test_base64_is_checked_and_rewritten() -> None:
    assert coerced(CORE + "Secret", {"data": {"a": "aG\nk=", "b": ""}})["data"] == {
        "a": "aGk=",
        "b": "",
    }


@pytest.mark.parametrize(
    ("name", "obj", "text"),
    [
        ("Secret", {"data": {"a": "aGk"}}, "illegal base64 data at input byte 0"),
        ("Secret", {"data": {"a": "a*=="}}, "illegal base64 data at input byte 1"),
        ("Secret", {"data": {"a": "aGk=x"}}, "illegal base64 data at input byte 4"),
        (
            "Secret",
            {"data": {"a": 1}},
            "json: cannot unmarshal number into Go struct field Secret.data of type []uint8",
        ),
        (
            "Pod",
            {"spec": {"containers": [{"resources": {"limits": {"cpu": "1x"}}}]}},
            "quantities must match the regular expression "
            "'^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'",
        ),
        (
            "Pod",
            {"spec": {"volumes": [{"hostPath": {"path": 5}}]}},
            "json: cannot unmarshal number into Go struct field "
            "HostPathVolumeSource.spec.volumes.VolumeSource.hostPath.path of type string",
        ),
        (
            "Service",
            {"spec": {"ports": [{"targetPort": 1.5}]}},
            "json: cannot unmarshal number 1.5 into Go struct field "
            "ServicePort.spec.ports.targetPort of type int32",
        ),
        (
            "Pod",
            {"metadata": {"labels": {"a": True}}},
            "json: cannot unmarshal bool into Go struct field ObjectMeta.metadata.labels "
            "of type string",
        ),
        (
            "Pod",
            {"metadata": [], "spec": {"containers": {}}},
            "json: cannot unmarshal array into Go struct field Pod.metadata of type v1.ObjectMeta",
        ),
        (
            "Pod",
            {"spec": {"containers": {}}},
            "json: cannot unmarshal object into Go struct field PodSpec.spec.containers "
            "of type []v1.Container",
        ),
        (
            "Pod",
            {"metadata": {"deletionTimestamp": "2026-02-30T00:00:00Z"}},
            'parsing time "2026-02-30T00:00:00Z": day out of range',
        ),
        (
            "Pod",
            {"metadata": {"deletionTimestamp": 5}},
            "json: cannot unmarshal number into Go struct field "
            "ObjectMeta.metadata.deletionTimestamp of type string",
        ),
        ("Pod", [], "json: cannot unmarshal array into Go value of type v1.Pod"),
    ],
)
def test_error_texts(name: str, obj: Any, text: str) -> None:
    assert failure(CORE + name, obj) == text


def test_unknown_fields_are_dropped_and_reported_with_their_path() -> None:
    errors: list[str] = []
    obj = {"spec": {"containers": [{"name": "a"}, {"name": "b", "Image": "x"}], "x": 1}}

    assert coerced(CORE + "Pod", obj, errors) == {
        "spec": {"containers": [{"name": "a"}, {"name": "b"}]}
    }
    assert errors == ['unknown field "spec.containers[1].Image"', 'unknown field "spec.x"']


def test_schemas_of_crds_take_their_own_forms() -> None:
    text = {"type": "string", "enum": ["a", None], "default": None, "unknown": 1}
    schema = {
        "properties": {"list": {"items": text}, "map": {"additionalProperties": False}},
        "x-kubernetes-preserve-unknown-fields": False,
    }
    errors: list[str] = []
    name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.CustomResourceDefinition"
    versions = [{"name": "v1", "schema": {"openAPIV3Schema": schema}}]
    found = coerced(name, {"spec": {"versions": versions}}, errors)

    result = found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    assert result["properties"] == {
        "list": {"items": {"type": "string", "enum": ["a", None]}},
        "map": {"additionalProperties": False},
    }
    assert errors == []
    bad = {"openAPIV3Schema": {"properties": {"a": {"additionalProperties": 5}}}}
    assert failure(name, {"spec": {"versions": [{"schema": bad}]}}) == (
        "boolean or JSON schema expected"
    )


SAMPLES = [
    sample["json"]
    for sample in orjson.loads(
        (Path(__file__).parents[2] / "testdata/protobuf_samples.json").read_bytes()
    )
]
ODD = st.sampled_from([None, 0, 1, 2.5, "", "x", "1", True, False, [], {}, [None], {"a": None}])


def places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found: list[tuple[Any, Any]] = []
    items = value.items() if isinstance(value, dict) else enumerate(value)
    for key, item in items:
        found.append((value, key))
        if isinstance(item, (dict, list)):
            found += places(item)
    return found


@given(st.sampled_from(SAMPLES), st.integers(0, 10_000), ODD)
def test_the_fast_way_gives_what_the_walker_gives(sample: Any, where: int, odd: Any) -> None:
    obj = copy.deepcopy(sample)
    spots = places(obj)
    container, key = spots[where % len(spots)]
    container[key] = copy.deepcopy(odd)
    kind, version = sample["kind"], sample["apiVersion"]
    schema = for_gvk(gvk_of({"kind": kind, "apiVersion": version}))
    assert schema is not None
    results: list[Any] = []
    for way in (strict.walk, coerce):
        errors: list[str] = []
        try:
            results.append((way(copy.deepcopy(obj), schema, errors), errors))
        except CoercionError as error:
            results.append(error.message)
    assert results[0] == results[1]


@given(st.sampled_from(SAMPLES))
def test_coercion_is_stable(sample: Any) -> None:
    schema = for_gvk(gvk_of(sample))
    assert schema is not None
    once = coerce(copy.deepcopy(sample), schema)

    assert coerce(copy.deepcopy(once), schema) == once


def test_zero_values_that_go_always_writes() -> None:
    pod: dict[str, Any] = {"spec": {"containers": [{"image": "i"}], "securityContext": {}}}
    fill_zero_values(pod, definition(CORE + "Pod"))

    assert pod == {
        "metadata": {},
        "spec": {
            "containers": [{"image": "i", "name": "", "resources": {}}],
            "securityContext": {},
        },
        "status": {},
    }
    daemon_set: dict[str, Any] = {}
    fill_zero_values(daemon_set, definition("io.k8s.api.apps.v1.DaemonSet"))
    assert daemon_set["status"] == {
        "currentNumberScheduled": 0,
        "numberMisscheduled": 0,
        "desiredNumberScheduled": 0,
        "numberReady": 0,
    }
    assert daemon_set["spec"] == {"template": {"metadata": {}, "spec": {}}, "updateStrategy": {}}


def test_static_defaults_of_built_ins() -> None:
    service: dict[str, Any] = {"spec": {"ports": [{"port": 80}, {"protocol": "UDP"}]}}
    apply_defaults(service, definition(CORE + "Service"))

    assert [port["protocol"] for port in service["spec"]["ports"]] == ["TCP", "UDP"]
    volume: dict[str, Any] = {"spec": {"iscsi": {"lun": 1}, "rbd": {}}}
    apply_defaults(volume, definition(CORE + "PersistentVolume"))
    assert volume["spec"]["rbd"] == {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"}
    assert volume["spec"]["iscsi"] == {"lun": 1, "iscsiInterface": "default"}


def test_defaults_are_not_shared() -> None:
    from pilothouse.apimachinery.typeschema import TypeSchema

    inner = TypeSchema("object", fields={"a": TypeSchema("string", default="x")}, default={})
    schema = TypeSchema(
        "object",
        fields={
            "inner": inner,
            "text": TypeSchema("string", default="d"),
            "nullable": TypeSchema("string", default="d", nullable=True),
            "plain": TypeSchema("string"),
            "map": TypeSchema("map", element=TypeSchema("string")),
            "list": TypeSchema("list", element=inner),
        },
        extra={},
    )
    first: dict[str, Any] = {
        "text": None,
        "nullable": None,
        "plain": None,
        "map": {"k": None, "v": "1"},
        "list": [{}],
    }
    apply_defaults(first, schema)

    assert first == {
        "inner": {"a": "x"},
        "text": "d",
        "nullable": None,
        "map": {"v": "1"},
        "list": [{"a": "x"}],
    }
    first["inner"]["a"] = "changed"
    second: dict[str, Any] = {}
    apply_defaults(second, schema)
    assert second["inner"] == {"a": "x"}
