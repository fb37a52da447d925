"""Macros: calls that the parser replaces by folds, presence tests and conditions.

A macro gets the offset of its parenthesis, its target and its arguments; None means that it is
no use of the macro, but a call.
"""

from __future__ import annotations

from collections.abc import Callable

from pilothouse.cel import ast

Macro = Callable[[int, "ast.Expr | None", "list[ast.Expr]"], "ast.Expr | None"]
MacroKey = tuple[str, int, bool]

ACCUMULATOR = "@result"
_ACCUMULATORS = (ACCUMULATOR, "__result__")
_UNUSED = "#unused"


class MacroError(ValueError):
    """Wrong arguments; ``offset`` None: the macro's own place."""

    def __init__(self, message: str, offset: int | None) -> None:
        super().__init__(message)
        self.offset = offset


def _has(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    argument = args[0]
    if not isinstance(argument, ast.Select):
        raise MacroError("invalid argument to has() macro", argument.offset)
    return ast.Select(offset, argument.operand, argument.field, test_only=True)


def _variable(arg: ast.Expr, message: str) -> str:
    if not isinstance(arg, ast.Ident):
        raise MacroError(message, arg.offset)
    if arg.name in _ACCUMULATORS:
        raise MacroError("iteration variable overwrites accumulator variable", arg.offset)
    return arg.name


def _one(args: list[ast.Expr], message: str) -> tuple[tuple[str, str], list[ast.Expr]]:
    return (_variable(args[0], message), ""), args[1:]


def _two(args: list[ast.Expr]) -> tuple[tuple[str, str], list[ast.Expr]]:
    for arg in args[:2]:
        if not isinstance(arg, ast.Ident):
            raise MacroError("argument must be a simple name", arg.offset)
    first, second = args[0], args[1]
    assert isinstance(first, ast.Ident) and isinstance(second, ast.Ident)
    if first.name == second.name:
        raise MacroError(f"duplicate variable name: {first.name}", second.offset)
    return (_variable(first, ""), _variable(second, "")), args[2:]


class _Maker:
    """Makes the parts of one expansion, all at one place."""

    def __init__(self, offset: int, target: ast.Expr | None, names: tuple[str, str]) -> None:
        assert target is not None
        self.offset = offset
        self.target = target
        self.names = names

    def accu(self) -> ast.Expr:
        return ast.Ident(self.offset, ACCUMULATOR)

    def literal(self, value: object) -> ast.Expr:
        return ast.Literal(self.offset, value)

    def call(self, function: str, *args: ast.Expr) -> ast.Expr:
        return ast.Call(self.offset, function, list(args))

    def list_(self, *elements: ast.Expr) -> ast.Expr:
        return ast.ListExpr(self.offset, list(elements), frozenset())

    def fold(
        self, kind: str, init: ast.Expr, step: ast.Expr, condition: ast.Expr, result: ast.Expr
    ) -> ast.Expr:
        return ast.Comprehension(
            self.offset,
            kind,
            self.target,
            self.names,
            ACCUMULATOR,
            init,
            condition,
            step,
            result,
        )

    def all_(self, predicate: ast.Expr) -> ast.Expr:
        condition = self.call("@not_strictly_false", self.accu())
        step = self.call("_&&_", self.accu(), predicate)
        return self.fold("all", self.literal(True), step, condition, self.accu())

    def exists(self, predicate: ast.Expr) -> ast.Expr:
        condition = self.call("@not_strictly_false", self.call("!_", self.accu()))
        step = self.call("_||_", self.accu(), predicate)
        return self.fold("exists", self.literal(False), step, condition, self.accu())

    def exists_one(self, predicate: ast.Expr) -> ast.Expr:
        more = self.call("_+_", self.accu(), self.literal(1))
        step = self.call("_?_:_", predicate, more, self.accu())
        result = self.call("_==_", self.accu(), self.literal(1))
        return self.fold("exists_one", self.literal(0), step, self.literal(True), result)

    def map_(self, condition: ast.Expr | None, transform: ast.Expr) -> ast.Expr:
        step = self.call("_+_", self.accu(), self.list_(transform))
        return self._collect("list", self.list_(), condition, step)

    def map_entries(self, condition: ast.Expr | None, *entry: ast.Expr) -> ast.Expr:
        step = self.call("cel.@mapInsert", self.accu(), *entry)
        init = ast.MapExpr(self.offset, [])
        return self._collect("map", init, condition, step)

    def _collect(
        self, kind: str, init: ast.Expr, condition: ast.Expr | None, step: ast.Expr
    ) -> ast.Expr:
        if condition is not None:
            step = self.call("_?_:_", condition, step, self.accu())
        return self.fold(kind, init, step, self.literal(True), self.accu())


_SIMPLE = "argument must be a simple name"
_IDENTIFIER = "argument is not an identifier"


def _all(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    names, rest = _one(args, _SIMPLE)
    return _Maker(offset, target, names).all_(rest[0])


def _exists(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    names, rest = _one(args, _SIMPLE)
    return _Maker(offset, target, names).exists(rest[0])


def _exists_one(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    names, rest = _one(args, _SIMPLE)
    return _Maker(offset, target, names).exists_one(rest[0])


def _map(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    names, rest = _one(args, _IDENTIFIER)
    condition = rest[0] if len(rest) == 2 else None
    return _Maker(offset, target, names).map_(condition, rest[-1])


def _filter(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    names, rest = _one(args, _IDENTIFIER)
    return _Maker(offset, target, names).map_(rest[0], ast.copy(args[0]))


def _all2(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    names, rest = _two(args)
    return _Maker(offset, target, names).all_(rest[0])


def _exists2(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    names, rest = _two(args)
    return _Maker(offset, target, names).exists(rest[0])


def _exists_one2(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    names, rest = _two(args)
    return _Maker(offset, target, names).exists_one(rest[0])


def _transform_list(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    names, rest = _two(args)
    condition = rest[0] if len(rest) == 2 else None
    return _Maker(offset, target, names).map_(condition, rest[-1])


def _transform_map(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    names, rest = _two(args)
    condition = rest[0] if len(rest) == 2 else None
    key = ast.Ident(offset, names[0])
    return _Maker(offset, target, names).map_entries(condition, key, rest[-1])


def _transform_entry(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    names, rest = _two(args)
    condition = rest[0] if len(rest) == 2 else None
    return _Maker(offset, target, names).map_entries(condition, rest[-1])


def _opt_map(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    bound = _bound(offset, target, args, "optMap")
    return _when_present(offset, target, ast.Call(offset, "optional.of", [bound]))


def _opt_flat_map(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    return _when_present(offset, target, _bound(offset, target, args, "optFlatMap"))


def _bound(offset: int, target: ast.Expr | None, args: list[ast.Expr], macro: str) -> ast.Expr:
    """The second argument, where the first one's name stands for the target's value."""
    variable = args[0]
    if not isinstance(variable, ast.Ident):
        message = f"{macro}() variable name must be a simple identifier"
        raise MacroError(message, variable.offset)
    assert target is not None
    value = ast.Call(offset, "value", [], ast.copy(target))
    return bind(offset, variable.name, value, args[1])


def bind(offset: int, name: str, value: ast.Expr, result: ast.Expr) -> ast.Expr:
    """``result`` with ``name`` standing for ``value``: a fold over nothing."""
    return ast.Comprehension(
        offset,
        "bind",
        ast.ListExpr(offset, [], frozenset()),
        (_UNUSED, ""),
        name,
        value,
        ast.Literal(offset, False),
        ast.Ident(offset, name),
        result,
    )


def _when_present(offset: int, target: ast.Expr | None, result: ast.Expr) -> ast.Expr:
    present = ast.Call(offset, "hasValue", [], target)
    nothing = ast.Call(offset, "optional.none", [])
    return ast.Call(offset, "_?_:_", [present, result, nothing])


def _cel_bind(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr | None:
    if not isinstance(target, ast.Ident) or target.name != "cel":
        return None
    variable = args[0]
    if not isinstance(variable, ast.Ident):
        raise MacroError("cel.bind() variable names must be simple identifiers", variable.offset)
    return bind(offset, variable.name, args[1], args[2])


def _sort_by(offset: int, target: ast.Expr | None, args: list[ast.Expr]) -> ast.Expr:
    """``values.sortBy(x, key)``: cel-go's expansion, for its errors and its costs."""
    assert target is not None
    if not isinstance(target, (ast.Select, ast.ListExpr, ast.Comprehension, ast.Call, ast.Ident)):
        raise MacroError(
            "sortBy can only be applied to a list, identifier, comprehension, call or select "
            "expression",
            target.offset,
        )
    names, rest = _one(args, _IDENTIFIER)
    source = ast.copy(target)
    keys = _Maker(offset, ast.Ident(offset, "@__sortBy_input__"), names).map_(None, rest[0])
    input_ = ast.Ident(offset, "@__sortBy_input__")
    sorted_ = ast.Call(offset, "@sortByAssociatedKeys", [keys], input_)
    return bind(offset, "@__sortBy_input__", source, sorted_)


STANDARD: dict[MacroKey, Macro] = {
    ("has", 1, False): _has,
    ("all", 2, True): _all,
    ("exists", 2, True): _exists,
    ("exists_one", 2, True): _exists_one,
    ("map", 2, True): _map,
    ("map", 3, True): _map,
    ("filter", 2, True): _filter,
}
OPTIONALS: dict[MacroKey, Macro] = {
    ("optMap", 2, True): _opt_map,
    ("optFlatMap", 2, True): _opt_flat_map,
}
TWO_VARIABLES: dict[MacroKey, Macro] = {
    ("all", 3, True): _all2,
    ("exists", 3, True): _exists2,
    ("existsOne", 3, True): _exists_one2,
    ("exists_one", 3, True): _exists_one2,
    ("transformList", 3, True): _transform_list,
    ("transformList", 4, True): _transform_list,
    ("transformMap", 3, True): _transform_map,
    ("transformMap", 4, True): _transform_map,
    ("transformMapEntry", 3, True): _transform_entry,
    ("transformMapEntry", 4, True): _transform_entry,
}
LISTS: dict[MacroKey, Macro] = {("sortBy", 2, True): _sort_by}
BINDINGS: dict[MacroKey, Macro] = {("bind", 3, True): _cel_bind}
"""``cel.bind``: no environment of Kubernetes has it."""
