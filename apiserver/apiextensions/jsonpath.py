"""The JSONPath of printer columns and selectable fields (client-go util/jsonpath).

Fields, indices, slices, wildcards, quoted keys, recursive descent and simple filters; keys
that are missing give no result.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import orjson

if TYPE_CHECKING:
    from collections.abc import Callable

    Step = Callable[[list[Any]], list[Any]]

_TOKEN = re.compile(
    r"\.\.(?P<deep>[A-Za-z0-9_\-\\.]*?)(?=[.\[]|$)"
    r"|\.(?P<name>(?:\\.|[^.\[\]\\(){}?])+)"
    r"|\[(?P<inside>'(?:\\'|[^'])*'|\"[^\"]*\"|\?\((?P<filter>[^\]]*)\)|[^\]]*)\]"
)
_FILTER = re.compile(r"\s*@(?P<path>[^\s=!<>]*)\s*(?:(?P<op>==|!=|<=|>=|<|>)\s*(?P<value>.+?))?\s*")


class JSONPathError(ValueError):
    """No path that this dialect knows."""


def compile_path(path: str) -> Callable[[Any], list[Any]]:
    """All values that ``path`` (``.spec.replicas``) finds. :raises JSONPathError."""
    text = path if path.startswith((".", "[", "$", "@")) else f".{path}"
    text = text.removeprefix("$").removeprefix("@")
    simple = _plain_names(text)
    if simple is not None:
        return _walk(simple)
    steps: list[Step] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None or match.end() == at:
            raise JSONPathError(f"unrecognized character in action: {text[at : at + 1]!r}")
        steps.append(_step(match))
        at = match.end()

    def find(value: Any) -> list[Any]:
        found = [value]
        for step in steps:
            found = step(found)
        return found

    return find


def _plain_names(text: str) -> tuple[str, ...] | None:
    if text in ("", "."):
        return ()
    if not text.startswith(".") or re.search(r"[\[\]*\\(){}]|\.\.|\.$", text):
        return None
    return tuple(text[1:].split("."))


def _walk(names: tuple[str, ...]) -> Callable[[Any], list[Any]]:
    def find(value: Any) -> list[Any]:
        for name in names:
            if not isinstance(value, dict) or name not in value:
                return []
            value = value[name]
        return [value]

    return find


def _step(match: re.Match[str]) -> Step:
    if match["deep"] is not None:
        name = match["deep"]
        return lambda found: [hit for value in found for hit in _descend(value, name)]
    if match["name"] is not None:
        name = re.sub(r"\\(.)", r"\1", match["name"])
        return _everything if name == "*" else _field(name)
    inside = match["inside"].strip()
    if match["filter"] is not None:
        return _filter(match["filter"])
    if inside[:1] in ("'", '"') and len(inside) > 1:
        return _field(inside[1:-1].replace("\\'", "'"))
    if inside == "*":
        return _everything
    if re.fullmatch(r"-?\d*(:-?\d*){0,2}", inside) and inside:
        return _slice(inside)
    if re.fullmatch(r"-?\d+(\s*,\s*-?\d+)+", inside):
        return _indices([int(part) for part in inside.split(",")])
    raise JSONPathError(f"invalid array index {inside}")


def _field(name: str) -> Step:
    return lambda found: [v[name] for v in found if isinstance(v, dict) and name in v]


def _everything(found: list[Any]) -> list[Any]:
    hits: list[Any] = []
    for value in found:
        if isinstance(value, dict):
            hits += value.values()
        elif isinstance(value, list):
            hits += value
    return hits


def _descend(value: Any, name: str) -> list[Any]:
    hits: list[Any] = []
    if isinstance(value, dict):
        if name in value:
            hits.append(value[name])
        elif not name:
            hits.append(value)
        for item in value.values():
            hits += _descend(item, name)
    elif isinstance(value, list):
        for item in value:
            hits += _descend(item, name)
    return hits


def _slice(inside: str) -> Step:
    parts = inside.split(":")
    if len(parts) == 1:
        return _indices([int(parts[0])])
    bounds = [int(part) if part else None for part in parts]
    which = slice(*bounds)
    return lambda found: [item for v in found if isinstance(v, list) for item in v[which]]


def _indices(indices: list[int]) -> Step:
    def step(found: list[Any]) -> list[Any]:
        hits = []
        for value in found:
            if isinstance(value, list):
                hits += [value[i] for i in indices if -len(value) <= i < len(value)]
        return hits

    return step


def _filter(text: str) -> Step:
    match = _FILTER.fullmatch(text)
    if match is None:
        raise JSONPathError(f"unrecognized filter {text}")
    find = compile_path(match["path"] or ".")
    operator = match["op"]
    wanted = _literal(match["value"]) if operator else None

    def keeps(item: Any) -> bool:
        hits = find(item)
        if not hits:
            return False
        return True if not operator else _compare(hits[0], operator, wanted)

    def step(found: list[Any]) -> list[Any]:
        return [i for v in found if isinstance(v, list) for i in v if keeps(i)]

    return step


def _literal(text: str) -> Any:
    if text[:1] in ("'", '"'):
        return text[1:-1]
    if text in ("true", "false"):
        return text == "true"
    try:
        return float(text) if "." in text else int(text)
    except ValueError:
        raise JSONPathError(f"unrecognized identifier {text}") from None


def _compare(left: Any, operator: str, right: Any) -> bool:
    if operator in ("==", "!="):
        return bool(left == right) == (operator == "==")
    try:
        if operator == "<":
            return bool(left < right)
        if operator == ">":
            return bool(left > right)
        return bool(left <= right) if operator == "<=" else bool(left >= right)
    except TypeError:
        return False


def text_of(value: Any) -> str:
    """A result as it is printed in a column of type string."""
    if value is None:
        return "<nil>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict | list):
        return orjson.dumps(value, option=orjson.OPT_SORT_KEYS).decode()
    return str(value)
