"""What calls of the libraries may cost, before they are made (apiserver pkg/cel/library/cost.go,
cel-go ext/lists.go and ext/sets.go)."""

from __future__ import annotations

from math import ceil
from typing import TYPE_CHECKING

from pilothouse.cel import ast
from pilothouse.cel.costs import LIST_COST, REGEX_FACTOR, STRING_FACTOR
from pilothouse.cel.estimates import NOTHING, ONE, UNKNOWN, Call, Node, Range, fixed
from pilothouse.cel.library.costs import CHECK_COST, TRACKED
from pilothouse.cel.values import MAX_UINT

if TYPE_CHECKING:
    from collections.abc import Callable

    from pilothouse.cel.estimates import Sizes

    Estimate = Callable[[Sizes, str, Node, list[Node]], Call | None]

_ALWAYS_ONE = frozenset(
    "serviceAccount path group resource subresource namespace name allowed reason error errored "
    "masked prefixLength family isUnspecified isLoopback isLinkLocalMulticast isLinkLocalUnicast "
    "isGlobalUnicast format.named sign asInteger isInteger asApproximateFloat isGreaterThan "
    "isLessThan compareTo add sub major minor patch getScheme getHostname getHost getPort "
    "getEscapedPath getQuery".split()
)
_TRAVERSALS = frozenset("isSorted sum max min indexOf lastIndexOf".split())
_CONVERSIONS = frozenset(
    "cidr isIP isCIDR quantity isQuantity semver isSemver url jsonpatch.escapeKey ip".split()
)
_OF_TARGET = frozenset(("lowerAscii", "upperAscii", "substring", "trim"))
_EQUAL_AT_ONCE = frozenset(
    "net.IP net.CIDR kubernetes.Quantity kubernetes.Semver kubernetes.authorization.Authorizer "
    "kubernetes.authorization.PathCheck kubernetes.authorization.GroupCheck "
    "kubernetes.authorization.ResourceCheck kubernetes.authorization.Decision".split()
)
_ADDRESS = Range(4, 16)
_MAX_FORMAT_REGEX = 128


def library_estimate(
    sizes: Sizes, function: str, overload: str, target: Node | None, args: list[Node]
) -> Call | None:
    """None: the library has no say in it."""
    if overload in TRACKED:
        return _tracked(sizes, overload, target, args)
    if function == "check":
        return Call(fixed(CHECK_COST))
    if function in _ALWAYS_ONE:
        return Call(ONE)
    if function == "_==_":
        return _equality(args)
    if target is not None and function in _TRAVERSALS:
        return _traversal(sizes, target)
    if function in _CONVERSIONS and args:
        size = _size(sizes, args[0])
        kept = size if function in ("url", "jsonpatch.escapeKey") else None
        return Call(size.factor(STRING_FACTOR), kept)
    if function in ("ip", "ip.isCanonical"):
        return Call(_size(sizes, args[0]).factor(2 * STRING_FACTOR) if args else ONE)
    if target is None:
        return None
    if function in _OF_TARGET:
        size = _size(sizes, target)
        return Call(size.factor(STRING_FACTOR), size)
    estimate = _METHODS.get(function)
    return None if estimate is None else estimate(sizes, overload, target, args)


def _size(sizes: Sizes, node: Node) -> Range:
    return node.size or sizes.at(node.path) or UNKNOWN


def _element(node: Node) -> Node | None:
    if not node.type.params:
        return None
    path = (*node.path, "@items") if node.path else ()
    return Node(path, node.type.params[0], None, None)


def _traversal(sizes: Sizes, target: Node) -> Call:
    element, size = _element(target), _size(sizes, target)
    if element is not None:
        cost = ONE
        if element.type.kind in ("string", "bytes"):
            cost = cost.plus(_size(sizes, element).factor(STRING_FACTOR))
        return Call(size.times(cost))
    return Call(size.factor(STRING_FACTOR))


def _equality(args: list[Node]) -> Call | None:
    if len(args) != 2 or args[0].type != args[1].type:
        return None
    name = args[0].type.name
    if name in _EQUAL_AT_ONCE:
        return Call(ONE)
    if name == "kubernetes.NamedFormat":
        return Call(Range(1, 64).factor(STRING_FACTOR))
    if name == "kubernetes.URL":
        size = args[1].size
        return Call(Range(1, 1 if size is None else size.high).factor(STRING_FACTOR))
    return None


def _selector(sizes: Sizes, _: str, target: Node, args: list[Node]) -> Call:
    size = _size(sizes, args[0])
    requirements = size.factor(0.5).factor(50.0)
    return Call(fixed(LIST_COST).plus(size.factor(STRING_FACTOR)).plus(requirements))


