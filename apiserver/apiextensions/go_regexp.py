"""Go's regular expressions: the CEL package has them, patterns of schemas need them as well."""

from __future__ import annotations

from pilothouse.cel.regular_expressions import RegexpError, compile_go, matcher

__all__ = ["RegexpError", "compile_go", "matcher"]
