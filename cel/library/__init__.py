"""Functions of CEL, of its extensions and of Kubernetes; a table of overloads each."""

from __future__ import annotations

from pilothouse.cel.library import (
    authorization,
    comprehensions,
    formats,
    lists,
    networks,
    optionals,
    quantities,
    regex,
    semvers,
    standard,
    strings,
    urls,
)

KUBERNETES = (
    standard.rows,
    urls.rows,
    regex.rows,
    authorization.rows,
    optionals.rows,
    quantities.rows,
    strings.rows,
    networks.rows,
    formats.rows,
    comprehensions.rows,
    semvers.rows,
    lists.rows,
)
"""In the order of declaration, which overload resolution depends on."""
