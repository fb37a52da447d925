"""Discovery entries of extension servers, from both forms of their documents."""

from __future__ import annotations

from pilothouse.apiserver.aggregator.remote_discovery import from_aggregated, from_legacy

NO_KIND = {"group": "", "version": "", "kind": ""}


def test_the_entry_of_an_aggregated_document() -> None:
    resource = {"resource": "flunders", "subresources": [{"subresource": "status"}]}
    versions = [{"version": "v1"}, {"version": "v2", "resources": [resource]}]
    document = {
        "items": [
            {"metadata": {"name": "other"}, "versions": [{"version": "v2"}]},
            {"metadata": {"name": "wardle.example.com"}, "versions": versions},
        ]
    }
    found = from_aggregated(document, "wardle.example.com", "v2")
    assert found["resources"][0]["responseKind"] == NO_KIND
    assert found["resources"][0]["subresources"][0]["responseKind"] == NO_KIND
    assert from_aggregated(document, "wardle.example.com", "v3") == {
        "version": "v3",
        "resources": [],
    }


def test_the_entry_made_from_a_legacy_list() -> None:
    verbs = ["get", "list"]
    document = {
        "resources": [
            {
                "name": "flunders", "singularName": "flunder", "namespaced": True,
                "kind": "Flunder", "verbs": verbs, "shortNames": ["fl"],
            },
            {"name": "flunders/status", "namespaced": True, "kind": "Flunder", "verbs": ["get"]},
            {"name": "fischers", "singularName": "", "namespaced": False, "kind": "Fischer",
             "group": "g", "version": "v9", "verbs": verbs},
        ]
    }  # fmt: skip
    assert from_legacy(document, "v1") == {
        "version": "v1",
        "resources": [
            {
                "resource": "flunders",
                "responseKind": {"group": "", "version": "", "kind": "Flunder"},
                "scope": "Namespaced",
                "singularResource": "flunder",
                "verbs": verbs,
                "shortNames": ["fl"],
                "subresources": [
                    {
                        "subresource": "status",
                        "responseKind": {"group": "", "version": "", "kind": "Flunder"},
                        "verbs": ["get"],
                    }
                ],
            },
            {
                "resource": "fischers",
                "responseKind": {"group": "g", "version": "v9", "kind": "Fischer"},
                "scope": "Cluster",
                "singularResource": "",
                "verbs": verbs,
            },
        ],
    }
