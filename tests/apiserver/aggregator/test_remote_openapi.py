"""Parts of extension servers' OpenAPI v2, and how they go beside ours."""

from __future__ import annotations

from pilothouse.apiserver.aggregator.openapi_conversion import to_v3
from pilothouse.apiserver.aggregator.remote_openapi import part_of, without_conflicts


def ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/definitions/{name}"}


def test_only_what_is_below_the_group_version_is_taken() -> None:
    document = {
        "paths": {
            "/apis/a/v1/": {"get": {"schema": ref("A")}},
            "/apis/a/v1/as": {"post": {"schema": ref("A")}},
            "/apis/a/v10/as": {"get": {"schema": ref("Other")}},
            "/version": {},
        },
        "definitions": {"A": {"items": ref("B")}, "B": {"properties": {"self": ref("B")}}, "C": {}},
    }
    definitions, paths = part_of(document, "/apis/a/v1")
    assert sorted(paths) == ["/apis/a/v1/", "/apis/a/v1/as"]
    assert sorted(definitions) == ["A", "B"]


def test_definitions_in_conflict_get_other_names() -> None:
    known = {"Meta": {"type": "object"}, "Same": {"x-kubernetes-group-version-kind": [1]}}
    definitions = {
        "Meta": {"type": "string"},
        "Same": {"x-kubernetes-group-version-kind": [2]},
        "A": {"properties": {"metadata": ref("Meta"), "same": ref("Same")}},
    }
    fresh, paths = without_conflicts(known, definitions, {"/a": ref("Meta")})
    assert sorted(fresh) == ["A", "Meta_v2", "Same"]
    assert fresh["A"]["properties"] == {"metadata": ref("Meta_v2"), "same": ref("Same")}
    assert paths == {"/a": ref("Meta_v2")}


def test_v2_in_the_form_of_v3() -> None:
    body = {"name": "body", "in": "body", "required": True, "schema": ref("A")}
    dry = {"name": "dryRun", "in": "query", "type": "string", "uniqueItems": True}
    operation = {
        "operationId": "create",
        "consumes": ["*/*"],
        "produces": ["application/json", "application/yaml"],
        "schemes": ["https"],
        "parameters": [body, dry],
        "responses": {"200": {"description": "OK", "schema": ref("A")}, "401": {}},
    }
    paths = {"/apis/a/v1/as": {"post": operation, "parameters": [dry]}}
    document = to_v3("T", "v1", {"A": {"properties": {"b": ref("B")}}, "B": {}}, paths)
    new_a = {"$ref": "#/components/schemas/A"}
    query = {"name": "dryRun", "in": "query", "schema": {"type": "string", "uniqueItems": True}}
    assert document["paths"]["/apis/a/v1/as"] == {
        "post": {
            "operationId": "create",
            "parameters": [query],
            "requestBody": {"content": {"*/*": {"schema": new_a}}, "required": True},
            "responses": {
                "200": {
                    "description": "OK",
                    "content": {
                        "application/json": {"schema": new_a},
                        "application/yaml": {"schema": new_a},
                    },
                },
                "401": {"description": ""},
            },
        },
        "parameters": [query],
    }
    schemas = document["components"]["schemas"]
    assert schemas["A"]["properties"]["b"] == {"$ref": "#/components/schemas/B"}
