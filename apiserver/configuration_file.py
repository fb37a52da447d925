"""Reads configuration files of the API server strictly: YAML or JSON of a known kind.

A shape says what a file may hold: a dict of fields, a list with the shape of its items, or the
name of a scalar. Unknown fields, repeated keys and wrong types are errors, in upstream's words.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from pilothouse.apimachinery.timefmt import parse_duration

Shape = Mapping[str, Any] | list[Any] | str
_SCALARS: dict[str, tuple[type, ...]] = {"string": (str,), "bool": (bool,), "int": (int,)}
_MAP = "map"
"""Of strings to strings."""
_DURATION = "duration"


def load_configuration(
    data: bytes, group: str, kind: str, versions: Iterable[str], shape: Mapping[str, Any]
) -> dict[str, Any]:
    """The decoded file. :raises ValueError: it is none of that kind, or not as its shape."""
    from pilothouse.apiserver.codec.yaml_body import load

    value, repeated = load(data)
    if not isinstance(value, dict):
        raise ValueError(f"no kind is given: the file holds no {kind}")
    found_version, found_kind = value.get("apiVersion") or "", value.get("kind") or ""
    if not found_kind:
        raise ValueError("Object 'Kind' is missing")
    if not found_version:
        raise ValueError("Object 'apiVersion' is missing")
    if found_kind != kind or found_version not in [f"{group}/{v}" for v in versions]:
        raise ValueError(f'no kind "{found_kind}" is registered for version "{found_version}"')
    problems = [repeated] if repeated else []
    known = {"apiVersion": "string", "kind": "string", **shape}
    _check(value, known, "", problems)
    if problems:
        raise ValueError(f"strict decoding error: {', '.join(problems)}")
    return value


def _check(value: Any, shape: Shape, path: str, problems: list[str]) -> None:
    if value is None:
        return
    if isinstance(shape, Mapping):
        if not isinstance(value, dict):
            problems.append(f"{path or 'the file'} must be an object")
            return
        for key, item in value.items():
            where = f"{path}.{key}" if path else key
            if key in shape:
                _check(item, shape[key], where, problems)
            else:
                problems.append(f'unknown field "{where}"')
    elif isinstance(shape, list):
        if not isinstance(value, list):
            problems.append(f"{path} must be a list")
            return
        for number, item in enumerate(value):
            _check(item, shape[0], f"{path}[{number}]", problems)
    elif not _fits(value, shape):
        problems.append(f"{path} must be a {shape}")


def _fits(value: Any, scalar: str) -> bool:
    if scalar == _MAP:
        return isinstance(value, dict) and all(isinstance(v, str) for v in value.values())
    if scalar == _DURATION:
        if not isinstance(value, str):
            return False
        try:
            parse_duration(value)
        except ValueError:
            return False
        return True
    return isinstance(value, _SCALARS[scalar]) and (scalar == "bool" or value is not True)


def seconds(value: str | None, default: float = 0.0) -> float:
    """A duration of the file (checked by its shape); none and zero are the default."""
    return (parse_duration(value) if value else 0.0) or default


def aggregate(errors: Iterable[Any]) -> str:
    """utilerrors.Aggregate's text."""
    texts = list(dict.fromkeys(str(error) for error in errors))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"
