"""What a CustomResourceDefinition may say, through the API server."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from pilothouse.apimachinery.errors import StatusError
from pilothouse.apiserver.apiextensions.controller import CRDS
from pilothouse.apiserver.local import LocalClient
from pilothouse.apiserver.server import APIServer

V = "spec.validation.openAPIV3Schema"


async def causes(client: LocalClient, crd: dict[str, Any]) -> list[str]:
    """``field: message`` of a refused CRD."""
    with pytest.raises(StatusError) as error:
        await client.create(CRDS, crd)
    assert error.value.code == 422
    return [f"{each['field']}: {each['message']}" for each in error.value.details["causes"]]  # type: ignore[index]


async def test_defaults(client: LocalClient, make: Any) -> None:
    crd = await client.create(CRDS, make.crd())
    assert crd["spec"]["names"]["singular"] == "widget"
    assert crd["spec"]["names"]["listKind"] == "WidgetList"
    assert crd["spec"]["conversion"] == {"strategy": "None"}
    assert crd["status"]["storedVersions"] == ["v1"]
    assert crd["metadata"]["generation"] == 1


async def test_a_version_without_a_name(client: LocalClient, make: Any) -> None:
    """It is complained of once."""
    found = await causes(client, make.crd(make.version("")))
    assert [each.partition(": ")[0] for each in found] == ["spec.versions[0].name"]


async def test_no_versions_at_all(client: LocalClient, make: Any) -> None:
    """What a kustomize patch looks like when it is applied as it is."""
    crd = make.crd()
    del crd["spec"]["versions"]
    expected = "spec.versions: Invalid value: null: must have exactly one version marked as"
    assert any(each.startswith(expected) for each in await causes(client, crd))


async def test_names_and_versions(client: LocalClient, make: Any) -> None:
    crd = make.crd(make.version(storage=False), make.version("V2", storage=False), shortNames=["A"])
    crd["metadata"]["name"] = "other.example.com"
    crd["spec"]["scope"] = "Galaxy"
    found = await causes(client, crd)
    label = (
        "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
        "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or "
        "'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
    )
    assert found[0].startswith("metadata.name: ")
    assert 'must be spec.names.plural+"."+spec.group' in found[0]
    assert (
        'spec.scope: Unsupported value: "Galaxy": supported values: "Cluster", "Namespaced"'
        in found
    )
    assert f'spec.versions[1].name: Invalid value: "V2": {label}' in found
    assert f'spec.names.shortNames[0]: Invalid value: "A": {label}' in found
    assert any(
        text.startswith("spec.versions: ")
        and text.endswith("must have exactly one version marked as storage version")
        for text in found
    )


async def test_schema_is_required(client: LocalClient, make: Any) -> None:
    version = {"name": "v1", "served": True, "storage": True}
    crd = make.crd(version)
    crd["spec"]["preserveUnknownFields"] = True
    found = await causes(client, crd)
    assert "spec.versions[0].schema.openAPIV3Schema: Required value" in found
    assert (
        "spec.preserveUnknownFields: Invalid value: true: cannot set to true, set "
        "x-kubernetes-preserve-unknown-fields to true in spec.versions[*].schema instead"
    ) in found


SCHEMAS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, [f"{V}.type: Required value: must not be empty at the root"]),
    (
        {"type": "object", "properties": {"a": {}}},
        [f"{V}.properties[a].type: Required value: must not be empty for specified object fields"],
    ),
    (
        {"type": "object", "properties": {"a": {"type": "array"}}},
        [f"{V}.properties[a].items: Required value: must be specified"],
    ),
    (
        {"type": "object", "properties": {"a": {"type": "text"}}},
        [
            f'{V}.properties[a].type: Unsupported value: "text": supported values: "array", '
            '"boolean", "integer", "number", "object", "string"'
        ],
    ),
    (
        {
            "type": "object",
            "properties": {"metadata": {"type": "object", "properties": {"x": {"type": "string"}}}},
        },
        [
            f"{V}.properties[metadata]: Forbidden: must not specify anything other than name and "
            "generateName, but metadata is implicitly specified"
        ],
    ),
    (
        {"type": "object", "properties": {"a": {"type": "string", "anyOf": [{"type": "string"}]}}},
        [f"{V}.properties[a].anyOf[0].type: Forbidden: must be empty to be structural"],
    ),
    (
        {"type": "object", "anyOf": [{"properties": {"a": {"minimum": 1}}}]},
        [f"{V}.properties[a]: Required value: because it is defined in {V}.anyOf[0].properties[a]"],
    ),
    (
        {"type": "object", "properties": {"a": {"type": "string", "pattern": "("}}},
        [
            f'{V}.properties[a].pattern: Invalid value: "(": must be a valid regular expression, '
            "but isn't: error parsing regexp: missing closing ): `(`"
        ],
    ),
    (
        {
            "type": "object",
            "properties": {
                "a": {"type": "array", "uniqueItems": True, "items": {"type": "string"}}
            },
        },
        [
            f"{V}.properties[a].uniqueItems: Forbidden: uniqueItems cannot be set to true since "
            "the runtime complexity becomes quadratic"
        ],
    ),
    (
        {"type": "object", "properties": {"a": {"type": "integer", "default": "x"}}},
        [
            f'{V}.properties[a].default: Invalid value: "string": '
            f'{V}.properties[a].default in body must be of type integer: "string"'
        ],
    ),
    (
        {
            "type": "object",
            "properties": {"a": {"type": "object", "properties": {}, "default": {"x": 1}}},
        },
        [f'{V}.properties[a].default: Invalid value: {{"x":1}}: must not have unknown fields'],
    ),
    (
        {
            "type": "object",
            "properties": {
                "a": {
                    "type": "array",
                    "x-kubernetes-list-type": "map",
                    "x-kubernetes-list-map-keys": ["k"],
                    "items": {"type": "object", "properties": {"k": {"type": "string"}}},
                }
            },
        },
        [
            f"{V}.properties[a].items.properties[k].default: Required value: this property is in "
            "x-kubernetes-list-map-keys, so it must have a default or be a required property"
        ],
    ),
    (
        {
            "type": "object",
            "properties": {
                "a": {
                    "type": "array",
                    "x-kubernetes-list-type": "set",
                    "items": {"type": "object"},
                }
            },
        },
        [
            f"{V}.properties[a].items.x-kubernetes-map-type: Invalid value: null: must be atomic "
            "as item of a list with x-kubernetes-list-type=set"
        ],
    ),
    (
        {"type": "object", "nullable": True},
        [f"{V}.nullable: Forbidden: nullable cannot be true at the root"],
    ),
]


@pytest.mark.parametrize(("schema", "wanted"), SCHEMAS)
async def test_schemas(
    client: LocalClient, make: Any, schema: dict[str, Any], wanted: list[str]
) -> None:
    found = await causes(client, make.crd(make.version(schema=schema)))
    if "default in body" in wanted[0]:
        # Only the field has the path of the CRD; the sentence is about the value alone.
        wanted = [wanted[0].replace(f": {V}.properties[a].default in body", ":  in body")]
    assert found == wanted


async def test_versions_with_schemas_of_their_own(client: LocalClient, make: Any) -> None:
    bad = {"type": "object", "properties": {"a": {}}}
    crd = make.crd(make.version(), make.version("v2", schema=bad, storage=False))
    assert await causes(client, crd) == [
        "spec.versions[1].schema.openAPIV3Schema.properties[a].type: Required value: must not be "
        "empty for specified object fields"
    ]


async def test_columns_subresources_and_fields(client: LocalClient, make: Any) -> None:
    version = make.version(
        schema=make.spec(color={"type": "string"}, map={"type": "object"}),
        additionalPrinterColumns=[{"name": "", "type": "text", "jsonPath": "spec"}],
        subresources={"scale": {"specReplicasPath": ".foo.x", "statusReplicasPath": ""}},
        selectableFields=[
            {"jsonPath": ".spec.color"},
            {"jsonPath": ".spec.nope"},
            {"jsonPath": ".spec.map"},
            {"jsonPath": ".spec.color"},
        ],
    )
    assert await causes(client, make.crd(version)) == [
        'spec.subresources.scale.specReplicasPath: Invalid value: ".foo.x": should be a json path '
        "under .spec",
        "spec.subresources.scale.statusReplicasPath: Required value",
        "spec.additionalPrinterColumns[0].name: Required value",
        'spec.additionalPrinterColumns[0].type: Invalid value: "text": must be one of '
        "boolean,date,integer,number,string",
        'spec.additionalPrinterColumns[0].JSONPath: Invalid value: "spec": must be a simple json '
        "path starting with .",
        'spec.selectableFields[1].jsonPath: Invalid value: ".spec.nope": is an invalid path: does '
        "not refer to a valid field",
        'spec.selectableFields[2].jsonPath: Invalid value: ".spec.map": must point to a field of '
        "type string, boolean or integer. Enum string fields and strings with formats are allowed.",
        'spec.selectableFields[3].jsonPath: Duplicate value: ".spec.color"',
    ]


async def test_protected_groups_name_their_approval(client: LocalClient, make: Any) -> None:
    make.group = "x.k8s.io"
    found = await causes(client, make.crd())
    assert found == [
        "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must "
        'have approval annotation "api-approved.kubernetes.io", see '
        "https://github.com/kubernetes/enhancements/pull/1111"
    ]
    crd = make.crd()
    crd["metadata"]["annotations"] = {"api-approved.kubernetes.io": "unapproved, test"}
    await client.create(CRDS, crd)


async def test_updates(server: APIServer, client: LocalClient, make: Any) -> None:
    await client.create(CRDS, make.crd())
    await server.activity.settle()
    live = await client.get(CRDS, "widgets.example.com")
    changed = copy.deepcopy(live)
    changed["spec"]["names"]["kind"] = "Gadget"
    changed["spec"]["scope"] = "Cluster"
    changed["spec"]["versions"][0]["name"] = "v3"
    with pytest.raises(StatusError) as error:
        await client.update(CRDS, changed)
    found = {c["field"]: c["message"] for c in (error.value.details or {})["causes"]}
    assert found["spec.scope"] == 'Invalid value: "Cluster": field is immutable'
    assert found["spec.names.kind"] == 'Invalid value: "Gadget": field is immutable'
    assert found["status.storedVersions[0]"].startswith(
        'Invalid value: "v1": missing from spec.versions'
    )
    del changed["metadata"]["resourceVersion"]
    with pytest.raises(StatusError, match="must be specified for an update"):
        await client.update(CRDS, changed)


async def test_stored_versions_are_kept(server: APIServer, client: LocalClient, make: Any) -> None:
    await client.create(CRDS, make.crd(make.version(), make.version("v2", storage=False)))
    await server.activity.settle()
    patch = {"spec": {"versions": [make.version(storage=False), make.version("v2")]}}
    crd = await client.patch(CRDS, "widgets.example.com", patch, "application/merge-patch+json")
    assert crd["status"]["storedVersions"] == ["v1", "v2"]
    assert crd["metadata"]["generation"] == 2


async def test_webhook_conversion_settings(client: LocalClient, make: Any) -> None:
    crd = make.crd()
    crd["spec"]["conversion"] = {
        "strategy": "Webhook",
        "webhook": {"conversionReviewVersions": ["v9"], "clientConfig": {"url": "http://x"}},
    }
    found = await causes(client, crd)
    assert found == [
        "spec.conversion.webhookClientConfig.url: Invalid value: \"http\": 'https' is the only "
        "allowed URL scheme; desired format: https://host[/path]",
        'spec.conversion.conversionReviewVersions: Invalid value: ["v9"]: must include at least '
        "one of v1, v1beta1",
    ]
