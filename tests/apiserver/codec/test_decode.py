"""decode_body: formats, kinds, strictness and upstream's texts for what is wrong."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupVersionKind
from pilothouse.apimachinery.typeschema import TypeSchema
from pilothouse.apis.schemas import definition, for_gvk
from pilothouse.apiserver.codec.decode import Decoded, decode_body, load_value
from pilothouse.apiserver.codec.protobuf import encode_object, seal

POD = GroupVersionKind("", "v1", "Pod")
DEPLOYMENT = GroupVersionKind("apps", "v1", "Deployment")
WIDGET = GroupVersionKind("example.com", "v1", "Widget")
WIDGET_SCHEMA = TypeSchema(
    "object",
    fields={
        "spec": TypeSchema(
            "object",
            fields={
                "size": TypeSchema("integer"),
                "free": TypeSchema("object", preserve_unknown=True),
                "map": TypeSchema("map", element=TypeSchema("string")),
                "inner": TypeSchema("object", embedded_resource=True, preserve_unknown=True),
            },
        )
    },
    extra={"type": "object"},
)


def schema_for(gvk: GroupVersionKind) -> TypeSchema | None:
    return WIDGET_SCHEMA if gvk == WIDGET else for_gvk(gvk)


def decode(
    body: bytes | dict[str, Any],
    gvk: GroupVersionKind = POD,
    content_type: str = "application/json",
    validation: str = "Strict",
) -> Decoded:
    data = orjson.dumps(body) if isinstance(body, dict) else body
    return decode_body(
        data,
        content_type,
        default_gvk=gvk,
        field_validation=validation,
        schema_for=schema_for,
    )


def message(body: bytes | dict[str, Any], gvk: GroupVersionKind = POD, **how: str) -> str:
    with pytest.raises(StatusError) as raised:
        decode(body, gvk, **how)
    assert (raised.value.code, raised.value.reason) == (400, "BadRequest")
    return raised.value.message


def test_kind_and_version_may_be_left_out() -> None:
    decoded = decode({"metadata": {"name": "a"}})

    assert decoded.obj == {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": "a"}}
    assert decoded.gvk == POD


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (
            {"kind": "Deployment", "apiVersion": "apps/v1", "spec": {"replicas": "3"}},
            'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal '
            "string into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"spec": {"replicas": 3000000000}},
            'Deployment in version "v1" cannot be handled as a Deployment: json: cannot unmarshal '
            "number 3000000000 into Go struct field DeploymentSpec.spec.replicas of type int32",
        ),
        (
            {"spec": {"replicas": 1, "x": 1, "template": {"spec": {"containers": [{"y": 1}]}}}},
            'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: '
            'unknown field "spec.x", unknown field "spec.template.spec.containers[0].y"',
        ),
        (
            {"kind": "Deployment", "apiVersion": "apps/v2"},
            'Deployment in version "v2" cannot be handled as a Deployment: no kind "Deployment" is '
            'registered for version "apps/v2" in scheme "pkg/api/legacyscheme/scheme.go:30"',
        ),
        (
            {"kind": "Deployment", "apiVersion": "a/b/c"},
            "the object provided is unrecognized (must be of type Deployment): unexpected "
            'GroupVersion string: a/b/c ({"kind":"Deployment","apiVersi ...)',
        ),
        (
            {"kind": 5},
            "the object provided is unrecognized (must be of type Deployment): couldn't get "
            "version/kind; json parse error: json: cannot unmarshal number into Go struct field "
            '.kind of type string ({"kind":5})',
        ),
        (
            b"",
            "the object provided is unrecognized (must be of type Deployment): couldn't get "
            "version/kind; json parse error: unexpected end of JSON input (<empty>)",
        ),
        (
            b"xyz",
            "the object provided is unrecognized (must be of type Deployment): couldn't get "
            "version/kind; json parse error: invalid character 'x' looking for beginning of value "
            "(78797a)",
        ),
    ],
)
def test_texts_for_a_deployment(body: bytes | dict[str, Any], text: str) -> None:
    assert message(body, DEPLOYMENT) == text


def test_another_kind() -> None:
    text = message({"kind": "Service", "apiVersion": "v1"})

    assert text.startswith('Service in version "v1" cannot be handled as a Pod: converting')


def test_another_version_of_the_kind() -> None:
    body = {"kind": "HorizontalPodAutoscaler", "apiVersion": "autoscaling/v2"}

    assert message(body, GroupVersionKind("autoscaling", "v1", "HorizontalPodAutoscaler")) == (
        "the API version in the data (autoscaling/v2) does not match the expected API version "
        "(autoscaling/v1)"
    )


def test_options_are_known_to_every_version() -> None:
    options = GroupVersionKind("meta.k8s.io", "v1", "DeleteOptions")
    for api_version in ("v1", "meta.k8s.io/v1", "policy/v1"):
        body = {"kind": "DeleteOptions", "apiVersion": api_version, "gracePeriodSeconds": 0}
        assert decode(body, options).obj["gracePeriodSeconds"] == 0


def test_unknown_fields_by_directive() -> None:
    body = {"metadata": {"name": "a"}, "spec": {"foo": 1}}

    warned = decode(body, validation="Warn")
    assert warned.warnings == ['unknown field "spec.foo"']
    assert warned.obj["spec"] == {}
    assert decode(body, validation="").warnings == warned.warnings
    assert decode(body, validation="Ignore").warnings == []


def test_repeated_fields() -> None:
    body = b'{"metadata": {"name":"a","name":"b","labels":{"x":"1","x":"2"}}, "spec":{},"spec":{}}'

    assert message(body).endswith(
        'strict decoding error: duplicate field "metadata.name", '
        'duplicate field "metadata.labels.x", duplicate field "spec"'
    )
    assert decode(body, validation="Ignore").obj["metadata"]["name"] == "b"
    assert len(decode(body, validation="Warn").warnings) == 3


def test_unknown_content_types_are_415() -> None:
    with pytest.raises(StatusError) as raised:
        decode({}, content_type="text/plain")
    assert raised.value.code == 415


def test_content_type_parameters_are_no_matter() -> None:
    assert decode({}, content_type="application/json; charset=utf-8").gvk == POD


def test_yaml() -> None:
    body = (
        b"kind: Pod\napiVersion: v1\nmetadata:\n  name: a\n  labels: {on: 'x'}\nspec:\n  bad: 1\n"
    )

    decoded = decode(body, content_type="application/yaml", validation="Warn")

    assert decoded.obj["metadata"] == {"name": "a", "labels": {"true": "x"}}
    assert decoded.warnings == ['unknown field "spec.bad"']


def test_repeated_keys_of_yaml() -> None:
    body = b"metadata:\n  name: a\n  name: b\n"

    assert message(body, content_type="application/yaml").endswith(
        'strict decoding error: yaml: unmarshal errors:\n  line 3: key "name" already set in map'
    )
    warned = decode(body, content_type="application/yaml", validation="Warn")
    assert warned.warnings == ['line 3: key "name" already set in map']


def test_protobuf() -> None:
    schema = definition("io.k8s.api.core.v1.Pod")
    body = seal(POD, encode_object({"metadata": {"name": "a"}}, schema))

    decoded = decode(body, content_type="application/vnd.kubernetes.protobuf")

    assert decoded.obj["metadata"] == {"name": "a"}
    assert (decoded.obj["kind"], decoded.obj["apiVersion"]) == ("Pod", "v1")


def test_protobuf_of_custom_resources_is_415() -> None:
    with pytest.raises(StatusError) as raised:
        decode(seal(WIDGET, b""), WIDGET, "application/vnd.kubernetes.protobuf")
    assert raised.value.code == 415


def test_bad_protobuf() -> None:
    body = b"k8s\x00" + b"\x0a\x09\x0a\x02v1\x12\x03Pod" + b"\x12\x02\x0a\x05"

    text = message(body, content_type="application/vnd.kubernetes.protobuf")

    assert text == 'Pod in version "v1" cannot be handled as a Pod: unexpected EOF'


def test_custom_resources_are_pruned() -> None:
    body = {
        "kind": "Widget",
        "apiVersion": "example.com/v1",
        "metadata": {"name": "a", "nope": 1, "labels": {}},
        "spec": {
            "size": "any type: validated later",
            "gone": 1,
            "free": {"x": {"y": None}},
            "map": {"k": "v"},
            "inner": {"kind": "Pod", "metadata": {"name": "b", "bad": 1}},
        },
    }

    decoded = decode(body, WIDGET, validation="Warn")

    assert decoded.obj["metadata"] == {"name": "a"}
    assert decoded.obj["spec"] == {
        "size": "any type: validated later",
        "free": {"x": {"y": None}},
        "map": {"k": "v"},
        "inner": {"kind": "Pod", "metadata": {"name": "b"}},
    }
    assert set(decoded.warnings) == {
        'unknown field "metadata.nope"',
        'unknown field "spec.gone"',
        'unknown field "spec.inner.metadata.bad"',
    }


def test_custom_resources_need_a_kind() -> None:
    assert message({"metadata": {}}, WIDGET).startswith(
        "the object provided is unrecognized (must be of type Widget): Object 'Kind' is missing in"
    )


@pytest.mark.parametrize("depth", [260, 900, 2000, 200000])
def test_depth_is_limited(depth: int) -> None:
    for start, end in ((b'{"a":', b"}"), (b"[", b"]")):
        nested = start * depth + b"1" + end * depth
        body = b'{"kind":"Widget","apiVersion":"example.com/v1","spec":{"free":{"x":%s}}}' % nested
        for validation in ("Strict", "Ignore"):
            assert "exceeded max depth" in message(body, WIDGET, validation=validation)


def test_what_is_accepted_can_be_written() -> None:
    nested = b'{"a":' * 230 + b"1" + b"}" * 230
    body = b'{"kind":"Widget","apiVersion":"example.com/v1","spec":{"free":%s}}' % nested

    obj = decode(body, WIDGET).obj

    assert orjson.dumps({"items": [{"object": obj}]})


@pytest.mark.parametrize("depth", [100, 130, 400])
def test_depth_of_schemas_is_limited(depth: int) -> None:
    schema = b'{"properties":{"a":' * depth + b"{}" + b"}}" * depth
    version = b'{"name":"v1","schema":{"openAPIV3Schema":%s}}' % schema
    body = b'{"spec":{"versions":[%s]}}' % version
    gvk = GroupVersionKind("apiextensions.k8s.io", "v1", "CustomResourceDefinition")
    if depth < 110:
        assert decode(body, gvk).obj["spec"]
    else:
        assert "exceeded max depth" in message(body, gvk)


def test_load_value_reads_patches() -> None:
    assert load_value(b"[1]", "application/json-patch+json") == ([1], "")
    assert load_value(b"a: 1", "application/apply-patch+yaml") == ({"a": 1}, "")
    with pytest.raises(StatusError) as raised:
        load_value(b"{", "application/merge-patch+json")
    assert (raised.value.code, raised.value.message) == (400, "unexpected end of JSON input")


TYPES = ["application/json", "application/yaml", "application/vnd.kubernetes.protobuf"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                "kind apiVersion metadata spec name labels containers ports replicas data "
                "creationTimestamp resources limits cpu managedFields fieldsV1 template x".split()
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(st.binary(max_size=100), st.sampled_from(TYPES), st.sampled_from([POD, WIDGET]))
def test_random_bytes_give_a_status_or_an_object(
    body: bytes, content_type: str, gvk: GroupVersionKind
) -> None:
    for prefix in (b"", b"{", b"k8s\x00\x12\x20", b'{"spec":'):
        try:
            decode(prefix + body, gvk, content_type)
        except StatusError as error:
            assert error.code in (400, 415)


@given(JSON, st.sampled_from(["Strict", "Warn", "Ignore"]), st.sampled_from([POD, DEPLOYMENT]))
def test_random_json_gives_a_status_or_an_object(
    value: Any, validation: str, gvk: GroupVersionKind
) -> None:
    import json

    body = json.dumps(value).encode()
    for content_type in TYPES[:2]:
        try:
            decoded = decode(body, gvk, content_type, validation)
        except StatusError as error:
            assert error.code == 400
        else:
            assert decoded.obj["kind"] == gvk.kind
