"""YAML bodies: what sigs.k8s.io/yaml makes of them, as JSON values.

Values are built from libyaml's events with a stack of our own, so that depth, aliases and
repeated keys are under control and scalars follow go-yaml v2 instead of PyYAML (which reads
``12:30`` as a number and dates as dates).
"""

from __future__ import annotations

import base64
import re
from typing import Any

from pilothouse.apiserver.codec.yaml_aside import ReadBody

MAX_DEPTH = 240
"""Below the nesting that orjson can write."""
_MAX_NODES = 400_000
"""Values that aliases may add to a document before it counts as a bomb."""

_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_TRUE = frozenset("y Y yes Yes YES true True TRUE on On ON".split())
_FALSE = frozenset("n N no No NO false False FALSE off Off OFF".split())
_INFINITE = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?")
_INTEGERS = (
    (re.compile(r"([-+]?)0[xX]([0-9a-fA-F]+)"), 16),
    (re.compile(r"([-+]?)0[bB]([01]+)"), 2),
    (re.compile(r"([-+]?)0[oO]?([0-7]+)"), 8),
    (re.compile(r"([-+]?)(0|[1-9][0-9]*)"), 10),
)
_MERGE = object()


class YAMLError(ValueError):
    """With the text of go-yaml and sigs.k8s.io/yaml."""


def load(data: bytes) -> tuple[Any, str]:
    """The first document's value and the strict error's text (repeated keys) or "".

    :raises YAMLError: not YAML, or nothing that JSON can hold.
    """
    if isinstance(data, ReadBody):
        return data.result()
    import yaml

    builder = _Builder()
    try:
        for event in yaml.parse(data, Loader=yaml.CSafeLoader):
            builder.take(event)
            if builder.done:
                break
    except yaml.MarkedYAMLError as error:
        raise YAMLError(f"error converting YAML to JSON: yaml: {_where(error)}") from None
    except (yaml.YAMLError, UnicodeDecodeError, ValueError) as error:
        if isinstance(error, YAMLError):
            raise
        raise YAMLError("error converting YAML to JSON: yaml: invalid characters") from None
    strict = ""
    if builder.repeated:
        lines = "\n".join(f"  {line}" for line in builder.repeated)
        strict = f"error converting YAML to JSON: yaml: unmarshal errors:\n{lines}"
    return builder.root, strict


def _where(error: Any) -> str:
    mark, problem = error.problem_mark, error.problem or "unknown problem parsing YAML content"
    if "maximum nesting" in problem:  # PyYAML from 6.0.4 on is the first to see it
        return "exceeded max depth"
    scanner = type(error).__name__ == "ScannerError"
    line = 0
    if mark is not None and mark.line:
        line = mark.line + (1 if scanner else 0)
    elif error.context_mark is not None:
        line = error.context_mark.line
    return f"line {line}: {problem}" if line else str(problem)


class _Open:
    """A mapping or sequence that is being filled."""

    __slots__ = ("anchor", "has_key", "key", "line", "merges", "value")

    def __init__(self, value: Any, anchor: str | None) -> None:
        self.value = value
        self.anchor = anchor
        self.has_key = False
        self.key: Any = None
        self.line = 0
        self.merges: list[Any] = []


