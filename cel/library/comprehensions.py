"""What folds over two variables need: a map with one more entry. The compiler has the loop."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def _insert(values: dict[Any, Any], key: Any, value: Any) -> dict[Any, Any]:
    return {**values, key: value}


def _insert_all(values: dict[Any, Any], more: dict[Any, Any]) -> dict[Any, Any]:
    return {**values, **more}


def rows() -> Iterator[tuple[str, str, Callable[..., Any]]]:
    yield (
        "@mapInsert_map_key_value",
        "cel.@mapInsert(map(K, V), K, V) -> map(K, V)",
        _insert,
    )
    yield (
        "@mapInsert_map_map",
        "cel.@mapInsert(map(K, V), map(K, V)) -> map(K, V)",
        _insert_all,
    )