def _replace(sizes: Sizes, _: str, target: Node, args: list[Node]) -> Call:
    size, old, new = _size(sizes, target), _size(sizes, args[0]), _size(sizes, args[1])
    if old.low == 0:
        most, kept_most = min(size.high + 1, MAX_UINT), size.high
    elif new.high <= old.low:
        most, kept_most = 0, size.high
    else:
        most, kept_most = ceil(size.high / old.low), 0
    if old.high == 0:
        least, kept_least = min(size.low + 1, MAX_UINT), size.low
    elif old.high <= new.low:
        least, kept_least = 0, size.low
    else:
        least, kept_least = ceil(size.low / old.high), 0
    result = Range(least, most).times(new).plus(Range(kept_least, kept_most))
    return Call(size.factor(2 * STRING_FACTOR), result)


def _split(sizes: Sizes, _: str, target: Node, args: list[Node]) -> Call:
    size = _size(sizes, target)
    most = size.high
    limit = args[1].expr if len(args) > 1 else None
    if isinstance(limit, ast.Literal) and type(limit.value) is int:
        most = limit.value if limit.value >= 0 else limit.value + MAX_UINT + 1
    return Call(size.factor(2 * STRING_FACTOR), Range(0, most))


def _join(sizes: Sizes, _: str, target: Node, args: list[Node]) -> Call:
    count, element = _size(sizes, target), _element(target)
    size = NOTHING if element is None else count.times(_size(sizes, element))
    if args:
        between = Range(max(count.low - 1, 0), max(count.high - 1, 0))
        size = size.plus(_size(sizes, args[0]).times(between))
    return Call(size.factor(STRING_FACTOR), size)


def _find(sizes: Sizes, _: str, target: Node, args: list[Node]) -> Call:
    size = _size(sizes, target)
    text = size.plus(ONE).factor(STRING_FACTOR)
    pattern = _size(sizes, args[0]).factor(REGEX_FACTOR)
    return Call(text.times(pattern), Range(0, size.high))


def _contains_ip(sizes: Sizes, overload: str, _: Node, args: list[Node]) -> Call:
    cost = _ADDRESS.plus(_ADDRESS).factor(STRING_FACTOR)
    if overload == "cidr_contains_ip_string":
        cost = cost.plus(_size(sizes, args[0]).factor(STRING_FACTOR))
    return Call(cost)


def _contains_cidr(sizes: Sizes, overload: str, _: Node, args: list[Node]) -> Call:
    cost = _ADDRESS.plus(_ADDRESS).factor(STRING_FACTOR)
    cost = cost.plus(_ADDRESS.factor(STRING_FACTOR)).plus(ONE)
    if overload == "cidr_contains_cidr_string":
        cost = cost.plus(_size(sizes, args[0]).factor(STRING_FACTOR))
    return Call(cost)


def _validate(sizes: Sizes, _: str, target: Node, args: list[Node]) -> Call:
    text = _size(sizes, args[0]).factor(STRING_FACTOR)
    return Call(text.factor(_MAX_FORMAT_REGEX * REGEX_FACTOR))


_METHODS: dict[str, Estimate] = {
    "fieldSelector": _selector,
    "labelSelector": _selector,
    "replace": _replace,
    "split": _split,
    "join": _join,
    "find": _find,
    "findAll": _find,
    "containsIP": _contains_ip,
    "containsCIDR": _contains_cidr,
    "validate": _validate,
    "ip": lambda *_: Call(ONE),
}


# cel-go's own lists and sets.


def _number(node: Node, otherwise: int) -> int:
    expr = node.expr
    if not isinstance(expr, ast.Literal) or type(expr.value) is not int:
        return otherwise
    return max(expr.value, 0)


def _new_list(factor: float, size: Range) -> Call:
    return Call(size.factor(factor).plus(ONE).plus(fixed(LIST_COST)), size)


def _tracked(sizes: Sizes, overload: str, target: Node | None, args: list[Node]) -> Call | None:
    if overload.startswith("list_sets_"):
        factor = 2 if "equivalent" in overload else 1
        both = _size(sizes, args[0]).times(_size(sizes, args[1]))
        return Call(both.factor(factor).plus(ONE))
    if overload == "lists_range":
        return _new_list(1, fixed(_number(args[0], MAX_UINT)))
    if target is None:
        return None
    size = _size(sizes, target)
    if overload == "list_slice":
        length = _number(args[1], size.high) - _number(args[0], 0)
        return _new_list(1, fixed(length if length >= 0 else length + MAX_UINT + 1))
    if overload == "list_reverse":
        return _new_list(1, size)
    if overload.startswith("list_flatten"):
        return _new_list(_number(args[0], MAX_UINT) if args else 1, size)
    if overload == "list_distinct":
        return _new_list(2, size.times(size))
    compared = _size(sizes, args[0]) if args else size
    texts = overload.startswith(("list_string_", "list_bytes_"))
    return _new_list(2.1 if texts else 2.0, compared.times(compared))
