"""From tokens to a syntax tree, by recursive descent; macros are expanded on the way.

The first syntax error ends the parse. Nesting is limited, so that no input exhausts the stack.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pilothouse.cel import ast
from pilothouse.cel.lexer import Token, tokenize
from pilothouse.cel.literals import unescape, unescape_bytes
from pilothouse.cel.macros import MacroError
from pilothouse.cel.values import MAX_INT, MAX_UINT, MIN_INT, Uint

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pilothouse.cel.macros import Macro
    from pilothouse.cel.source import Source

MAX_DEPTH = 80
"""Deeper nesting is an error; cel-go's limit of 250 counts several grammar rules a level."""
MAX_SIZE = 100_000

RESERVED = frozenset(
    "as break const continue else false for function if import in let loop package namespace "
    "null return true var void while".split()
)
_RELATIONS = {
    "<": "_<_",
    "<=": "_<=_",
    ">=": "_>=_",
    ">": "_>_",
    "==": "_==_",
    "!=": "_!=_",
    "in": "@in",
}
_SUMS = {"+": "_+_", "-": "_-_"}
_PRODUCTS = {"*": "_*_", "/": "_/_", "%": "_%_"}
_STARTS = (
    "'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, "
    "STRING, BYTES, IDENTIFIER"
)
_STARTING = frozenset(
    "[ { ( . - ! true false null NUM_FLOAT NUM_INT NUM_UINT STRING BYTES IDENTIFIER".split()
)


class _Stop(Exception):
    """A syntax error was reported."""


def parse(source: Source, macros: Mapping[tuple[str, int, bool], Macro]) -> ast.Expr:
    """:raises CompileError: with all lexical errors and the first of the grammar."""
    if len(source.text) > MAX_SIZE:
        size = len(source.text)
        source.report(
            -1, f"expression code point size exceeds limit: size: {size}, limit {MAX_SIZE}"
        )
        source.raise_errors()
    tokens = tokenize(source)
    parser = _Parser(source, tokens, macros)
    result: ast.Expr = ast.Literal(0, None)
    try:
        result = parser.start()
    except _Stop:
        pass
    source.raise_errors()
    return result


