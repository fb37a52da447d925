"""What an expression costs at least and at most, before it is ever evaluated (cel-go's coster).

Sizes come from literals and from what a schema allows, which a :class:`Sizes` knows by path.
All figures are unsigned and stop at the greatest.
"""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pilothouse.cel import ast
from pilothouse.cel.costs import LIST_COST, MAP_COST, REGEX_FACTOR, STRING_FACTOR, STRUCT_COST
from pilothouse.cel.values import MAX_UINT

if TYPE_CHECKING:
    from pilothouse.cel.schema_types import Declared
    from pilothouse.cel.types import Type

Path = tuple[str, ...]
_ACCUMULATORS = ("@result", "__result__")
_FIXED_SIZES = frozenset(("bool", "double", "duration", "int", "timestamp", "uint"))
_SHORTER = frozenset(
    f"{order}_{kind}"
    for order in ("less", "less_equals", "greater", "greater_equals")
    for kind in ("string", "bytes")
) | {"equals", "not_equals"}


class Range(NamedTuple):
    """From ``low`` to ``high``: of a size or of a cost."""

    low: int
    high: int

    def plus(self, other: Range) -> Range:
        return Range(min(self.low + other.low, MAX_UINT), min(self.high + other.high, MAX_UINT))

    def times(self, other: Range) -> Range:
        return Range(min(self.low * other.low, MAX_UINT), min(self.high * other.high, MAX_UINT))

    def factor(self, factor: float) -> Range:
        return Range(_scaled(self.low, factor), _scaled(self.high, factor))

    def union(self, other: Range) -> Range:
        return Range(min(self.low, other.low), max(self.high, other.high))


def _scaled(value: int, factor: float) -> int:
    return min(ceil(float(value) * factor), MAX_UINT) if value else 0


def fixed(value: int) -> Range:
    return Range(value, value)


ONE = fixed(1)
NOTHING = fixed(0)
UNKNOWN = Range(0, MAX_UINT)


class Node(NamedTuple):
    """An operand as the libraries' estimates see it."""

    path: Path
    type: Type
    expr: ast.Expr | None
    size: Range | None


class Sizes(Protocol):
    """How large a value may be."""

    def at(self, path: Path) -> Range | None:
        """Of the value there; None: not known."""
        ...


class DeclaredSizes:
    """Sizes in values of a declared type."""

    def __init__(self, root: Declared) -> None:
        self._root = root

    def at(self, path: Path) -> Range | None:
        if not path:
            return None
        node: Declared | None = self._root
        for name in path[1:]:
            assert node is not None
            if name in ("@items", "@values"):
                node = node.element
            elif name == "@keys":
                node = node.key
            else:
                node = node.fields.get(name)
            if node is None:
                return None
        assert node is not None
        return Range(0, node.max_elements)


class _Entries(NamedTuple):
    """Sizes of a container's parts."""

    container: str
    key: Range
    value: Range


class _Local(NamedTuple):
    path: Path
    size: Range | None
    entries: _Entries | None


class Call(NamedTuple):
    """What a call costs, and the size of what it gives."""

    cost: Range
    size: Range | None = None


