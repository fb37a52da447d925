"""One node type for the structure of every API object, built-in or custom.

Built-in kinds are built from ``apis/structure.json`` (generated facts), custom resources from
their CRD. Strict decoding, pruning, static defaulting, strategic merge, server-side apply and
explain all read this. Nodes are immutable once built, shared, and may be recursive, so
``fields`` and ``element`` are resolved on first use and nothing walks a whole tree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

Kind = Literal["string", "integer", "number", "boolean", "object", "map", "list", "any"]
"""``object`` has named fields, ``map`` free keys and one element type, ``any`` is untyped JSON."""

_NO_FIELDS: dict[str, TypeSchema] = {}


class TypeSchema:
    """The type of one value.

    ``default`` is a JSON value or :data:`NO_DEFAULT`. ``list_type`` follows
    ``x-kubernetes-list-type`` with ``atomic`` where a list says nothing. ``atomic`` is
    ``x-kubernetes-map-type: atomic`` for objects and maps. ``patch_strategy`` and
    ``patch_merge_key`` are strategic merge's and exist on built-ins only.
    """

    __slots__ = (
        "_element",
        "_fields",
        "_resolve",
        "atomic",
        "default",
        "embedded_resource",
        "enum",
        "extra",
        "format",
        "go_type",
        "int_or_string",
        "kind",
        "list_type",
        "map_keys",
        "name",
        "nullable",
        "omit_empty",
        "patch_merge_key",
        "patch_strategy",
        "preserve_unknown",
        "required",
    )

    def __init__(
        self,
        kind: Kind,
        *,
        name: str = "",
        fields: Mapping[str, TypeSchema] | None = None,
        element: TypeSchema | None = None,
        resolve: Callable[[], tuple[Mapping[str, TypeSchema], TypeSchema | None]] | None = None,
        format: str = "",
        go_type: str = "",
        required: frozenset[str] = frozenset(),
        omit_empty: bool = False,
        default: Any = None,
        enum: tuple[Any, ...] = (),
        nullable: bool = False,
        list_type: Literal["atomic", "set", "map"] = "atomic",
        map_keys: tuple[str, ...] = (),
        atomic: bool = False,
        patch_strategy: tuple[str, ...] = (),
        patch_merge_key: str = "",
        int_or_string: bool = False,
        preserve_unknown: bool = False,
        embedded_resource: bool = False,
        extra: Any = None,
    ) -> None:
        self.kind = kind
        self.name = name
        """Definition name, e.g. ``io.k8s.api.core.v1.PodSpec``; empty for inline types."""
        self._fields = fields if resolve is None else None
        self._element = element
        self._resolve = resolve
        self.format = format
        self.go_type = go_type
        """As Go's JSON decoder names it in errors: ``int32``, ``string``, ``v1.PodSpec``."""
        self.required = required
        self.omit_empty = omit_empty
        """The *field* that holds this type drops its zero value when Go encodes it."""
        self.default = NO_DEFAULT if default is None else default
        self.enum = enum
        self.nullable = nullable
        self.list_type = list_type
        self.map_keys = map_keys
        self.atomic = atomic
        self.patch_strategy = patch_strategy
        self.patch_merge_key = patch_merge_key
        self.int_or_string = int_or_string
        self.preserve_unknown = preserve_unknown
        self.embedded_resource = embedded_resource
        self.extra = extra
        """Owner's data: protobuf numbers for built-ins, the JSON schema for custom resources."""

    @property
    def fields(self) -> Mapping[str, TypeSchema]:
        """Named fields of an ``object`` (empty otherwise)."""
        if self._fields is None:
            self._fill()
        return self._fields if self._fields is not None else _NO_FIELDS

    @property
    def element(self) -> TypeSchema | None:
        """Element type of a ``list`` or ``map``."""
        if self._resolve is not None:
            self._fill()
        return self._element

    def _fill(self) -> None:
        if self._resolve is None:
            self._fields = _NO_FIELDS
        else:
            self._fields, self._element = self._resolve()
            self._resolve = None

    def __repr__(self) -> str:
        return f"TypeSchema({self.kind}, {self.name or self.format or '-'})"


class _NoDefault:
    def __repr__(self) -> str:
        return "NO_DEFAULT"

    def __bool__(self) -> bool:
        return False


NO_DEFAULT: Any = _NoDefault()

ANY = TypeSchema("any", preserve_unknown=True)
"""Untyped JSON; merges as deduced types do (maps granular, lists atomic)."""