class _Builder:
    def __init__(self) -> None:
        self.root: Any = None
        self.done = False
        self.repeated: list[str] = []
        self.stack: list[_Open] = []
        self.anchors: dict[str, Any] = {}
        self.copied = 0

    def take(self, event: Any) -> None:
        name = type(event).__name__
        if name == "ScalarEvent":
            value = _scalar(event)
            if event.anchor:
                self.anchors[event.anchor] = value
            self.put(value, event.start_mark.line + 1)
        elif name in ("MappingStartEvent", "SequenceStartEvent"):
            if len(self.stack) >= MAX_DEPTH:
                raise YAMLError("error converting YAML to JSON: yaml: exceeded max depth")
            if self.stack and self.wants_key():
                raise YAMLError(
                    "error converting YAML to JSON: yaml: invalid map key: a mapping or sequence"
                )
            self.stack.append(_Open({} if name[0] == "M" else [], event.anchor))
        elif name in ("MappingEndEvent", "SequenceEndEvent"):
            finished = self.stack.pop()
            if finished.merges:
                finished.value = self.merged(finished)
            if finished.anchor:
                self.anchors[finished.anchor] = finished.value
            self.put(finished.value, 0)
        elif name == "AliasEvent":
            if event.anchor not in self.anchors:
                raise YAMLError(
                    f"error converting YAML to JSON: yaml: unknown anchor '{event.anchor}' "
                    "referenced"
                )
            self.put(self.copy(self.anchors[event.anchor]), event.start_mark.line + 1)
        elif name == "DocumentEndEvent":
            self.done = True

    def wants_key(self) -> bool:
        top = self.stack[-1]
        return isinstance(top.value, dict) and not top.has_key

    def put(self, value: Any, line: int) -> None:
        if not self.stack:
            self.root = None if value is _MERGE else value
            return
        top = self.stack[-1]
        if isinstance(top.value, list):
            top.value.append("<<" if value is _MERGE else value)
        elif not top.has_key:
            top.key, top.has_key, top.line = value, True, line
        else:
            top.has_key = False
            if top.key is _MERGE:
                top.merges.append(value)
                return
            key = _key_text(top.key)
            if key in top.value:
                self.repeated.append(f'line {top.line}: key "{key}" already set in map')
            top.value[key] = "<<" if value is _MERGE else value

    def merged(self, finished: _Open) -> dict[str, Any]:
        """``<<`` keys: what they bring stands behind the mapping's own keys."""
        result: dict[str, Any] = {}
        for source in finished.merges:
            for each in source if isinstance(source, list) else [source]:
                if not isinstance(each, dict):
                    raise YAMLError(
                        "error converting YAML to JSON: yaml: map merge requires map or sequence "
                        "of maps as the value"
                    )
                for key, value in each.items():
                    result.setdefault(key, value)
        result.update(finished.value)
        return result

    def copy(self, value: Any) -> Any:
        self.copied += 1
        if self.copied > _MAX_NODES:
            raise YAMLError(
                "error converting YAML to JSON: yaml: document contains excessive aliasing"
            )
        if isinstance(value, dict):
            return {key: self.copy(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.copy(item) for item in value]
        return value


def _key_text(key: Any) -> str:
    if isinstance(key, str):
        return key
    if isinstance(key, bool):
        return "true" if key else "false"
    if isinstance(key, (int, float)):
        return str(key)
    raise YAMLError(
        "error converting YAML to JSON: unsupported map key of type: invalid, key: <nil>"
    )


def _scalar(event: Any) -> Any:
    text, tag = event.value, event.tag
    if tag in ("!", "tag:yaml.org,2002:str"):
        return text
    if tag == "tag:yaml.org,2002:binary":
        try:
            return base64.b64decode(text).decode("utf-8", "replace")
        except ValueError:
            raise YAMLError(
                "error converting YAML to JSON: yaml: !!binary value contains invalid base64 data"
            ) from None
    if tag is None and not event.implicit[0]:
        return text
    found = resolve(text)
    if tag == "tag:yaml.org,2002:float" and isinstance(found, int):
        return found
    return found


def resolve(text: str) -> Any:
    """The value of a plain scalar (go-yaml's resolve)."""
    if text in _NULLS:
        return None
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    if text == "<<":
        return _MERGE
    if text[0] not in "+-.0123456789":
        return text
    if _INFINITE.fullmatch(text):
        shown = "NaN" if "a" in text.lower() else ("-Inf" if text[0] == "-" else "+Inf")
        raise YAMLError(f"error converting YAML to JSON: json: unsupported value: {shown}")
    return _number(text)


def _number(text: str) -> Any:
    plain = text.replace("_", "")
    for pattern, base in _INTEGERS:
        match = pattern.fullmatch(plain)
        if match and len(plain) < 70:
            value = int(match[2], base) * (-1 if match[1] == "-" else 1)
            if -(1 << 63) <= value < 1 << 64:
                return value
    if _FLOAT.fullmatch(plain):
        number = float(plain)
        if number in (float("inf"), float("-inf")):
            return text
        # encoding/json prints whole floats without a fraction.
        return int(number) if number.is_integer() and abs(number) < 1e21 else number
    return text
