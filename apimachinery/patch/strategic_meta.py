"""What applying and creating a strategic merge patch share: lookups, order, Go's texts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from pilothouse.apimachinery.patch.errors import PatchError

if TYPE_CHECKING:
    from pilothouse.apimachinery.typeschema import TypeSchema

DIRECTIVE = "$patch"
RETAIN_KEYS = "$retainKeys"
DELETE_PREFIX = "$deleteFromPrimitiveList"
ORDER_PREFIX = "$setElementOrder"
NO_LIST_OF_LISTS = "lists of lists are not supported"


class PatchMeta(NamedTuple):
    schema: TypeSchema | None
    """Of the field, or of a list's elements."""
    strategy: str
    """``merge``, ``replace`` or empty."""
    merge_key: str
    retain_keys: bool


_GO_KINDS = {
    "map": "map",
    "list": "slice",
    "string": "string",
    "integer": "int64",
    "number": "float64",
    "boolean": "bool",
    "any": "interface",
}


def _lookup(schema: TypeSchema | None, key: str) -> TypeSchema:
    if schema is None or schema.kind != "object":
        kind = _GO_KINDS[schema.kind] if schema is not None else "interface"
        text = f"merging an object in json but data type is not struct, instead is: {kind}"
        raise PatchError(text, 500)
    field = schema.fields.get(key)
    if field is None:
        folded = key.casefold()
        for name, candidate in schema.fields.items():
            if name.casefold() == folded:
                return candidate
        type_name = (schema.go_type or schema.name).rpartition(".")[2]
        raise PatchError(
            f'unable to find api field in struct {type_name} for the json field "{key}"', 500
        )
    return field


def _strategies(field: TypeSchema) -> tuple[str, bool]:
    strategies = field.patch_strategy
    if not strategies:
        return "", False
    rest = [s for s in strategies if s and s != "retainKeys"]
    if len(rest) > 1:
        raise PatchError(f"unexpected patch strategy: [{' '.join(strategies)}]", 500)
    return (rest[0] if rest else ""), "retainKeys" in strategies


def lookup_struct(schema: TypeSchema | None, key: str) -> PatchMeta:
    """:raises PatchError: the type has no such field."""
    field = _lookup(schema, key)
    strategy, retain_keys = _strategies(field)
    return PatchMeta(field, strategy, field.patch_merge_key, retain_keys)


def lookup_list(schema: TypeSchema | None, key: str) -> PatchMeta:
    """:raises PatchError: the type has no such field, or it is no list."""
    field = _lookup(schema, key)
    strategy, retain_keys = _strategies(field)
    if field.kind != "list":
        raise PatchError("expected slice or array type, but got: struct", 500)
    if field.element is not None and field.element.kind == "list":
        raise PatchError("unexpected slice of slice", 500)
    return PatchMeta(field.element, strategy, field.patch_merge_key, retain_keys)


def same(a: Any, b: Any) -> bool:
    """Go's equality of two interface values."""
    return type(a) is type(b) and bool(a == b)


def elements_are_maps(*lists: list[Any]) -> bool:
    """All elements have one type; is it map? :raises PatchError: mixed, none, or lists."""
    kind: type | None = None
    for items in lists:
        for item in items:
            if kind is None:
                kind = type(item)
                if kind is list:
                    raise PatchError(NO_LIST_OF_LISTS, 422)
            elif type(item) is not kind:
                shown = format_value(list(lists))
                raise PatchError(f"list element types are not identical: {shown}", 500)
    if kind is None:
        raise PatchError("no elements in any of the given slices", 500)
    return kind is dict


def merge_key_equal(left: Any, right: Any, merge_key: str) -> bool:
    if not merge_key:
        return same(left, right)
    for item in (left, right):
        if type(item) is not dict:
            raise bad_arg_type({}, item)
        if merge_key not in item:
            raise no_merge_key(item, merge_key)
    return same(left[merge_key], right[merge_key])


def order_key(item: Any, merge_key: str) -> Any:
    value = item.get(merge_key) if merge_key and type(item) is dict else item
    try:
        hash(value)
    except TypeError:
        return (type(value), repr(value))
    return (type(value), value)


def sort_by_order(items: list[Any], order: list[Any], merge_key: str) -> list[Any]:
    """``items`` as they stand in ``order``; deletions come last."""
    if merge_key:
        for item in (*items, *order):
            if type(item) is not dict:
                raise bad_arg_type({}, item)
            if merge_key not in item:
                raise no_merge_key(item, merge_key)
    places = _places(order, merge_key)
    last = len(order)

    def place(item: Any) -> int:
        if merge_key and item.get(DIRECTIVE) == "delete":
            return last + 1
        return places.get(order_key(item, merge_key), last)

    return sorted(items, key=place)


def _places(order: list[Any], merge_key: str) -> dict[Any, int]:
    places: dict[Any, int] = {}
    for i, item in enumerate(order):
        places.setdefault(order_key(item, merge_key), i)
    return places


def normalize_order(
    patch: list[Any],
    server_only: list[Any],
    patch_order: list[Any],
    server_order: list[Any],
    merge_key: str,
) -> list[Any]:
    """One list of both, each in its own order, interleaved as the live list was."""
    right = sort_by_order(patch, patch_order, merge_key)
    left = sort_by_order(server_only, server_order, merge_key)
    places = _places(server_order, merge_key)
    result: list[Any] = []
    i = j = 0
    while i < len(left) and j < len(right):
        li = places.get(order_key(left[i], merge_key))
        ri = places.get(order_key(right[j], merge_key))
        if li is not None and ri is not None and li < ri:
            result.append(left[i])
            i += 1
        else:
            result.append(right[j])
            j += 1
    result += left[i:]
    result += right[j:]
    return result


def no_merge_key(item: dict[str, Any], merge_key: str) -> PatchError:
    text = f"map: {format_value(item)} does not contain declared merge key: {merge_key}"
    return PatchError(text, 500)


def bad_arg_type(expected: Any, actual: Any) -> PatchError:
    text = f"expected a {_go_type(expected)}, but received a {_go_type(actual)}"
    return PatchError(text, 500)


def _go_type(value: Any) -> str:
    if value is None:
        return "%!s(<nil>)"
    if isinstance(value, bool):
        return "bool"
    names: dict[type, str] = {
        dict: "map[string]interface {}",
        list: "[]interface {}",
        str: "string",
        int: "int64",
        float: "float64",
    }
    return names.get(type(value), type(value).__name__)


def format_value(value: Any) -> str:
    """Go's %v of a decoded JSON value."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return f"map[{' '.join(f'{k}:{format_value(value[k])}' for k in sorted(value))}]"
    if isinstance(value, list):
        return f"[{' '.join(map(format_value, value))}]"
    if isinstance(value, float):
        text = repr(value)
        return text[:-2] if text.endswith(".0") else text
    return str(value)
