"""Keys are upstream's and no name can leave its resource."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apimachinery.schema import GroupResource
from pilothouse.apiserver.storage.keys import list_prefix, object_key, resource_prefix


@pytest.mark.parametrize(
    ("group", "resource", "prefix"),
    [
        ("", "pods", "/registry/pods/"),
        ("", "nodes", "/registry/minions/"),
        ("", "services", "/registry/services/specs/"),
        ("", "endpoints", "/registry/services/endpoints/"),
        ("apps", "deployments", "/registry/deployments/"),
        ("networking.k8s.io", "ingresses", "/registry/ingress/"),
        ("events.k8s.io", "events", "/registry/events/"),
        (
            "apiextensions.k8s.io",
            "customresourcedefinitions",
            "/registry/apiextensions.k8s.io/customresourcedefinitions/",
        ),
    ],
)
def test_built_in_prefixes(group: str, resource: str, prefix: str) -> None:
    assert resource_prefix(GroupResource(group, resource)) == prefix


def test_custom_resources_have_their_group_in_the_key() -> None:
    found = resource_prefix(GroupResource("example.com", "nodes"), built_in=False)
    assert found == "/registry/example.com/nodes/"


@given(st.text(max_size=8), st.text(max_size=8))
def test_a_key_stays_in_its_namespace(namespace: str, name: str) -> None:
    prefix = "/registry/pods/"
    try:
        key = object_key(prefix, namespace, name)
    except StatusError as error:
        assert error.code == 400
        return
    inside = key.removeprefix(list_prefix(prefix, namespace))
    assert inside == name and "/" not in name and name not in ("", ".", "..")


def test_messages() -> None:
    with pytest.raises(StatusError, match="Name parameter required"):
        object_key("/registry/pods/", "a", "")
    with pytest.raises(StatusError) as raised:
        object_key("/registry/pods/", "a", "b/c%")
    expected = "Name parameter invalid: \"b/c%\": may not contain '/';may not contain '%'"
    assert raised.value.message == expected
