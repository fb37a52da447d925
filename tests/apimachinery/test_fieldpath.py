"""Paths and validation errors in upstream's spelling."""

from __future__ import annotations

from pilothouse.apimachinery import fieldpath as fp
from pilothouse.apimachinery.errors import new_invalid
from pilothouse.apimachinery.schema import GroupKind


def test_paths() -> None:
    path = fp.Path("spec").child("containers").index(0).child("env").key("A")
    assert str(path) == "spec.containers[0].env[A]"
    assert str(fp.Path()) == "<nil>"
    assert str(fp.Path().child("key")) == "key"


def test_errors_print_as_upstream() -> None:
    path = fp.Path("a")
    assert str(fp.required(path, "why")) == "a: Required value: why"
    assert str(fp.invalid(path, {"b": 1}, "no")) == 'a: Invalid value: {"b":1}: no'
    assert str(fp.duplicate(path, "x")) == 'a: Duplicate value: "x"'
    assert str(fp.too_long(path, 5)) == "a: Too long: may not be more than 5 bytes"
    assert str(fp.not_supported(path, "x", ("b", "a"))) == (
        'a: Unsupported value: "x": supported values: "a", "b"'
    )
    assert str(fp.not_supported(path, "x", ("b", "a"), keep_order=True)) == (
        'a: Unsupported value: "x": supported values: "b", "a"'
    )


def test_an_invalid_status_lists_every_error() -> None:
    errors = [fp.required(fp.Path("a")), fp.forbidden(fp.Path("b"), "no")]
    error = new_invalid(GroupKind("apps", "Widget"), "w", errors)
    assert error.message == ('Widget.apps "w" is invalid: [a: Required value, b: Forbidden: no]')
    assert error.details is not None
    assert [c["field"] for c in error.details["causes"]] == ["a", "b"]
