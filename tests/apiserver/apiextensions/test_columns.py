from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from pilothouse.apiserver.apiextensions.columns import PrinterColumns
from pilothouse.apiserver.apiextensions.jsonpath import JSONPathError, compile_path

NOW = datetime(2026, 1, 1, 1, tzinfo=UTC)
OBJ = {
    "metadata": {"name": "n", "creationTimestamp": "2026-01-01T00:00:00Z"},
    "spec": {
        "text": "t",
        "int": 3,
        "float": 1.5,
        "yes": True,
        "list": [{"type": "A", "v": 1}, {"type": "B", "v": 2}],
        "map": {"a.b": "dotted"},
        "when": "not a date",
    },
}


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.text", ["t"]),
        (".spec.nope.x", []),
        (".spec.list[0].v", [1]),
        (".spec.list[-1].v", [2]),
        (".spec.list[*].v", [1, 2]),
        (".spec.list[0:1].v", [1]),
        (".spec.map['a.b']", ["dotted"]),
        (r".spec.map.a\.b", ["dotted"]),
        ('.spec.list[?(@.type=="B")].v', [2]),
        (".spec.list[?(@.v>1)].type", ["B"]),
        ("..type", ["A", "B"]),
    ],
)
def test_paths(path: str, found: list[Any]) -> None:
    assert compile_path(path)(OBJ) == found


def test_bad_paths() -> None:
    for path in (".spec[", ".a[b]", ".a[?(1)]"):
        with pytest.raises(JSONPathError):
            compile_path(path)


@pytest.mark.parametrize(
    ("type_", "path", "cell"),
    [
        ("string", ".spec.text", "t"),
        ("string", ".spec.int", "3"),
        ("string", ".spec.map", '{"a.b":"dotted"}'),
        ("string", ".spec.yes", "true"),
        ("integer", ".spec.float", 1),
        ("integer", ".spec.text", None),
        ("number", ".spec.int", 3.0),
        ("boolean", ".spec.yes", True),
        ("date", ".metadata.creationTimestamp", "60m"),
        ("date", ".spec.when", "<invalid>"),
        ("date", ".spec.nope", None),
    ],
)
def test_cells(type_: str, path: str, cell: Any) -> None:
    columns = PrinterColumns([{"name": "X", "type": type_, "jsonPath": path, "priority": 1}])
    assert columns.cells(OBJ, NOW) == [cell]
    assert columns.columns[0].priority == 1


def test_age_is_the_default() -> None:
    columns = PrinterColumns([])
    assert [column.name for column in columns.columns] == ["Age"]
    assert columns.cells(OBJ, NOW) == ["60m"]
