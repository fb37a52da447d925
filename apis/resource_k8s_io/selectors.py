"""CEL expressions that choose devices: compiled when a claim or a class is written.

What is stored once is valid for good: only new or changed selectors come here. The cost of an
expression is bounded where it runs (scheduler/plugins/device_allocator.py).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.apis.meta.errors import invalid, required, too_long, too_many

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pilothouse.apimachinery.fieldpath import ErrorList
    from pilothouse.apimachinery.object import Obj

MAX_SELECTORS = 32
_MAX_LENGTH = 10 * 1024


def validate_selectors(errors: ErrorList, selectors: Sequence[Obj], path: str) -> None:
    if len(selectors) > MAX_SELECTORS:
        errors.append(too_many(path, len(selectors), MAX_SELECTORS))
        return
    for i, selector in enumerate(selectors):
        cel = selector.get("cel")
        if cel is None:
            errors.append(required(f"{path}[{i}].cel"))
        else:
            _expression(errors, cel.get("expression") or "", f"{path}[{i}].cel.expression")


def _expression(errors: ErrorList, text: str, path: str) -> None:
    if len(text.encode()) > _MAX_LENGTH:
        errors.append(too_long(path, _MAX_LENGTH))
        return
    # Compiling needs modules that take a quarter of a second to import.
    from pilothouse.cel import types
    from pilothouse.cel.interfaces import CompileError
    from pilothouse.cel.kubernetes import device_selector

    try:
        found = device_selector().compile(text).output_type
    except CompileError as error:
        errors.append(invalid(path, text, f"compilation failed: {error}"))
        return
    if found not in (types.BOOL, types.ANY, types.DYN):
        message = f"must evaluate to bool or the unknown type, not {found}"
        errors.append(invalid(path, text, message))
