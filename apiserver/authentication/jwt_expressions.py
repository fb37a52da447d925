"""CEL in the authentication configuration: over ``claims`` and over ``user``."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pilothouse.apiserver.authentication.tokens import InvalidToken

if TYPE_CHECKING:
    from pilothouse.apimachinery.object import Obj
    from pilothouse.apiserver.request.context import UserInfo
    from pilothouse.cel.interfaces import Program


def compile_claims(expression: str, *, condition: bool = False) -> Program:
    """``condition``: it must be a bool. :raises ValueError: with upstream's text."""
    return _compile(_claims_environment(), expression, condition)


def compile_user(expression: str) -> Program:
    """:raises ValueError: with upstream's text."""
    return _compile(_user_environment(), expression, condition=True)


def _compile(environment: Any, expression: str, condition: bool) -> Program:
    from pilothouse.cel import types

    try:
        program: Program = environment.compile(expression)
    except ValueError as error:
        raise ValueError(f"compilation failed: {error}") from error
    if condition and program.output_type != types.BOOL:
        raise ValueError("must evaluate to bool")
    return program


@lru_cache(maxsize=1)
def _claims_environment() -> Any:
    from pilothouse.cel import types
    from pilothouse.cel.environment import Environment

    return Environment({"claims": types.map_of(types.STRING, types.DYN)})


@lru_cache(maxsize=1)
def _user_environment() -> Any:
    from pilothouse.cel import types
    from pilothouse.cel.environment import Environment

    strings = types.list_of(types.STRING)
    fields = {
        "username": types.STRING,
        "uid": types.STRING,
        "groups": strings,
        "extra": types.map_of(types.STRING, strings),
    }
    declared = {name: types.Field(name, type_) for name, type_ in fields.items()}
    return Environment({"user": types.object_of("kubernetes.UserInfo", declared)})


def evaluate(program: Program, **activation: Any) -> Any:
    """:raises InvalidToken: it can't be evaluated for this token."""
    from pilothouse.cel.interfaces import EvaluationError

    try:
        return program.evaluate(activation)
    except EvaluationError as error:
        raise InvalidToken(
            f"expression '{program.expression}' resulted in error: {error}"
        ) from error


def user_value(user: UserInfo) -> Obj:
    """As expressions see the user."""
    return {
        "username": user.name,
        "uid": user.uid,
        "groups": list(user.groups),
        "extra": {key: list(values) for key, values in user.extra},
    }


def strings_of(value: Any) -> tuple[str, ...]:
    """A text or a list of texts; null and empty texts are none. :raises InvalidToken: neither."""
    if value is None or value == "":
        return ()
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list):
        found: list[str] = []
        for item in value:
            if item is None or item == "":
                continue
            if not isinstance(item, str):
                raise InvalidToken("expression must return a string or a list of strings")
            found.append(item)
        return tuple(found)
    raise InvalidToken("expression must return a string or a list of strings")
