"""The text of an expression, and errors that point into it, laid out as cel-go does."""

from __future__ import annotations

from pilothouse.cel.interfaces import CompileError

_MAX_SNIPPET = 16384
_MAX_ERRORS = 100


class Source:
    """An expression's text with the errors found in it so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._lines = text.split("\n")
        self._errors: list[tuple[int, int, str]] = []

    def location(self, offset: int) -> tuple[int, int]:
        """Line (from 1) and column (from 0)."""
        if offset < 0:
            return -1, -1
        before = self.text[:offset]
        return before.count("\n") + 1, offset - (before.rfind("\n") + 1)

    def report(self, offset: int, message: str) -> None:
        """An error at ``offset``; -1: at no place."""
        self._errors.append((*self.location(offset), message))

    @property
    def failed(self) -> bool:
        return bool(self._errors)

    def raise_errors(self) -> None:
        """:raises CompileError: something was reported."""
        if self._errors:
            errors = sorted(self._errors, key=lambda each: (each[0], each[1]))
            shown = [self._display(*each) for each in errors[:_MAX_ERRORS]]
            if len(errors) > _MAX_ERRORS:
                shown.append(f"{len(errors) - _MAX_ERRORS} more errors were truncated")
            raise CompileError("\n".join(shown))

    def _display(self, line: int, column: int, message: str) -> str:
        text = f"ERROR: <input>:{line}:{column + 1}: {message}"
        if line < 1 or line > len(self._lines) or not self.text:
            return text
        snippet = self._lines[line - 1].replace("\t", " ")
        if len(snippet) > _MAX_SNIPPET:
            return text
        dots = "".join("\uff0e" if ord(char) > 127 else "." for char in snippet[:column])
        mark = "\uff3e" if ord(snippet[column : column + 1] or " ") > 127 else "^"
        return f"{text}\n | {snippet}\n | {dots}{mark}"
