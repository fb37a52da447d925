"""Numbers or percentages (apimachinery util/intstr). Pure."""

from __future__ import annotations


def scaled_value(value: int | str | None, total: int, *, round_up: bool, default: int = 0) -> int:
    """An int as it is, ``"25%"`` of ``total``. :raises ValueError: with upstream's text."""
    if value is None:
        return default
    if isinstance(value, int):
        return value
    if not value.endswith("%"):
        raise ValueError("invalid type: string is not a percentage")
    try:
        percent = int(value[:-1])
    except ValueError as error:
        raise ValueError(f'invalid value "{value}": {error}') from error
    product = percent * total
    return -(-product // 100) if round_up else product // 100
