"""The type checker: gives each node its type and each call the overloads it may mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.cel import ast, types
from pilothouse.cel.types import Type, unwrapped
from pilothouse.cel.unification import Bindings, most_general
from pilothouse.cel.values import TypeValue

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilothouse.cel.declarations import Functions, Overload
    from pilothouse.cel.source import Source

_A, _B = types.param("A"), types.param("B")
TYPE_NAMES: dict[str, Type] = {
    "bool": types.BOOL,
    "bytes": types.BYTES,
    "double": types.DOUBLE,
    "google.protobuf.Duration": types.DURATION,
    "google.protobuf.Timestamp": types.TIMESTAMP,
    "int": types.INT,
    "list": types.list_of(_A),
    "map": types.map_of(_A, _B),
    "net.CIDR": types.opaque("net.CIDR"),
    "net.IP": types.opaque("net.IP"),
    "null_type": types.NULL,
    "optional_type": types.optional_of(_A),
    "string": types.STRING,
    "type": types.TYPE,
    "uint": types.UINT,
}
"""Names that stand for types in expressions."""
_LITERALS: dict[str, Type] = {
    "bool": types.BOOL,
    "int": types.INT,
    "Uint": types.UINT,
    "float": types.DOUBLE,
    "str": types.STRING,
    "bytes": types.BYTES,
    "NoneType": types.NULL,
}


class Checker:
    """Checks one expression. ``structs`` are the types that ``Name{...}`` may make."""

    def __init__(
        self,
        source: Source,
        variables: Mapping[str, Type],
        functions: Functions,
        structs: Mapping[str, Type],
        type_names: Mapping[str, Type],
    ) -> None:
        self.source = source
        self.variables = variables
        self.functions = functions
        self.structs = structs
        self.type_names = type_names
        self.bindings = Bindings()
        self.scopes: list[dict[str, Type]] = []
        self._free = 0

    def check(self, expr: ast.Expr) -> Type:
        """The type of the whole; errors are reported to the source."""
        self._check(expr)
        self._settle(expr)
        return expr.type

    def _settle(self, expr: ast.Expr) -> None:
        """What is still open is dyn."""
        stack = [expr]
        while stack:
            node = stack.pop()
            node.type = self.bindings.substitute(node.type, to_dyn=True)
            stack.extend(node.children())

    def _check(self, expr: ast.Expr) -> Type:
        if isinstance(expr, ast.Call):
            found = self._call(expr)
        elif isinstance(expr, ast.Ident):
            found = self._ident(expr)
        elif isinstance(expr, ast.Select):
            found = self._select(expr)
        elif isinstance(expr, ast.Literal):
            found = _LITERALS[type(expr.value).__name__]
        elif isinstance(expr, ast.ListExpr):
            found = self._list(expr)
        elif isinstance(expr, ast.MapExpr):
            found = self._map(expr)
        elif isinstance(expr, ast.Struct):
            found = self._struct(expr)
        else:
            assert isinstance(expr, ast.Comprehension)
            found = self._comprehension(expr)
        expr.type = found
        return found

    def _report(self, offset: int, message: str) -> Type:
        self.source.report(offset, message)
        return types.ERROR

    def _assignable(self, given: Type, wanted: Type) -> bool:
        return self.bindings.assignable([given], [wanted])

    # Names.

    def _local(self, name: str) -> Type | None:
        for scope in reversed(self.scopes):
            if name in scope:
                return scope[name]
        return None

    def _global(self, name: str) -> tuple[Type, TypeValue | None] | None:
        name = name.removeprefix(".")
        if name in self.variables:
            return self.variables[name], None
        named = self.type_names.get(name) or self.structs.get(name)
        if named is not None:
            return types.type_of(named), TypeValue(name)
        return None

    def _ident(self, expr: ast.Ident) -> Type:
        local = None if expr.name.startswith(".") else self._local(expr.name)
        if local is not None:
            return local
        found = self._global(expr.name)
        if found is None:
            return self._undeclared(expr.offset, expr.name)
        if expr.name.startswith("."):
            expr.name = expr.name[1:]
        type_, expr.constant = found
        return type_

    def _undeclared(self, offset: int, name: str) -> Type:
        return self._report(offset, f"undeclared reference to '{name}' (in container '')")

    def _qualified(self, expr: ast.Expr) -> str | None:
        """``a.b.c`` when the expression is nothing but names."""
        parts: list[str] = []
        while isinstance(expr, ast.Select) and not expr.test_only:
            parts.append(expr.field)
            expr = expr.operand
        if not isinstance(expr, ast.Ident):
            return None
        parts.append(expr.name)
        return ".".join(reversed(parts))

    def _select(self, expr: ast.Select) -> Type:
        name = None if expr.test_only else self._qualified(expr)
        if name is not None and self._local(name.partition(".")[0]) is None:
            found = self._global(name)
            if found is not None:
                expr.resolved = ast.Ident(expr.offset, name.removeprefix("."))
                expr.resolved.type, expr.resolved.constant = found
                return found[0]
        found_type = self._field(expr.offset, expr.operand, expr.field, optional=False)
        return types.BOOL if expr.test_only else found_type

    def _field(self, offset: int, operand: ast.Expr, field: str, *, optional: bool) -> Type:
        given = self.bindings.substitute(self._check(operand))
        target, was_optional = unwrapped(given)
        result = types.ERROR
        if target.kind == "map":
            result = target.params[1]
        elif target.kind == "object":
            known = target.field(field)
            if known is None:
                self._report(offset, f"undefined field '{field}'")
            else:
                result = known.type
        elif target.kind == "param":
            self._assignable(types.DYN, target)
            result = types.DYN
        else:
            if target.kind not in ("dyn", "any", "error"):
                text = f"type '{target.text}' does not support field selection"
                self._report(offset, text)
            result = types.DYN
        if was_optional or optional:
            result = types.optional_of(result)
        return self.bindings.substitute(result)

    # Calls.

    def _call(self, expr: ast.Call) -> Type:
        if expr.function == "_?._":
            field = expr.args[1]
            assert isinstance(field, ast.Literal)
            field.type = types.STRING
            return self._field(expr.offset, expr.args[0], field.value, optional=True)
        for arg in expr.args:
            self._check(arg)
        if expr.function in ("_&&_", "_||_"):
            return self._logic(expr)
        if expr.target is None:
            overloads = self.functions.get(expr.function.removeprefix("."))
            if overloads is None:
                return self._undeclared(expr.offset, expr.function)
            return self._resolve(expr, overloads, member=False)
        qualified = self._qualified(expr.target)
        if qualified is not None:
            overloads = self.functions.get(f"{qualified}.{expr.function}".removeprefix("."))
            if overloads is not None:
                expr.function = overloads[0].function
                expr.target = None
                return self._resolve(expr, overloads, member=False)
        self._check(expr.target)
        overloads = self.functions.get(expr.function)
        if overloads is None:
            return self._undeclared(expr.offset, expr.function)
        return self._resolve(expr, overloads, member=True)

    def _logic(self, expr: ast.Call) -> Type:
        for arg in expr.args:
            if not self._assignable(arg.type, types.BOOL):
                self._mismatch(arg.offset, types.BOOL, arg.type)
        return types.BOOL

    def _mismatch(self, offset: int, expected: Type, found: Type) -> Type:
        expected = self.bindings.substitute(expected)
        found = self.bindings.substitute(found)
        text = f"expected type '{expected.text}' but found '{found.text}'"
        return self._report(offset, text)

    def _resolve(self, expr: ast.Call, overloads: list[Overload], *, member: bool) -> Type:
        given = [operand.type for operand in expr.operands()]
        found: list[Overload] = []
        result: Type | None = None
        for overload in overloads:
            if overload.member is not member:
                continue
            wanted, gives = self._instance(overload)
            if not self.bindings.assignable(given, wanted):
                continue
            found.append(overload)
            one = self.bindings.substitute(gives)
            if result is None:
                result = one
            elif not result.is_dyn and one != result:
                result = types.DYN
        expr.overloads = tuple(found)
        if result is not None:
            # A sum of sets or maps, by their schema, is one, too.
            first = self.bindings.substitute(given[0]) if expr.function == "_+_" else result
            return first if first == result else result
        shown = [self.bindings.substitute(each, to_dyn=True).text for each in given]
        receiver = f"{shown.pop(0)}." if member else ""
        signature = f"{receiver}({', '.join(shown)})"
        name = expr.function.removeprefix(".")
        return self._report(
            expr.offset, f"found no matching overload for '{name}' applied to '{signature}'"
        )

    def _instance(self, overload: Overload) -> tuple[list[Type], Type]:
        """Argument and result types with type parameters of their own."""
        if not overload.generic:
            return list(overload.args), overload.result
        fresh: dict[str, Type] = {}
        args = [self._fresh(each, fresh) for each in overload.args]
        return args, self._fresh(overload.result, fresh)

    def _fresh(self, type_: Type, fresh: dict[str, Type]) -> Type:
        if type_.kind == "param":
            if type_.name not in fresh:
                fresh[type_.name] = self._variable()
            return fresh[type_.name]
        if not type_.params:
            return type_
        params = tuple(self._fresh(each, fresh) for each in type_.params)
        return Type(type_.kind, type_.name, params)

    def _variable(self) -> Type:
        self._free += 1
        return types.param(f"_var{self._free - 1}")

    # Literals with parts.

    def _list(self, expr: ast.ListExpr) -> Type:
        joined: Type | None = None
        for index, element in enumerate(expr.elements):
            type_ = self._check(element)
            if index in expr.optional:
                type_ = self._unwrapped(element, type_)
            joined = self._join(joined, type_)
        return types.list_of(self._variable() if joined is None else joined)

    def _unwrapped(self, expr: ast.Expr, type_: Type) -> Type:
        inner, was_optional = unwrapped(self.bindings.substitute(type_))
        if not was_optional and not inner.is_dyn:
            self._mismatch(expr.offset, types.optional_of(inner), inner)
        return inner

    def _join(self, previous: Type | None, current: Type) -> Type:
        if previous is None:
            return current
        if self._assignable(previous, current):
            return most_general(previous, current)
        return types.DYN

    def _map(self, expr: ast.MapExpr) -> Type:
        key_type: Type | None = None
        value_type: Type | None = None
        for entry in expr.entries:
            assert entry.key is not None
            key_type = self._join(key_type, self._check(entry.key))
            type_ = self._check(entry.value)
            if entry.optional:
                type_ = self._unwrapped(entry.value, type_)
            value_type = self._join(value_type, type_)
        if key_type is None or value_type is None:
            return types.map_of(self._variable(), self._variable())
        return types.map_of(key_type, value_type)

    def _struct(self, expr: ast.Struct) -> Type:
        name = expr.name.removeprefix(".")
        type_ = self.structs.get(name)
        if type_ is None:
            if name in self.type_names:
                self._report(expr.offset, f"'{name}' is not a message type")
            else:
                self._undeclared(expr.offset, expr.name)
        expr.name = name
        for entry in expr.entries:
            given = self._check(entry.value)
            wanted = types.ERROR
            if type_ is not None:
                field = type_.field(entry.name)
                if field is not None:
                    wanted = field.type
            if wanted is types.ERROR and (type_ is not None or name in self.type_names):
                self._report(entry.offset, f"undefined field '{entry.name}'")
            if entry.optional:
                given = self._unwrapped(entry.value, given)
            if not self._assignable(wanted, given):
                given = self.bindings.substitute(given)
                self._report(
                    entry.offset,
                    f"expected type of field '{entry.name}' is '{wanted.text}' "
                    f"but provided type is '{given.text}'",
                )
        return types.ERROR if type_ is None else type_

    # Folds.

    def _comprehension(self, expr: ast.Comprehension) -> Type:
        range_type = self.bindings.substitute(self._check(expr.range))
        accu = self._check(expr.init)
        first, second = self._element_types(expr, range_type)
        self.scopes.append({expr.accu: accu})
        scope = {expr.var: first}
        if expr.var2:
            scope[expr.var2] = second
        self.scopes.append(scope)
        for part, wanted in ((expr.condition, types.BOOL), (expr.step, accu)):
            found = self._check(part)
            if not self._assignable(wanted, found):
                self._mismatch(part.offset, wanted, found)
        self.scopes.pop()
        result = self._check(expr.result)
        self.scopes.pop()
        return self.bindings.substitute(result)

    def _element_types(self, expr: ast.Comprehension, range_type: Type) -> tuple[Type, Type]:
        if range_type.kind == "list":
            element = range_type.params[0]
            return (types.INT, element) if expr.var2 else (element, element)
        if range_type.kind == "map":
            return range_type.params[0], range_type.params[1]
        if range_type.kind in ("dyn", "error", "param"):
            self._assignable(types.DYN, range_type)
            return types.DYN, types.DYN
        self._report(
            expr.range.offset,
            f"expression of type '{range_type.text}' cannot be range of a comprehension "
            "(must be list, map, or dynamic)",
        )
        return types.ERROR, types.ERROR
