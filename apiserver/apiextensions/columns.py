"""Printer columns of custom kinds (registry/customresource/tableconvertor)."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.apiextensions.jsonpath import JSONPathError, compile_path, text_of
from pilothouse.apiserver.registry.printing import since
from pilothouse.apiserver.registry.strategy import Column

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from pilothouse.apimachinery.object import Obj

log = logging.getLogger(__name__)

NAME = Column(
    "Name",
    format="name",
    description=(
        "Name must be unique within a namespace. Is required when creating resources, although "
        "some resources may allow a client to request the generation of an appropriate name "
        "automatically. Name is primarily intended for creation idempotence and configuration "
        "definition. Cannot be updated. More info: "
        "https://kubernetes.io/docs/concepts/overview/working-with-objects/names#names"
    ),
)
_AGE: dict[str, Any] = {
    "name": "Age",
    "type": "date",
    "jsonPath": ".metadata.creationTimestamp",
    "description": (
        "CreationTimestamp is a timestamp representing the server time when this object was "
        "created. It is not guaranteed to be set in happens-before order across separate "
        "operations. Clients may not set this value. It is represented in RFC3339 form and is in "
        "UTC.\n\nPopulated by the system. Read-only. Null for lists. More info: "
        "https://git.k8s.io/community/contributors/devel/sig-architecture/api-conventions.md"
        "#metadata"
    ),
}


class PrinterColumns:
    """``definitions`` are ``additionalPrinterColumns``; none means an Age column."""

    def __init__(self, definitions: Sequence[Obj]) -> None:
        self.columns: list[Column] = []
        self._cells: list[tuple[str, Callable[[Any], list[Any]]]] = []
        for each in definitions or (_AGE,):
            path = each.get("jsonPath") or ""
            try:
                find = compile_path(path)
            except JSONPathError as error:
                # As upstream, whose converter stops at the first bad column.
                log.info("column %s is not printed: %s", path, error)
                break
            text = each.get("description")
            self.columns.append(
                Column(
                    each.get("name") or "",
                    each.get("type") or "",
                    each.get("format") or "",
                    text or f"Custom resource definition column (in JSONPath format): {path}",
                    each.get("priority") or 0,
                )
            )
            self._cells.append((each.get("type") or "", find))

    def cells(self, obj: Obj, now: datetime) -> list[Any]:
        cells: list[Any] = []
        for type_, find in self._cells:
            found = find(obj)
            cells.append(cell(type_, found[0], now) if found else None)
        return cells


def cell(type_: str, value: Any, now: datetime) -> Any:
    """A value as a cell; None when it does not fit the column's type."""
    if type_ == "string":
        return text_of(value)
    if value is None:
        return None
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if type_ == "integer" and number:
        return int(value)
    if type_ == "number" and number:
        return float(value)
    if type_ == "boolean" and isinstance(value, bool):
        return value
    if type_ == "date" and isinstance(value, str):
        return _age(value, now)
    return None


def _age(text: str, now: datetime) -> str:
    try:
        return since(text, now)
    except ValueError:
        return "<invalid>"
