"""Kubernetes' CEL functions that rules of CRDs use most: lists, regular expressions, quantities.

A quantity is a map with one hidden key, because the engine has no opaque Python values. Lists'
``indexOf`` is missing: the engine's own function of that name (for strings) can't be extended.
"""

from __future__ import annotations

import ipaddress
from itertools import pairwise
from typing import Any

from pilothouse.apimachinery.quantity import Quantity
from pilothouse.apiserver.apiextensions.formats import FORMATS
from pilothouse.apiserver.apiextensions.go_regexp import compile_go

_QUANTITY = "__quantity"


def _find(text: str, pattern: str) -> str:
    match = compile_go(pattern).search(text)
    return match[0] if match else ""


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = [match[0] for match in compile_go(pattern).finditer(text)]
    return found if limit < 0 else found[:limit]


def _is_sorted(values: list[Any]) -> bool:
    return all(a <= b for a, b in pairwise(values))


def _quantity(text: str) -> dict[str, str]:
    return {_QUANTITY: str(Quantity.parse(text))}


def _parsed(value: Any) -> Quantity:
    return Quantity.parse(value[_QUANTITY] if isinstance(value, dict) else value)


def _is_quantity(text: str) -> bool:
    try:
        Quantity.parse(text)
    except ValueError:
        return False
    return True


def _compare(left: Any, right: Any) -> int:
    a, b = _parsed(left), _parsed(right)
    return 0 if a == b else (-1 if a < b else 1)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return "%" not in text


def _is_cidr(text: str) -> bool:
    return FORMATS["cidr"](text)


def extension(cel: Any) -> Any:
    """The library as an extension of ``cel_expr_python.cel``."""
    kinds = cel.Type
    dyn, text, flag, number = kinds.DYN, kinds.STRING, kinds.BOOL, kinds.INT
    values = kinds.List(dyn)

    def method(name: str, result: Any, parameters: list[Any], function: Any) -> Any:
        return cel.FunctionDecl(
            name, [cel.Overload(f"k8s_{name}", result, parameters, True, function)]
        )

    def function(name: str, result: Any, parameters: list[Any], implementation: Any) -> Any:
        return cel.FunctionDecl(
            name, [cel.Overload(f"k8s_{name}", result, parameters, False, implementation)]
        )

    find_all = [
        cel.Overload("k8s_find_all", kinds.List(text), [text, text], True, _find_all),
        cel.Overload("k8s_find_all_n", kinds.List(text), [text, text, number], True, _find_all),
    ]
    return cel.CelExtension(
        "kubernetes",
        [
            method("find", text, [text, text], _find),
            cel.FunctionDecl("findAll", find_all),
            method("isSorted", flag, [values], _is_sorted),
            method("sum", dyn, [values], sum),
            method("min", dyn, [values], min),
            method("max", dyn, [values], max),
            function("quantity", dyn, [text], _quantity),
            function("isQuantity", flag, [text], _is_quantity),
            method("compareTo", number, [dyn, dyn], _compare),
            method("isGreaterThan", flag, [dyn, dyn], lambda a, b: _compare(a, b) > 0),
            method("isLessThan", flag, [dyn, dyn], lambda a, b: _compare(a, b) < 0),
            method("asInteger", number, [dyn], lambda q: _parsed(q).value()),
            function("isURL", flag, [text], lambda value: FORMATS["uri"](value)),
            function("isIP", flag, [text], _is_address),
            function("isCIDR", flag, [text], _is_cidr),
        ],
    )
