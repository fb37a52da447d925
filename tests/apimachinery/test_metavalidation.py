"""Validation of metadata, selectors, conditions and request options."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from pilothouse.apimachinery import metavalidation as mv
from pilothouse.apimachinery.fieldpath import ErrorList, Path

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj

PATH = Path("metadata")


def name_errors(name: str, prefix: bool) -> list[str]:
    return [f"bad{' prefix' if prefix else ''}"] if "!" in name else []


def create(metadata: Obj, namespaced: bool = True) -> list[str]:
    full = {"name": "a", "namespace": "n"} if namespaced else {"name": "a"}
    errors = mv.validate_object_meta(
        {**full, **metadata}, namespaced=namespaced, name_errors=name_errors, path=PATH
    )
    return texts(errors)


def texts(errors: ErrorList) -> list[str]:
    return [str(error) for error in errors]


def test_names_on_create() -> None:
    assert create({}) == []
    assert create({"name": ""}) == [
        "metadata.name: Required value: name or generateName is required"
    ]
    assert create({"name": "!", "generateName": "!-"}) == [
        'metadata.generateName: Invalid value: "!-": bad prefix',
        'metadata.name: Invalid value: "!": bad',
    ]
    assert create({"namespace": ""}) == ["metadata.namespace: Required value"]
    assert create({"namespace": "a.b"}) == [
        'metadata.namespace: Invalid value: "a.b": must not contain dots'
    ]
    assert create({"namespace": "x"}, namespaced=False) == [
        "metadata.namespace: Forbidden: not allowed on this type"
    ]
    assert create({"generation": -1}) == [
        "metadata.generation: Invalid value: -1: must be greater than or equal to 0"
    ]


def test_labels_and_annotations() -> None:
    assert create({"labels": {"a": "b"}, "annotations": {"A/B": "any text"}}) == []
    assert create({"labels": {"a": "b c"}})[0].startswith(
        'metadata.labels: Invalid value: "b c": a valid label must be an empty string'
    )
    assert create({"annotations": {"a b": ""}})[0].startswith(
        'metadata.annotations: Invalid value: "a b": name part must consist of'
    )
    assert create({"annotations": {"a": "x" * (256 * 1024)}}) == [
        "metadata.annotations: Too long: may not be more than 262144 bytes"
    ]
    assert create({"annotations": {"a": "é" * (128 * 1024 - 1)}}) == []
    assert create({"annotations": {"a": "é" * (128 * 1024)}}) != []


def test_owner_references() -> None:
    good = {"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "r", "uid": "1"}
    controller = {**good, "controller": True}
    assert create({"ownerReferences": [good, controller]}) == []
    assert create({"ownerReferences": [{}]}) == [
        "metadata.ownerReferences[0].apiVersion: Required value: must not be empty",
        "metadata.ownerReferences[0].kind: Required value: must not be empty",
        "metadata.ownerReferences[0].name: Required value: must not be empty",
        "metadata.ownerReferences[0].uid: Required value: must not be empty",
    ]
    assert create({"ownerReferences": [{**good, "apiVersion": "a/b/c"}]}) == [
        'metadata.ownerReferences[0].apiVersion: Invalid value: "a/b/c": must be '
        "<group>/<version> or <version>"
    ]
    banned = create({"ownerReferences": [{**good, "apiVersion": "v1", "kind": "Event"}]})
    assert banned[0].endswith("/v1, Kind=Event is disallowed from being an owner")
    two = create({"ownerReferences": [controller, controller]})
    assert two[0].endswith(
        'Only one reference can have Controller set to true. Found "true" in references for '
        "ReplicaSet/r and ReplicaSet/r"
    )


def test_finalizers() -> None:
    assert create({"finalizers": ["a/b", "orphan"]}) == []
    assert create({"finalizers": ["a b"]}) != []
    assert create({"finalizers": ["orphan", "foregroundDeletion"]}) == [
        'metadata.finalizers: Invalid value: ["orphan","foregroundDeletion"]: finalizer orphan '
        "and foregroundDeletion cannot be both set"
    ]


def test_managed_fields() -> None:
    entry = {"manager": "m", "operation": "Apply", "apiVersion": "v1", "fieldsType": "FieldsV1"}
    assert create({"managedFields": [entry]}) == []
    assert create({"managedFields": [{**entry, "operation": "Undo", "fieldsType": "X"}]}) == [
        'metadata.managedFields[0].operation: Unsupported value: "Undo": supported values: '
        '"Apply", "Update"',
        'metadata.managedFields[0].fieldsType: Invalid value: "X": must be `FieldsV1`',
    ]
    assert create({"managedFields": [{}]}) == [
        "metadata.managedFields[0].operation: Required value: must not be empty"
    ]
    assert create({"managedFields": [{**entry, "subresource": "s" * 257}]}) == [
        "metadata.managedFields[0].subresource: Too long: may not be more than 256 bytes"
    ]


@pytest.mark.parametrize(
    ("old", "new", "errors"),
    [
        ({}, {}, []),
        (
            {},
            {"resourceVersion": ""},
            ['metadata.resourceVersion: Invalid value: "": must be specified for an update'],
        ),
        (
            {"generation": 3},
            {"generation": 2},
            ["metadata.generation: Invalid value: 2: must not be decremented"],
        ),
        ({}, {"name": "b"}, ['metadata.name: Invalid value: "b": field is immutable']),
        ({"uid": "1"}, {}, ['metadata.uid: Invalid value: "": field is immutable']),
        (
            {"deletionTimestamp": "2026-01-01T00:00:00Z"},
            {},
            ["metadata.deletionTimestamp: Invalid value: null: field is immutable"],
        ),
        (
            {"deletionTimestamp": "x", "finalizers": ["a"]},
            {"deletionTimestamp": "x", "finalizers": ["a", "c", "b"]},
            [
                "metadata.finalizers: Forbidden: no new finalizers can be added if the object is "
                'being deleted, found new finalizers []string{"b", "c"}'
            ],
        ),
    ],
)
def test_update(old: Obj, new: Obj, errors: list[str]) -> None:
    base = {"name": "a", "namespace": "n", "resourceVersion": "1"}
    assert texts(mv.validate_object_meta_update({**base, **new}, {**base, **old}, PATH)) == errors


def test_field_manager() -> None:
    path = Path("fieldManager")
    assert mv.validate_field_manager("kubectl edit", path) == []
    assert mv.validate_field_manager("é", path) == []
    assert texts(mv.validate_field_manager("x" * 129, path)) == [
        "fieldManager: Too long: may not be more than 128 bytes"
    ]
    [error] = texts(mv.validate_field_manager("a\tb", path))
    assert error.endswith("invalid character U+0009 (at position 1)")


def test_request_options() -> None:
    assert texts(mv.validate_write_options({"dryRun": ["All"], "fieldValidation": "Warn"})) == []
    assert texts(mv.validate_write_options({"dryRun": ["Some"], "fieldValidation": "Lax"})) == [
        'dryRun: Unsupported value: ["Some"]: supported values: "All"',
        'fieldValidation: Unsupported value: "Lax": supported values: "", "Ignore", "Strict", '
        '"Warn"',
    ]
    assert texts(mv.validate_patch_options({}, apply=True)) == [
        "fieldManager: Required value: is required for apply patch"
    ]
    assert texts(mv.validate_patch_options({"force": False}, apply=False)) == [
        "force: Forbidden: may not be specified for non-apply patch"
    ]
    assert mv.validate_delete_options({"propagationPolicy": "Orphan"}) == []
    assert texts(mv.validate_delete_options({"propagationPolicy": "All"})) == [
        'propagationPolicy: Unsupported value: "All": supported values: "Foreground", '
        '"Background", "Orphan", "nil"'
    ]
    both: Any = {"propagationPolicy": "Orphan", "orphanDependents": True}
    assert texts(mv.validate_delete_options(both)) == [
        'propagationPolicy: Invalid value: "Orphan": orphanDependents and deletionPropagation '
        "cannot be both set"
    ]


def test_label_selector() -> None:
    def check(*expressions: Obj, **options: bool) -> list[str]:
        selector = {"matchExpressions": list(expressions)}
        return texts(mv.validate_label_selector(selector, Path("spec.selector"), **options))

    at = "spec.selector.matchExpressions[0]"
    assert mv.validate_label_selector(None, PATH) == []
    assert check({"key": "a", "operator": "In", "values": ["b"]}) == []
    assert check({"key": "a", "operator": "In"}) == [
        f"{at}.values: Required value: must be specified when `operator` is 'In' or 'NotIn'"
    ]
    assert check({"key": "a", "operator": "Exists", "values": ["b"]}) == [
        f"{at}.values: Forbidden: may not be specified when `operator` is 'Exists' or "
        "'DoesNotExist'"
    ]
    unknown = {"key": "a", "operator": "Like"}
    assert check(unknown) == [
        f'{at}.operator: Invalid value: "Like": not a valid selector operator'
    ]
    assert check(unknown, allow_unknown_operator=True) == []
    spaced = {"key": "a", "operator": "In", "values": ["b c"]}
    assert check(spaced)[0].startswith(f'{at}.values[0]: Invalid value: "b c"')
    assert check(spaced, allow_invalid_values=True) == []


def test_conditions() -> None:
    good = {
        "type": "Ready",
        "status": "True",
        "reason": "AllGood",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    path = Path("status.conditions")
    assert mv.validate_conditions([good], path) == []
    assert texts(mv.validate_conditions([good, good], path)) == [
        'status.conditions[1]: Duplicate value: "Ready"'
    ]
    assert texts(mv.validate_conditions([{}], path)) == [
        "status.conditions[0].type: Required value: is required",
        "status.conditions[0].status: Required value",
        "status.conditions[0].lastTransitionTime: Required value",
        "status.conditions[0].reason: Required value",
    ]
    bad = {**good, "status": "Yes", "reason": "not good", "observedGeneration": -1}
    found = texts(mv.validate_conditions([bad], path))
    assert found[0] == (
        'status.conditions[0].status: Unsupported value: "Yes": supported values: "False", '
        '"True", "Unknown"'
    )
    assert found[1].startswith("status.conditions[0].observedGeneration: Invalid value: -1")
    assert "a condition reason must start with alphabetic character" in found[2]
