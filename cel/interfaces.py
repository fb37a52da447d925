"""What the rest of Pilothouse uses of the CEL package (names that stay).

``environment.py`` has ``Environment(variables: Mapping[str, Type])`` with
``compile(expression) -> Program``; ``types.py`` the types to declare; ``schema_types.py`` makes a
type of a structural schema or of a built-in kind's schema; ``kubernetes.py`` the environments
that upstream declares (CRD rules, match conditions, admission policies, DRA selectors).

Values are Python's own: bool, int, float, str, bytes, None, list, dict with string keys, and the
classes of ``values.py`` (Uint, Timestamp, Duration, Optional) and of the libraries (Quantity of
apimachinery, ``library/semvers.Semver``, ...). Objects in wire form are passed as they are and
never changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping


class CompileError(ValueError):
    """``str()`` is cel-go's text: ``ERROR: <input>:1:8: undeclared reference to 'x' ...``."""


class InstantiationError(CompileError):
    """The expression has a type, but never a value: ``int('x')``, ``text.find('(')``."""


class EvaluationError(Exception):
    """``str()`` is cel-go's text, e.g. ``no such key: x``."""


class CostLimitExceeded(EvaluationError):
    """The program cost more than its budget allowed."""


class Budget:
    """What is left of a cost limit; several programs may draw on one budget."""

    __slots__ = ("remaining",)

    def __init__(self, remaining: int) -> None:
        self.remaining = remaining

    def charge(self, cost: int) -> None:
        """:raises CostLimitExceeded."""
        self.remaining -= cost
        if self.remaining < 0:
            raise CostLimitExceeded("operation cancelled: actual cost limit exceeded")


class AuthorizerLike(Protocol):
    """Behind the variable ``authorizer``: synchronous; see ``apiserver/authorization``."""

    def check(
        self,
        *,
        verb: str,
        group: str = "",
        resource: str = "",
        subresource: str = "",
        namespace: str = "",
        name: str = "",
        path: str = "",
        service_account: tuple[str, str] | None = None,
    ) -> tuple[bool, str]:
        """(allowed, reason) for the requesting user, or for a (namespace, name) account."""
        ...


class Program(Protocol):
    """A checked expression; immutable, shared by all clusters of a process."""

    expression: str
    output_type: Any
    """A ``types.Type``; compare with ``types.BOOL``, ``types.STRING``, ..."""

    def evaluate(self, activation: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """:raises EvaluationError, CostLimitExceeded."""
        ...

    def uses(self, variable: str) -> bool:
        """Whether the expression refers to a declared variable."""
        ...
