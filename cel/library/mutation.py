"""What mutating policies have on top: ``JSONPatch{...}``, ``Object.spec{...}``, escaped keys."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pilothouse.cel import types
from pilothouse.cel.operators import no_overload
from pilothouse.cel.types import Field, Type

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class AnyFields(Mapping[str, Field]):
    """Each name is a field, of any type."""

    def __getitem__(self, name: str) -> Field:
        return Field(name, types.DYN)

    def __iter__(self) -> Iterator[str]:
        return iter(())

    def __len__(self) -> int:
        return 0


JSON_PATCH = types.object_of(
    "JSONPatch",
    {
        "op": Field("op", types.STRING),
        "path": Field("path", types.STRING),
        "from": Field("from", types.STRING),
        "value": Field("value", types.DYN),
    },
)
OBJECT = types.object_of("Object", AnyFields())


class PatchTypes(Mapping[str, Type]):
    """``JSONPatch``, ``Object`` and all names that begin with ``Object.``."""

    def __getitem__(self, name: str) -> Type:
        if name == "JSONPatch":
            return JSON_PATCH
        if name == "Object":
            return OBJECT
        if name.startswith("Object."):
            return types.object_of(name, AnyFields())
        raise KeyError(name)

    def __iter__(self) -> Iterator[str]:
        return iter(("JSONPatch", "Object"))

    def __len__(self) -> int:
        return 2


def _escape_key(key: Any) -> str:
    if type(key) is not str:
        raise no_overload()
    return key.replace("~", "~0").replace("/", "~1")


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield (
        "string_jsonpatch_escapeKey_string",
        "jsonpatch.escapeKey(string) -> string",
        _escape_key,
    )