class Estimator:
    """Estimates one checked expression."""

    def __init__(self, sizes: Sizes) -> None:
        self.sizes = sizes
        self._paths: dict[int, Path] = {}
        self._locals: dict[str, list[_Local]] = {}
        self._sizes: dict[int, Range] = {}
        self._entries: dict[int, _Entries] = {}

    def cost(self, expr: ast.Expr) -> Range:
        if isinstance(expr, ast.Ident):
            return self._ident(expr)
        if isinstance(expr, ast.Select):
            return self._select(expr)
        if isinstance(expr, ast.Call):
            return self._call(expr)
        if isinstance(expr, ast.ListExpr):
            return self._list(expr)
        if isinstance(expr, ast.MapExpr):
            return self._map(expr)
        if isinstance(expr, ast.Comprehension):
            return self._bind(expr) if expr.kind == "bind" else self._fold(expr)
        total = NOTHING
        if isinstance(expr, ast.Struct):
            for entry in expr.entries:
                total = total.plus(self.cost(entry.value))
            total = total.plus(fixed(STRUCT_COST))
        return total

    def _peek(self, name: str) -> _Local | None:
        stack = self._locals.get(name)
        return stack[-1] if stack else None

    def _push(self, name: str, local: _Local) -> None:
        self._locals.setdefault(name, []).append(local)

    def _ident(self, expr: ast.Ident) -> Range:
        local = self._peek(expr.name)
        self._paths[id(expr)] = (expr.name,) if local is None else local.path
        return ONE

    def _select(self, expr: ast.Select) -> Range:
        if expr.resolved is not None:
            self._paths[id(expr)] = (expr.resolved.name,)
            return ONE
        total = self.cost(expr.operand)
        if expr.test_only:
            return total
        if expr.operand.type.kind in ("map", "object", "param"):
            total = total.plus(ONE)
        self._paths[id(expr)] = (*self._path(expr.operand), expr.field)
        return total

    def _path(self, expr: ast.Expr) -> Path:
        if isinstance(expr, ast.Ident):
            local = self._peek(expr.name)
            if local is not None:
                return local.path
        return self._paths.get(id(expr), ())

    # Sizes.

    def size(self, expr: ast.Expr) -> Range | None:
        known = self._sizes.get(id(expr)) or _literal_size(expr)
        if known is not None:
            return known
        found = self.sizes.at(self._path(expr))
        if found is not None:
            self._sizes[id(expr)] = found
            return found
        if _is_scalar(expr.type):
            return ONE
        if isinstance(expr, ast.Ident):
            local = self._peek(expr.name)
            if local is not None:
                return local.size
        return None

    def _size(self, expr: ast.Expr) -> Range:
        return self.size(expr) or UNKNOWN

    def entries(self, expr: ast.Expr | None) -> _Entries | None:
        if expr is None:
            return None
        known = self._entries.get(id(expr))
        if known is None and isinstance(expr, ast.Ident):
            local = self._peek(expr.name)
            if local is not None:
                return local.entries
        return known

    def _node(self, expr: ast.Expr) -> Node:
        path = self._path(expr)
        if path and path[0] in _ACCUMULATORS:
            path = ()
        return Node(path, expr.type, expr, self.size(expr))

    # Literals with parts.

    def _list(self, expr: ast.ListExpr) -> Range:
        total, size = fixed(LIST_COST), Range(MAX_UINT if expr.elements else 0, 0)
        for element in expr.elements:
            total = total.plus(self.cost(element))
            size = size.union(self._size(element))
        self._entries[id(expr)] = _Entries("list", ONE, size)
        return total

    def _map(self, expr: ast.MapExpr) -> Range:
        total = fixed(MAP_COST)
        key = value = Range(MAX_UINT if expr.entries else 0, 0)
        for entry in expr.entries:
            assert entry.key is not None
            total = total.plus(self.cost(entry.key)).plus(self.cost(entry.value))
            key = key.union(self._size(entry.key))
            value = value.union(self._size(entry.value))
        self._entries[id(expr)] = _Entries("map", key, value)
        return total

    # Folds.

    def _iteration(self, expr: ast.Comprehension) -> None:
        """The names that stand for a part of the range."""
        entries, path = self.entries(expr.range), self._path(expr.range)
        container = expr.range.type.kind if entries is None else entries.container
        is_list = container == "list"
        key = None if entries is None else entries.key
        value = None if entries is None else entries.value
        value_path = (*path, "@items" if is_list else "@values")
        if expr.var2:
            key_path = (*path, "@indices" if is_list else "@keys")
            self._push(expr.var, _Local(key_path, key, None))
            self._push(expr.var2, _Local(value_path, value, None))
        elif is_list:
            self._push(expr.var, _Local(value_path, value, None))
        else:
            self._push(expr.var, _Local((*path, "@keys"), key, None))

    def _local(self, expr: ast.Expr) -> _Local:
        return _Local(self._path(expr), self.size(expr), self.entries(expr))

    def _fold(self, expr: ast.Comprehension) -> Range:
        total = self.cost(expr.range).plus(self.cost(expr.init))
        self._push(expr.accu, self._local(expr.init))
        self._iteration(expr)
        each = self.cost(expr.condition)
        each = each.plus(self.cost(expr.step))
        for name in (expr.var, expr.var2):
            if name:
                self._locals[name].pop()
        total = total.plus(self.cost(expr.result))
        self._locals[expr.accu].pop()
        count = self._size(expr.range)
        total = total.plus(count.times(each))
        if isinstance(expr.init, ast.Literal):
            size = self.size(expr.init)
            if size is not None:
                self._sizes[id(expr)] = size
        elif isinstance(expr.init, (ast.ListExpr, ast.MapExpr)):
            self._sizes[id(expr)] = count
            entries = self.entries(expr.step)
            if entries is not None:
                self._entries[id(expr)] = entries
        return total

    def _bind(self, expr: ast.Comprehension) -> Range:
        total = self.cost(expr.range).plus(self.cost(expr.init))
        self._push(expr.accu, self._local(expr.init))
        total = total.plus(self.cost(expr.result))
        self._locals[expr.accu].pop()
        self._copy(expr, expr.result)
        return total

    def _copy(self, to: ast.Expr, source: ast.Expr) -> None:
        size, entries = self.size(source), self.entries(source)
        if size is not None:
            self._sizes[id(to)] = size
        if entries is not None:
            self._entries[id(to)] = entries

    # Calls.

    def _call(self, expr: ast.Call) -> Range:
        args = expr.args
        if expr.function == "dyn":
            total = ONE.plus(self.cost(args[0]))
            self._copy(expr, args[0])
            return total
        costs = [self.cost(arg) for arg in args]
        if expr.function in ("_&&_", "_||_"):
            high = costs[0]
            for cost in costs[1:]:
                high = high.plus(cost)
            return Range(costs[0].low, high.high)
        nodes = [self._node(arg) for arg in args]
        total, target = NOTHING, None
        if expr.target is not None:
            total = self.cost(expr.target)
            target = self._node(expr.target)
        best, size = Range(MAX_UINT, 0), None
        for overload in _overloads(expr):
            call = self._overload(expr, overload, target, nodes, costs)
            best = best.union(call.cost)
            if call.size is not None:
                size = call.size if size is None else size.union(call.size)
            if overload in ("index_list", "index_map"):
                entries = self.entries(args[0])
                size = None if entries is None else entries.value
                step = "@items" if overload == "index_list" else "@values"
                self._paths[id(expr)] = (*self._path(args[0]), step)
            if size is None:
                size = self.size(expr)
        if size is not None:
            self._sizes[id(expr)] = size
        return total.plus(best)

    def _overload(
        self,
        expr: ast.Call,
        overload: str,
        target: Node | None,
        args: list[Node],
        costs: list[Range],
    ) -> Call:
        from pilothouse.cel.library.estimates import library_estimate

        arguments = NOTHING
        for cost in costs:
            arguments = arguments.plus(cost)
        call = library_estimate(self.sizes, expr.function, overload, target, args)
        if call is None and overload == "conditional":
            return self._conditional(expr, args, costs)
        if call is None:
            call = self._standard(expr, overload, target, args)
        return Call(call.cost.plus(arguments), call.size)

    def _conditional(self, expr: ast.Call, args: list[Node], costs: list[Range]) -> Call:
        then, otherwise = self.entries(args[1].expr), self.entries(args[2].expr)
        self._join_entries(expr, then, otherwise)
        size = (args[1].size or UNKNOWN).union(args[2].size or UNKNOWN)
        return Call(costs[0].plus(costs[1].union(costs[2])), size)

    def _join_entries(self, expr: ast.Expr, a: _Entries | None, b: _Entries | None) -> None:
        if a is not None and b is not None:
            joined = _Entries(a.container, a.key.union(b.key), a.value.union(b.value))
            self._entries[id(expr)] = joined

    def _standard(
        self, expr: ast.Call, overload: str, target: Node | None, args: list[Node]
    ) -> Call:
        first = (args[0].size or UNKNOWN) if args else UNKNOWN
        own = first if target is None else target.size or UNKNOWN
        second = (args[1].size or UNKNOWN) if len(args) > 1 else first
        if overload in ("starts_with_string", "ends_with_string"):
            return Call(first.factor(STRING_FACTOR))
        if overload == "string_format":
            return Call(own.factor(STRING_FACTOR))
        # These two overflow as upstream's do.
        if overload == "string_to_bytes":
            size = Range(first.low, first.high * 4 & MAX_UINT)
            return Call(first.factor(STRING_FACTOR), size)
        if overload == "bytes_to_string":
            return Call(first.factor(STRING_FACTOR), Range(first.low // 4, first.high))
        if overload == "strings_quote":
            size = Range(first.low + 2 & MAX_UINT, first.high * 2 + 2 & MAX_UINT)
            return Call(first.factor(STRING_FACTOR), size)
        if overload == "in_list":
            return Call(second)
        if overload in ("matches", "matches_string"):
            text, pattern = (own, first) if target is not None else (first, second)
            cost = text.plus(ONE).factor(STRING_FACTOR).times(pattern.factor(REGEX_FACTOR))
            return Call(cost)
        if overload == "contains_string":
            return Call(own.factor(STRING_FACTOR).times(first.factor(STRING_FACTOR)))
        if overload in ("add_string", "add_bytes", "add_list"):
            size = first.plus(second)
            entries = (self.entries(args[0].expr), self.entries(args[1].expr))
            self._join_entries(expr, *entries)
            return Call(ONE if overload == "add_list" else size.factor(STRING_FACTOR), size)
        if overload in _SHORTER:
            smallest = min(first.high, second.high)
            return Call(Range(1 if smallest else 0, smallest).factor(STRING_FACTOR))
        return Call(ONE)


def _overloads(expr: ast.Call) -> list[str]:
    if expr.function == "_?._":
        return ["select_optional_field"]
    return [overload.id for overload in expr.overloads]


def _literal_size(expr: ast.Expr) -> Range | None:
    if isinstance(expr, ast.Literal):
        value = expr.value
        return fixed(len(value)) if isinstance(value, (str, bytes)) else ONE
    if isinstance(expr, ast.ListExpr):
        return fixed(len(expr.elements))
    if isinstance(expr, ast.MapExpr):
        return fixed(len(expr.entries))
    return None


def _is_scalar(type_: Type) -> bool:
    if type_.is_optional:
        return _is_scalar(type_.params[0])
    return type_.kind in _FIXED_SIZES


def estimate(tree: ast.Expr | None, root: Declared) -> Range:
    """What a program's ``tree`` costs for values of ``root``."""
    assert tree is not None, "the program is lean"
    return Estimator(DeclaredSizes(root)).cost(tree)
