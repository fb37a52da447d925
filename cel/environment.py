"""Environments: which variables, types and functions expressions may use; where they compile."""

from __future__ import annotations

from collections import OrderedDict
from copy import copy
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from pilothouse.cel import ast, macros
from pilothouse.cel.checker import TYPE_NAMES, Checker
from pilothouse.cel.compiler import FIRST, MISSING, Compiler
from pilothouse.cel.costs import PER_CALL_LIMIT
from pilothouse.cel.declarations import Functions
from pilothouse.cel.folds import Exceeded
from pilothouse.cel.interfaces import (
    CompileError,
    CostLimitExceeded,
    EvaluationError,
    InstantiationError,
)
from pilothouse.cel.library import KUBERNETES
from pilothouse.cel.parser import parse
from pilothouse.cel.source import Source
from pilothouse.cel.validators import pattern_error, validate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from pilothouse.cel.compiler import Closure
    from pilothouse.cel.declarations import Row
    from pilothouse.cel.interfaces import Budget
    from pilothouse.cel.types import Type

_KEPT = 512
"""Compiled expressions that an environment remembers."""
MACROS = {**macros.STANDARD, **macros.OPTIONALS, **macros.TWO_VARIABLES, **macros.LISTS}


@lru_cache(maxsize=4)
def functions(libraries: tuple[Callable[[], Iterable[Row]], ...] = KUBERNETES) -> Functions:
    """The functions of ``libraries``: those that Kubernetes' environments share."""
    found = Functions()
    for rows in libraries:
        found.add(rows())
    return found


class CompiledProgram:
    """A checked expression as a closure. Immutable."""

    __slots__ = ("_closure", "_locals", "_variables", "expression", "output_type", "tree")

    def __init__(
        self, expression: str, tree: ast.Expr, closure: Closure, compiler: Compiler
    ) -> None:
        self.expression = expression
        self.tree: ast.Expr | None = tree
        """The checked tree, for cost estimates; it holds on to the types of the variables."""
        self.output_type: Type = tree.type
        self._closure = closure
        self._variables = tuple(compiler.variables)
        self._locals = (None,) * (compiler.size - FIRST - len(self._variables))

    def evaluate(self, activation: Mapping[str, Any], budget: Budget | None = None) -> Any:
        """The value of the expression.

        :raises EvaluationError: it has none.
        :raises CostLimitExceeded: it costs more than one evaluation may, or than is left.
        """
        get = activation.get
        frame: list[Any] = [0, PER_CALL_LIMIT, *[get(name, MISSING) for name in self._variables]]
        frame += self._locals
        result: Any = None
        try:
            result = self._closure(frame)
        except Exceeded:
            pass
        except RecursionError:
            raise EvaluationError("expression recursion limit exceeded") from None
        except EvaluationError:
            if frame[0] <= PER_CALL_LIMIT:
                if budget is not None:
                    budget.charge(frame[0])
                raise
        cost = frame[0]
        if budget is not None:
            budget.charge(cost)
        if cost > PER_CALL_LIMIT:
            raise CostLimitExceeded("operation cancelled: actual cost limit exceeded")
        return result

    def cost(self, activation: Mapping[str, Any]) -> int:
        """What an evaluation costs, whatever comes of it."""
        from pilothouse.cel.interfaces import Budget

        budget = Budget(PER_CALL_LIMIT)
        try:
            self.evaluate(activation, budget)
        except EvaluationError:
            pass
        return PER_CALL_LIMIT - budget.remaining

    def lean(self) -> CompiledProgram:
        """The same without its tree: what is kept for long."""
        program = copy(self)
        program.tree = None
        return program

    def uses(self, variable: str) -> bool:
        return variable in self._variables


class Environment:
    """Where expressions are compiled. Immutable, but for what it remembers.

    ``structs`` are the types that ``Name{...}`` makes; ``type_names`` adds names that stand for
    types; ``bindings`` adds ``cel.bind``, which Kubernetes does not have.
    """

    def __init__(
        self,
        variables: Mapping[str, Type],
        *,
        structs: Mapping[str, Type] | None = None,
        type_names: Mapping[str, Type] | None = None,
        extra_functions: Functions | None = None,
        bindings: bool = False,
    ) -> None:
        self.variables = dict(variables)
        self._structs: Mapping[str, Type] = structs or {}
        self._type_names = {**TYPE_NAMES, **(type_names or {})}
        self._functions = extra_functions or functions()
        self._macros = {**MACROS, **macros.BINDINGS} if bindings else MACROS
        self._programs: OrderedDict[str, CompiledProgram | CompileError] = OrderedDict()

    def compile(self, expression: str) -> CompiledProgram:
        """:raises CompileError: it is no CEL, or has no type here."""
        found = self._programs.get(expression)
        if found is None:
            try:
                found = self._compile(expression)
            except CompileError as error:
                found = error
            self._programs[expression] = found
            if len(self._programs) > _KEPT:
                self._programs.popitem(last=False)
        if isinstance(found, CompileError):
            raise type(found)(str(found))
        return found

    def _compile(self, expression: str) -> CompiledProgram:
        source = Source(expression)
        try:
            tree = parse(source, self._macros)
            checker = Checker(
                source, self.variables, self._functions, self._structs, self._type_names
            )
            checker.check(tree)
        except RecursionError:
            raise CompileError(
                "ERROR: <input>:-1:0: expression recursion limit exceeded: 250"
            ) from None
        source.raise_errors()
        validate(source, tree)
        source.raise_errors()
        unusable = pattern_error(tree)
        if unusable:
            raise InstantiationError(unusable)
        compiler = Compiler()
        closure = compiler.compile_root(tree)
        return CompiledProgram(expression, tree, closure, compiler)
