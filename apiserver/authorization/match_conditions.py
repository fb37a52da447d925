"""Which requests an authorization webhook is asked about: CEL over the review's spec."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.cel.interfaces import Program

_STRINGS = ("namespace", "verb", "group", "version", "resource", "subresource", "name")


class MatchConditions:
    """Compiled. All must hold; the first that is false settles it, errors count last."""

    def __init__(self, programs: Sequence[Program]) -> None:
        self._programs = tuple(programs)

    def match(self, spec: Obj) -> bool:
        """:raises ValueError: a condition could not be evaluated and none was false."""
        from pilothouse.cel.interfaces import EvaluationError

        activation = {"request": _request(spec)}
        errors: list[str] = []
        for program in self._programs:
            try:
                if not program.evaluate(activation):
                    return False
            except EvaluationError as error:
                errors.append(
                    f"cel evaluation error: expression '{program.expression}' resulted in error: "
                    f"{error}"
                )
        if errors:
            raise ValueError(errors[0] if len(errors) == 1 else f"[{', '.join(errors)}]")
        return True


def compile_condition(expression: str) -> Program:
    """:raises ValueError: with upstream's text."""
    from pilothouse.cel import types

    try:
        program: Program = _environment().compile(expression)
    except ValueError as error:
        raise ValueError(f"compilation failed: {error}") from error
    if program.output_type != types.BOOL:
        raise ValueError(f"must evaluate to bool but got {program.output_type}")
    return program


@lru_cache(maxsize=1)
def _environment() -> Any:
    from pilothouse.cel import types
    from pilothouse.cel.environment import Environment

    def fields(**declared: types.Type) -> dict[str, types.Field]:
        return {name: types.Field(name, type_) for name, type_ in declared.items()}

    strings = types.list_of(types.STRING)
    requirement = types.object_of(
        "kubernetes.SelectorRequirement",
        fields(key=types.STRING, operator=types.STRING, values=strings),
    )
    selectors = {
        kind: types.object_of(
            f"kubernetes.{kind}SelectorAttributes",
            fields(rawSelector=types.STRING, requirements=types.list_of(requirement)),
        )
        for kind in ("Field", "Label")
    }
    resource = types.object_of(
        "kubernetes.ResourceAttributes",
        fields(
            **dict.fromkeys(_STRINGS, types.STRING),
            fieldSelector=selectors["Field"],
            labelSelector=selectors["Label"],
        ),
    )
    other = types.object_of(
        "kubernetes.NonResourceAttributes", fields(path=types.STRING, verb=types.STRING)
    )
    request = types.object_of(
        "kubernetes.SubjectAccessReviewSpec",
        fields(
            resourceAttributes=resource,
            nonResourceAttributes=other,
            user=types.STRING,
            groups=strings,
            extra=types.map_of(types.STRING, strings),
            uid=types.STRING,
        ),
    )
    return Environment({"request": request})


def _request(spec: Obj) -> Obj:
    """The spec with all its texts, also the empty ones."""
    request: Obj = {
        "user": spec.get("user") or "",
        "groups": spec.get("groups") or [],
        "uid": spec.get("uid") or "",
        "extra": spec.get("extra") or {},
    }
    if (asked := spec.get("resourceAttributes")) is not None:
        request["resourceAttributes"] = dict.fromkeys(_STRINGS, "") | asked
    if (path := spec.get("nonResourceAttributes")) is not None:
        request["nonResourceAttributes"] = path
    return request
