"""Type schemas of the built-in kinds, made on demand from ``apis/structure.json``.

``structure.json`` holds facts that ``hack/structure`` extracted from the Go types. A definition
is built when it is first asked for and its fields when they are first looked at, so nothing is
walked at start. Definitions are immutable facts and therefore cached per process.

The shape of the file: ``packages.<group/version>.types.<Name>`` is either
``{"alias": type, "enum": [...], "message": bool}`` or ``{"kind": bool, "atomic": bool,
"fields": [[json name, type, protobuf number, flags, extra], ...]}`` with trailing facts left
out. Types are spelled ``string``, ``*T``, ``[]T``, ``{}T`` (a map), ``bytes``, ``Name`` (same
package), ``group/version.Name`` and ``%special``. Flags: ``o`` omitempty, ``z`` omitzero,
``i`` inline, ``q`` required in OpenAPI. Extra: ``ps``/``pk`` patch strategy and merge key,
``lt``/``mk`` list type and map keys, ``at`` atomic map, ``d`` default.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pilothouse.apimachinery.typeschema import ANY, TypeSchema

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pilothouse.apimachinery.schema import GroupVersionKind

    _FlatRow = tuple[str, list[Any], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class GoField:
    """``TypeSchema.extra`` of a built-in node: what Go and protobuf know beyond JSON."""

    number: int = 0
    """Protobuf field number in the message that holds this node; 0 when it has none."""
    pointer: bool = False
    omit_zero: bool = False
    special: str = ""
    """A type with a JSON form of its own: time, microtime, duration, quantity, intstr, raw,
    json, fields, bytes, or_array, or_bool, or_strings."""
    inline: tuple[tuple[int, str], ...] = ()
    """On objects: (number, definition) of messages that JSON flattens into this object."""
    list_message: bool = False
    """A named list that protobuf wraps in a message with the elements as field 1."""
    granular_given: bool = False
    """The source says that a map is granular (OpenAPI repeats that)."""
    list_type_given: bool = False
    """The source says which list type it is (OpenAPI repeats only that)."""
    via: tuple[str, ...] = ()
    """Go names of the embedded structs between the object and this field (error texts)."""
    alias: str = ""
    """Name of the scalar type behind an alias (``string`` for ``v1.Protocol``)."""


NO_GO_FIELD = GoField()

_SPECIALS: dict[str, tuple[str, str, str]] = {
    # name: (kind, OpenAPI format, Go type)
    "time": ("string", "date-time", "v1.Time"),
    "microtime": ("string", "date-time", "v1.MicroTime"),
    "duration": ("string", "", "v1.Duration"),
    "quantity": ("string", "quantity", "resource.Quantity"),
    "intstr": ("string", "int-or-string", "intstr.IntOrString"),
    "raw": ("any", "", "runtime.RawExtension"),
    "json": ("any", "", "v1.JSON"),
    "fields": ("any", "", "v1.FieldsV1"),
}
SPECIAL_DEFINITIONS: dict[str, str] = {
    "time": "io.k8s.apimachinery.pkg.apis.meta.v1.Time",
    "microtime": "io.k8s.apimachinery.pkg.apis.meta.v1.MicroTime",
    "duration": "io.k8s.apimachinery.pkg.apis.meta.v1.Duration",
    "quantity": "io.k8s.apimachinery.pkg.api.resource.Quantity",
    "intstr": "io.k8s.apimachinery.pkg.util.intstr.IntOrString",
    "raw": "io.k8s.apimachinery.pkg.runtime.RawExtension",
    "json": "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON",
    "fields": "io.k8s.apimachinery.pkg.apis.meta.v1.FieldsV1",
}
_OWN_JSON = {
    "JSONSchemaPropsOrArray": "or_array",
    "JSONSchemaPropsOrBool": "or_bool",
    "JSONSchemaPropsOrStringArray": "or_strings",
}
_SCALARS: dict[str, tuple[str, str]] = {
    "string": ("string", ""),
    "bool": ("boolean", ""),
    "int32": ("integer", "int32"),
    "int64": ("integer", "int64"),
    "float64": ("number", "double"),
}
_META = "meta/v1"
_EVERY_GROUP_KINDS = frozenset(
    {
        "CreateOptions",
        "DeleteOptions",
        "GetOptions",
        "ListOptions",
        "PatchOptions",
        "UpdateOptions",
        "WatchEvent",
    }
)
"""Meta kinds that every group version knows (metav1.AddToGroupVersion)."""


@cache
def _structure() -> dict[str, Any]:
    import orjson

    content: dict[str, Any] = orjson.loads(Path(__file__).with_name("structure.json").read_bytes())
    return content


def upstream_version() -> str:
    """The Kubernetes release whose facts these are, e.g. ``v1.37.2``."""
    return str(_structure()["version"])


@cache
def _packages_by_model() -> dict[str, str]:
    return {package["model"]: short for short, package in _structure()["packages"].items()}


@cache
def _packages_by_group_version() -> dict[tuple[str, str], str]:
    return {
        (package["group"], package["version"]): short
        for short, package in _structure()["packages"].items()
        if short != _META
    }


def definition(name: str) -> TypeSchema:
    """The schema of an OpenAPI definition such as ``io.k8s.api.core.v1.Pod``.

    :raises KeyError: there is no such definition.
    """
    found = _DEFINITIONS.get(name)
    if found is None:
        model, _, type_name = name.rpartition(".")
        found = _DEFINITIONS[name] = _build_definition(_packages_by_model()[model], type_name)
    return found


def for_gvk(gvk: GroupVersionKind) -> TypeSchema | None:
    """The schema of a built-in kind, None for kinds that are no built-in."""
    package = _packages_by_group_version().get((gvk.group, gvk.version))
    if package is not None and _is_kind(package, gvk.kind):
        return definition(_definition_name(package, gvk.kind))
    if gvk.kind in _EVERY_GROUP_KINDS or (
        (gvk.group, gvk.version) in (("", "v1"), ("meta.k8s.io", "v1"))
        and _is_kind(_META, gvk.kind)
    ):
        return definition(_definition_name(_META, gvk.kind))
    return None


def kinds_of_definition(name: str) -> list[tuple[str, str, str]]:
    """(group, version, kind) that a definition stands for; empty for mere types."""
    model, _, type_name = name.rpartition(".")
    short = _packages_by_model().get(model)
    if short is None or not (
        _is_kind(short, type_name) or (short == _META and type_name in _EVERY_GROUP_KINDS)
    ):
        return []
    package = _structure()["packages"][short]
    return [(package["group"], package["version"], type_name)]


def _is_kind(package: str, name: str) -> bool:
    facts = _structure()["packages"][package]["types"].get(name)
    return bool(facts and facts.get("kind"))


def _definition_name(package: str, name: str) -> str:
    return f"{_structure()['packages'][package]['model']}.{name}"


_DEFINITIONS: dict[str, TypeSchema] = {}


def _build_definition(package: str, name: str) -> TypeSchema:
    facts = _structure()["packages"][package]["types"][name]
    full_name = _definition_name(package, name)
    go_type = f"{package.rpartition('/')[2]}.{name}"
    own = _OWN_JSON.get(name)
    if own is not None:
        return TypeSchema("any", name=full_name, go_type=go_type, extra=GoField(special=own))
    if "alias" in facts:
        target = _node(package, facts["alias"], {})
        go = replace(target.extra, alias=target.go_type, list_message=facts.get("message", False))
        enum = tuple(facts.get("enum", ()))
        return _variant(target, go_type=go_type, extra=go, name="", enum=enum or target.enum)
    rows = list(_flat_rows(package, name))
    return TypeSchema(
        "object",
        name=full_name,
        go_type=go_type,
        resolve=lambda: (_fields(rows), None),
        required=frozenset(row[0] for _, row, _ in rows if "q" in _flags(row)),
        atomic=facts.get("atomic", False),
        extra=GoField(inline=tuple(_inline_messages(package, name))),
    )


def _flat_rows(package: str, name: str, via: tuple[str, ...] = ()) -> Iterator[_FlatRow]:
    """(package, row, embedded names) of every JSON field, inline structs expanded in order."""
    for row in _structure()["packages"][package]["types"][name].get("fields", ()):
        if "i" in _flags(row):
            inner_package, inner = _split(package, row[1])
            yield from _flat_rows(inner_package, inner, (*via, inner))
        else:
            yield package, row, via


def _inline_messages(package: str, name: str) -> Iterator[tuple[int, str]]:
    for row in _structure()["packages"][package]["types"][name].get("fields", ()):
        if "i" in _flags(row) and len(row) > 2 and row[2]:
            yield row[2], _definition_name(*_split(package, row[1]))


def _split(package: str, type_text: str) -> tuple[str, str]:
    other, _, name = type_text.lstrip("*").rpartition(".")
    return other or package, name


def _flags(row: list[Any]) -> str:
    return row[3] if len(row) > 3 else ""


def _fields(rows: list[_FlatRow]) -> Mapping[str, TypeSchema]:
    return {row[0]: _field(package, row, via) for package, row, via in rows}


def _field(package: str, row: list[Any], via: tuple[str, ...]) -> TypeSchema:
    flags, extra = _flags(row), row[4] if len(row) > 4 else {}
    node = _node(package, row[1], extra)
    go = replace(
        node.extra,
        number=row[2] if len(row) > 2 else 0,
        omit_zero="z" in flags,
        list_type_given="lt" in extra,
        granular_given=extra.get("at") is False,
        via=via,
    )
    changes: dict[str, Any] = {"omit_empty": "o" in flags, "extra": go}
    if "d" in extra:
        changes["default"] = extra["d"]
    return _variant(node, **changes)


def _node(package: str, text: str, facts: dict[str, Any]) -> TypeSchema:
    """The node of a type expression with the facts of the field that holds it."""
    if text[0] == "*":
        node = _node(package, text[1:], facts)
        return _variant(node, extra=replace(node.extra, pointer=True))
    if text.startswith("[]"):
        element = _node(package, text[2:], {})
        return _list_node(element, f"[]{element.go_type}", facts)
    if text.startswith("{}"):
        element = _node(package, text[2:], {})
        return TypeSchema(
            "map",
            element=element,
            go_type=f"map[string]{element.go_type}",
            atomic=facts.get("at", False),
            patch_strategy=tuple(facts.get("ps", ())),
            extra=NO_GO_FIELD,
        )
    if text[0] == "%":
        return _special(text[1:])
    if text == "bytes":
        return TypeSchema(
            "string", format="byte", go_type="[]uint8", extra=GoField(special="bytes")
        )
    if text in _SCALARS:
        kind, format_ = _SCALARS[text]
        return TypeSchema(kind, format=format_, go_type=text, extra=NO_GO_FIELD)  # type: ignore[arg-type]
    return _reference(package, text, facts)


def _list_node(element: TypeSchema, go_type: str, facts: dict[str, Any]) -> TypeSchema:
    return TypeSchema(
        "list",
        element=element,
        go_type=go_type,
        list_type=facts.get("lt", "atomic"),
        map_keys=tuple(facts.get("mk", ())),
        patch_strategy=tuple(facts.get("ps", ())),
        patch_merge_key=facts.get("pk", ""),
        extra=NO_GO_FIELD,
    )


def _special(name: str) -> TypeSchema:
    if name in ("uid", "nodename"):
        go_type = "types.UID" if name == "uid" else "types.NodeName"
        return TypeSchema("string", go_type=go_type, extra=GoField(alias="string"))
    kind, format_, go_type = _SPECIALS[name]
    return TypeSchema(
        kind,  # type: ignore[arg-type]
        format=format_,
        go_type=go_type,
        int_or_string=name == "intstr",
        preserve_unknown=kind == "any",
        extra=GoField(special=name),
    )


def _reference(package: str, text: str, facts: dict[str, Any]) -> TypeSchema:
    other, name = _split(package, text)
    target_facts = _structure()["packages"][other]["types"][name]
    if "alias" in target_facts:
        target = definition(_definition_name(other, name))
        if target.kind not in ("list", "map"):
            return target
        node = _list_node(target.element or ANY, target.go_type, facts)
        if target.kind == "map":
            node = _node(other, target_facts["alias"], facts)
        return _variant(node, go_type=target.go_type, extra=target.extra)
    full_name = _definition_name(other, name)
    if name in _OWN_JSON:
        return definition(full_name)
    return _object_reference(full_name, facts, bool(target_facts.get("atomic")))


def _object_reference(full_name: str, facts: dict[str, Any], atomic: bool) -> TypeSchema:
    target = definition(full_name)
    return TypeSchema(
        "object",
        name=full_name,
        go_type=target.go_type,
        resolve=lambda: (target.fields, None),
        required=target.required,
        atomic=facts.get("at", atomic),
        patch_strategy=tuple(facts.get("ps", ())),
        extra=target.extra,
    )


_COPIED = (
    "name",
    "format",
    "go_type",
    "required",
    "omit_empty",
    "enum",
    "nullable",
    "list_type",
    "map_keys",
    "atomic",
    "patch_strategy",
    "patch_merge_key",
    "int_or_string",
    "preserve_unknown",
    "embedded_resource",
    "extra",
)


def _variant(node: TypeSchema, **changes: Any) -> TypeSchema:
    """A node like ``node`` but for ``changes``; children stay shared and unresolved."""
    values = {name: getattr(node, name) for name in _COPIED} | changes
    return TypeSchema(node.kind, resolve=lambda: (node.fields, node.element), **values)