class _Parser:
    def __init__(
        self,
        source: Source,
        tokens: list[Token],
        macros: Mapping[tuple[str, int, bool], Macro],
    ) -> None:
        self.source = source
        self.tokens = tokens
        self.macros = macros
        self.at = 0
        self.depth = 0

    # What is there.

    @property
    def kind(self) -> str:
        return self.tokens[self.at].kind

    def next(self) -> Token:
        token = self.tokens[self.at]
        if token.kind != "<EOF>":
            self.at += 1
        return token

    def accept(self, kind: str) -> Token | None:
        return self.next() if self.tokens[self.at].kind == kind else None

    def expect(self, kind: str, expected: str = "") -> Token:
        token = self.tokens[self.at]
        if token.kind == kind:
            return self.next()
        wanted = expected or (f"'{kind}'" if not kind[0].isalpha() else kind)
        if kind == ")" and token.kind == "<EOF>" and not expected:
            raise self.fail("missing ')' at '<EOF>'")
        if kind == ":" and token.kind in _STARTING:
            raise self.fail(f"missing ':' at '{token.text}'")
        raise self.fail(f"mismatched input '{token.text}' expecting {wanted}")

    def fail(self, message: str) -> _Stop:
        self.source.report(self.tokens[self.at].offset, f"Syntax error: {message}")
        return _Stop()

    # The grammar, a method a rule.

    def start(self) -> ast.Expr:
        result = self.expr()
        if self.kind != "<EOF>":
            token = self.tokens[self.at]
            last = self.at + 1 == len(self.tokens) - 1
            what = "extraneous" if last else "mismatched"
            raise self.fail(f"{what} input '{token.text}' expecting <EOF>")
        return result

    def expr(self) -> ast.Expr:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            self.source.report(-1, "expression recursion limit exceeded: 250")
            raise _Stop()
        first = self.logical("||", "_||_", self.conjunction)
        token = self.accept("?")
        if token is not None:
            then = self.logical("||", "_||_", self.conjunction)
            self.expect(":")
            otherwise = self.expr()
            first = ast.Call(token.offset, "_?_:_", [first, then, otherwise])
        self.depth -= 1
        return first

    def conjunction(self) -> ast.Expr:
        return self.logical("&&", "_&&_", self.relation)

    def logical(self, operator: str, function: str, operand: object) -> ast.Expr:
        assert callable(operand)
        terms: list[ast.Expr] = [operand()]
        offset = -1
        while True:
            token = self.accept(operator)
            if token is None:
                break
            if offset < 0:
                offset = token.offset
            terms.append(operand())
        return terms[0] if offset < 0 else ast.Call(offset, function, terms)

    def relation(self) -> ast.Expr:
        left = self.sum()
        while self.kind in _RELATIONS:
            token = self.next()
            left = self.call(token.offset, _RELATIONS[token.kind], [left, self.sum()])
        return left

    def sum(self) -> ast.Expr:
        left = self.product()
        while self.kind in _SUMS:
            token = self.next()
            left = self.call(token.offset, _SUMS[token.kind], [left, self.product()])
        return left

    def product(self) -> ast.Expr:
        left = self.unary()
        while self.kind in _PRODUCTS:
            token = self.next()
            left = self.call(token.offset, _PRODUCTS[token.kind], [left, self.unary()])
        return left

    def call(self, offset: int, function: str, args: list[ast.Expr]) -> ast.Expr:
        return ast.Call(offset, function, args)

    def unary(self) -> ast.Expr:
        kind = self.kind
        if kind not in ("!", "-"):
            return self.member()
        first = self.tokens[self.at]
        if kind == "-" and self.tokens[self.at + 1].kind in ("NUM_INT", "NUM_FLOAT"):
            return self.member()
        count = 0
        while self.accept(kind):
            count += 1
        inner = self.member()
        if count % 2 == 0:
            return inner
        return ast.Call(first.offset, "!_" if kind == "!" else "-_", [inner])

    def member(self) -> ast.Expr:
        result = self.primary()
        depth = self.depth
        steps = 0
        while True:
            token = self.accept(".")
            if token is not None:
                result = self.selection(token, result)
            else:
                token = self.accept("[")
                if token is None:
                    break
                optional = self.accept("?") is not None
                index = self.expr()
                self.expect("]")
                function = "_[?_]" if optional else "_[_]"
                result = ast.Call(token.offset, function, [result, index])
            steps += 1
            if depth + steps > 240:
                self.source.report(-1, "expression recursion limit exceeded: 250")
                raise _Stop()
        return result

    def selection(self, dot: Token, operand: ast.Expr) -> ast.Expr:
        optional = self.accept("?") is not None
        if self.kind == "ESC_IDENTIFIER":
            token = self.next()
            field = token.text[1:-1]
            if optional:
                args = [operand, ast.Literal(token.offset, field)]
                return ast.Call(dot.offset, "_?._", args)
            return ast.Select(dot.offset, operand, field)
        if optional and self.kind != "IDENTIFIER":
            text = self.tokens[self.at].text
            raise self.fail(f"mismatched input '{text}' expecting {{IDENTIFIER, ESC_IDENTIFIER}}")
        if self.kind in ("true", "false", "null", "in"):
            text = self.tokens[self.at].text
            if text == "in":
                raise self.fail(f"no viable alternative at input '.{text}'")
            raise self.fail(f"mismatched input '{text}' expecting IDENTIFIER")
        if self.kind != "IDENTIFIER":
            text = self.tokens[self.at].text.removeprefix("<EOF>")
            raise self.fail(f"no viable alternative at input '.{text}'")
        name = self.next()
        if optional:
            args = [operand, ast.Literal(name.offset, name.text)]
            return ast.Call(dot.offset, "_?._", args)
        opening = self.accept("(")
        if opening is None:
            return ast.Select(dot.offset, operand, name.text)
        return self.invoke(opening, name.text, operand, self.arguments())

    def arguments(self) -> list[ast.Expr]:
        args: list[ast.Expr] = []
        if self.kind != ")":
            if self.kind not in _STARTING:
                raise self._no_start(_STARTS.replace("'(', ", "'(', ')', "))
            args.append(self.expr())
            while self.accept(","):
                args.append(self.expr())
        self.expect(")")
        return args

    def invoke(
        self, opening: Token, name: str, target: ast.Expr | None, args: list[ast.Expr]
    ) -> ast.Expr:
        macro = self.macros.get((name, len(args), target is not None))
        if macro is not None:
            try:
                expanded = macro(opening.offset, target, args)
            except MacroError as error:
                offset = opening.offset if error.offset is None else error.offset
                self.source.report(offset, str(error))
                return ast.Literal(opening.offset, None)
            if expanded is not None:
                return expanded
        return ast.Call(opening.offset, name, args, target)

    def primary(self) -> ast.Expr:
        token = self.tokens[self.at]
        kind = token.kind
        if kind == "(":
            self.next()
            inner = self.expr()
            self.expect(")")
            return inner
        if kind == "[":
            return self.list_(self.next())
        if kind == "{":
            return self.map_(self.next())
        if kind == "IDENTIFIER":
            return self.name("")
        if kind == ".":
            self.next()
            if self.kind != "IDENTIFIER":
                raise self.fail(f"no viable alternative at input '.{self.tokens[self.at].text}'")
            return self.name(".")
        return self.literal()

    def name(self, dot: str) -> ast.Expr:
        token = self.next()
        start = self.at
        qualified = [token.text]
        while self.kind == "." and self.tokens[self.at + 1].kind == "IDENTIFIER":
            self.at += 2
            qualified.append(self.tokens[self.at - 1].text)
        if self.kind == "{":
            opening = self.next()
            return self.struct(opening, dot + ".".join(qualified))
        self.at = start
        if token.text in RESERVED:
            self.source.report(token.offset, f"reserved identifier: {token.text}")
            if self.kind == "(":
                self.next()
                self.arguments()
            return ast.Literal(token.offset, None)
        paren = self.accept("(")
        if paren is not None:
            return self.invoke(paren, dot + token.text, None, self.arguments())
        return ast.Ident(token.offset, dot + token.text)

    def list_(self, opening: Token) -> ast.Expr:
        elements: list[ast.Expr] = []
        optional: set[int] = set()
        while self.kind != "]":
            if self.kind == "," and not elements:
                self.next()
                break
            if self.accept("?"):
                optional.add(len(elements))
            elements.append(self.expr())
            if not self.accept(","):
                break
        self.expect("]", "{']', ','}" if elements else "")
        return ast.ListExpr(opening.offset, elements, frozenset(optional))

    def map_(self, opening: Token) -> ast.Expr:
        entries: list[ast.Entry] = []
        while self.kind != "}":
            if self.kind == "," and not entries:
                self.next()
                break
            optional = self.accept("?") is not None
            key = self.expr()
            colon = self.expect(":")
            entries.append(ast.Entry(colon.offset, key, "", self.expr(), optional))
            if not self.accept(","):
                break
        self.expect("}", "{'}', ','}" if entries else "")
        return ast.MapExpr(opening.offset, entries)

    def struct(self, opening: Token, name: str) -> ast.Expr:
        entries: list[ast.Entry] = []
        while self.kind != "}":
            if self.kind == "," and not entries:
                self.next()
                break
            optional = self.accept("?") is not None
            token = self.accept("ESC_IDENTIFIER") or self.expect("IDENTIFIER", "IDENTIFIER")
            colon = self.expect(":")
            name_ = token.text.strip("`")
            entries.append(ast.Entry(colon.offset, None, name_, self.expr(), optional))
            if not self.accept(","):
                break
        self.expect("}", "{'}', ','}" if entries else "")
        return ast.Struct(opening.offset, name, entries)

    def literal(self) -> ast.Expr:
        token = self.tokens[self.at]
        offset, sign = token.offset, 1
        if token.kind == "-" and self.tokens[self.at + 1].kind in ("NUM_INT", "NUM_FLOAT"):
            self.next()
            sign, token = -1, self.tokens[self.at]
        kind, text = token.kind, token.text
        if kind in ("true", "false", "null"):
            self.next()
            return ast.Literal(offset, {"true": True, "false": False, "null": None}[kind])
        if kind not in ("NUM_INT", "NUM_UINT", "NUM_FLOAT", "STRING", "BYTES"):
            raise self._no_start(_STARTS)
        self.next()
        if kind == "NUM_FLOAT":
            return ast.Literal(offset, sign * float(text))
        if kind in ("NUM_INT", "NUM_UINT"):
            return ast.Literal(offset, self.integer(offset, kind, text, sign))
        try:
            if kind == "BYTES":
                return ast.Literal(offset, unescape_bytes(text[1:]))
            return ast.Literal(offset, unescape(text))
        except ValueError as error:
            self.source.report(offset, str(error))
            return ast.Literal(offset, "")

    def _no_start(self, expected: str) -> _Stop:
        """Where an expression should start; one token too many is extraneous."""
        token = self.tokens[self.at]
        following = self.tokens[min(self.at + 1, len(self.tokens) - 1)]
        extra = token.kind != "<EOF>" and following.kind in _STARTING
        what = "extraneous" if extra else "mismatched"
        return self.fail(f"{what} input '{token.text}' expecting {{{expected}}}")

    def integer(self, offset: int, kind: str, text: str, sign: int) -> int:
        unsigned = kind == "NUM_UINT"
        if unsigned:
            text = text[:-1]
        digits, base = (text[2:], 16) if text.startswith("0x") else (text, 10)
        value = sign * int(digits, base) if len(digits) < 30 else sign << 70
        if unsigned:
            if value > MAX_UINT:
                self.source.report(offset, "invalid uint literal")
                return Uint(0)
            return Uint(value)
        if not MIN_INT <= value <= MAX_INT:
            self.source.report(offset, "invalid int literal")
            return 0
        return value
