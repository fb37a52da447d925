"""Type schemas of the built-in kinds."""

from __future__ import annotations

import pytest

from pilothouse.apimachinery.schema import GroupVersionKind
from pilothouse.apimachinery.typeschema import TypeSchema
from pilothouse.apis.resources import BUILT_IN
from pilothouse.apis.schemas import definition, for_gvk, kinds_of_definition, upstream_version

CORE = "io.k8s.api.core.v1."


def at(schema: TypeSchema, *path: str) -> TypeSchema:
    for step in path:
        found = schema.element if step == "*" else schema.fields[step]
        assert found is not None
        schema = found
    return schema


def test_ports_are_a_map_with_a_default_in_its_key() -> None:
    ports = at(definition(CORE + "PodSpec"), "containers", "*", "ports")

    assert (ports.list_type, ports.map_keys) == ("map", ("containerPort", "protocol"))
    assert (ports.patch_merge_key, ports.patch_strategy) == ("containerPort", ("merge",))
    assert at(ports, "*", "protocol").default == "TCP"
    service_ports = at(definition(CORE + "ServiceSpec"), "ports")
    assert service_ports.map_keys == ("port", "protocol")
    assert at(service_ports, "*", "protocol").default == "TCP"


def test_scalars_have_gos_names() -> None:
    port = definition(CORE + "ContainerPort")

    assert (port.fields["protocol"].kind, port.fields["protocol"].go_type) == (
        "string",
        "v1.Protocol",
    )
    assert (port.fields["hostPort"].format, port.fields["hostPort"].omit_empty) == ("int32", True)
    assert port.required == {"containerPort"}
    assert port.fields["protocol"].enum == ("SCTP", "TCP", "UDP")


def test_embedded_structs_are_flat() -> None:
    volume = definition(CORE + "Volume")

    assert {"name", "configMap", "hostPath"} <= set(volume.fields)
    assert volume.fields["hostPath"].extra.via == ("VolumeSource",)


def test_a_field_may_be_granular_though_its_type_is_atomic() -> None:
    assert definition(CORE + "ObjectReference").atomic
    assert not definition(CORE + "PersistentVolumeSpec").fields["claimRef"].atomic
    assert definition(CORE + "PersistentVolumeSpec").fields["nodeAffinity"].kind == "object"
    assert definition(CORE + "PodSpec").fields["nodeSelector"].atomic


def test_special_types() -> None:
    spec = definition(CORE + "ServicePort")
    assert spec.fields["targetPort"].int_or_string
    assert definition(CORE + "Secret").fields["data"].element is not None
    assert at(definition(CORE + "Secret"), "data", "*").format == "byte"
    assert at(definition(CORE + "ResourceRequirements"), "limits", "*").format == "quantity"


def test_recursive_types_end() -> None:
    name = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps"
    props = definition(name)

    assert at(props, "properties", "*", "not", "properties", "*").name == name


def test_for_gvk() -> None:
    assert for_gvk(GroupVersionKind("apps", "v1", "Nope")) is None
    assert for_gvk(GroupVersionKind("example.com", "v1", "Pod")) is None
    assert for_gvk(GroupVersionKind("apps", "v1", "DeploymentSpec")) is None
    for group in ("", "policy", "meta.k8s.io"):
        assert for_gvk(GroupVersionKind(group, "v1", "DeleteOptions")) is not None
    assert for_gvk(GroupVersionKind("", "v1", "Status")) is not None
    assert kinds_of_definition(CORE + "Pod") == [("", "v1", "Pod")]
    assert kinds_of_definition(CORE + "PodSpec") == []


def test_unknown_definitions_are_key_errors() -> None:
    for name in ("Pod", CORE + "Nope"):
        with pytest.raises(KeyError):
            definition(name)


def test_every_definition_resolves() -> None:
    seen: set[str] = set()
    pending = [definition(row.definition) for row in BUILT_IN]
    while pending:
        node = pending.pop()
        if node.name:
            if node.name in seen:
                continue
            seen.add(node.name)
        pending += node.fields.values()
        if node.element is not None:
            pending.append(node.element)
        assert node.extra is not None
    assert len(seen) > 500
    assert upstream_version().startswith("v1.37.")
