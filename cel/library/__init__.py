"""Functions of CEL, of its extensions and of Kubernetes; a table of overloads each."""

from __future__ import annotations

from pilothouse.cel.library import comprehensions, optionals, standard

KUBERNETES = (standard.rows, optionals.rows, comprehensions.rows)
"""In the order of declaration, which error texts and overload resolution depend on."""
