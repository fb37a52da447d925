"""Resource quantities (apimachinery pkg/api/resource): ``100m``, ``1.5Gi``, ``12e6``.

A quantity is an exact integer times a power of ten and remembers the format it was written in;
precision below 1n is rounded up, away from zero. Values are immutable and parsing is cached.
Arithmetic keeps the format of the left operand, unless that is zero.
"""

from __future__ import annotations

import re
from functools import lru_cache, total_ordering
from typing import Literal

Format = Literal["DecimalSI", "BinarySI", "DecimalExponent"]

DECIMAL_SI: Format = "DecimalSI"
BINARY_SI: Format = "BinarySI"
DECIMAL_EXPONENT: Format = "DecimalExponent"

FORMAT_WRONG = (
    "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"
)
NUMERIC_WRONG = "unable to parse numeric part of quantity"
SUFFIX_WRONG = "unable to parse quantity's suffix"

_NUMBER = re.compile(r"([+-]?)(0*)([0-9]*)(?:\.([0-9]*))?([eEinumkKMGTP]*[-+]?[0-9]*)", re.ASCII)
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]+)", re.ASCII)
_DECIMAL_SUFFIXES = {
    "n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18,
}  # fmt: skip
_BINARY_SUFFIXES = {"Ki": 10, "Mi": 20, "Gi": 30, "Ti": 40, "Pi": 50, "Ei": 60}
_SUFFIX_OF_EXPONENT = {v: k for k, v in _DECIMAL_SUFFIXES.items()}
_SUFFIX_OF_1024 = ("", *_BINARY_SUFFIXES)
_NANO = -9
_MAX_INT64 = (1 << 63) - 1
_MAX_DIGITS = 4000
"""More digits than this are no quantity; Python's own limit is 4300."""
_MAX_SPREAD = 4096
"""Operands further apart than this many decimal places: the greater one is the sum."""


class QuantityError(ValueError):
    """Not a quantity; the text is upstream's."""


@total_ordering
class Quantity:
    """``unscaled * 10**scale``. Compares and hashes by value, whatever the format."""

    __slots__ = ("_text", "format", "scale", "unscaled")

    def __init__(
        self, unscaled: int, scale: int = 0, format: Format = DECIMAL_SI, text: str = ""
    ) -> None:
        self.unscaled = unscaled
        self.scale = scale
        self.format: Format = format
        self._text = text

    @staticmethod
    def parse(value: str | int | float) -> Quantity:
        """:raises QuantityError: (a ValueError) with resource.ParseQuantity's text."""
        if type(value) is str:
            return _parse(value)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise QuantityError(FORMAT_WRONG)
        return _parse(str(value) if abs(value) < 1e300 else "invalid")

    @classmethod
    def of(cls, value: int, format: Format = DECIMAL_SI) -> Quantity:
        """resource.NewQuantity"""
        return cls(value, 0, format)

    @classmethod
    def of_milli(cls, value: int, format: Format = DECIMAL_SI) -> Quantity:
        """resource.NewMilliQuantity"""
        return cls(value, -3, format)

    def value(self) -> int:
        """Whole units, rounded away from zero, within int64."""
        value = self.unscaled
        return value if self.scale == 0 and value.bit_length() < 64 else self.scaled_value(0)

    def milli_value(self) -> int:
        """Thousandths, rounded away from zero, within int64."""
        value = self.unscaled
        return value if self.scale == -3 and value.bit_length() < 64 else self.scaled_value(-3)

    def scaled_value(self, scale: int) -> int:
        """In units of ``10**scale``, rounded away from zero, within int64."""
        shift = self.scale - scale
        if self.unscaled == 0:
            return 0
        bound = _MAX_INT64 if self.unscaled > 0 else -_MAX_INT64 - 1
        if shift > 19:
            return bound
        if shift < 0:
            value = _divide_up(self.unscaled, -shift)
        else:
            value = self.unscaled * 10**shift
        return bound if abs(value) > _MAX_INT64 else value

    def as_float(self) -> float:
        """AsApproximateFloat64"""
        if not self.unscaled:
            return 0.0
        try:
            return self.unscaled * 10.0**self.scale
        except OverflowError:
            return float("inf") if self.unscaled > 0 else float("-inf")

    def sign(self) -> int:
        return (self.unscaled > 0) - (self.unscaled < 0)

    @property
    def is_zero(self) -> bool:
        return self.unscaled == 0

    def __bool__(self) -> bool:
        return self.unscaled != 0

    def cmp(self, other: Quantity | int) -> int:
        """-1, 0 or 1."""
        if isinstance(other, int):
            other = Quantity(other)
        a, b = self.unscaled, other.unscaled
        shift = self.scale - other.scale
        if shift and (a or b):
            if self.sign() != other.sign():
                return 1 if self.sign() > other.sign() else -1
            if abs(shift) > _MAX_SPREAD:
                return self.sign() if _magnitude(self) > _magnitude(other) else -self.sign()
            if shift > 0:
                a *= 10**shift
            else:
                b *= 10**-shift
        return (a > b) - (a < b)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, (Quantity, int)):
            return NotImplemented
        return self.cmp(other) == 0

    def __lt__(self, other: Quantity | int) -> bool:
        return self.cmp(other) < 0

    def __hash__(self) -> int:
        unscaled, scale = _without_tens(self.unscaled, self.scale)
        return hash(unscaled * 10**scale) if 0 <= scale < 19 else hash((unscaled, scale))

    def __add__(self, other: Quantity) -> Quantity:
        format = self.format if self.unscaled else other.format
        shift = self.scale - other.scale
        if shift == 0:
            return Quantity(self.unscaled + other.unscaled, self.scale, format)
        if self.unscaled == 0 or other.unscaled == 0:
            kept = other if self.unscaled == 0 else self
            return Quantity(kept.unscaled, kept.scale, format)
        if abs(shift) > _MAX_SPREAD:
            kept = self if _magnitude(self) > _magnitude(other) else other
            return Quantity(kept.unscaled, kept.scale, format)
        if shift > 0:
            return Quantity(self.unscaled * 10**shift + other.unscaled, other.scale, format)
        return Quantity(self.unscaled + other.unscaled * 10**-shift, self.scale, format)

    def __sub__(self, other: Quantity) -> Quantity:
        return self + -other

    def __neg__(self) -> Quantity:
        return Quantity(-self.unscaled, self.scale, self.format)

    def __mul__(self, factor: int) -> Quantity:
        return Quantity(self.unscaled * factor, self.scale, self.format)

    def round_up(self, scale: int) -> Quantity:
        """No more precise than ``10**scale``, rounded away from zero."""
        if self.scale >= scale:
            return self
        return Quantity(_divide_up(self.unscaled, scale - self.scale), scale, self.format)

    def __str__(self) -> str:
        if not self._text:
            self._text = _canonical_text(self)
        return self._text

    def __repr__(self) -> str:
        return f"Quantity({str(self)!r})"


ZERO = Quantity(0)


def canonical(value: str | int | float) -> str:
    """The text that the API server stores for ``value`` (Quantity.UnmarshalJSON, MarshalJSON).

    :raises QuantityError: with upstream's text.
    """
    return str(Quantity.parse(value.strip() if isinstance(value, str) else value))


@lru_cache(maxsize=8192)
def _parse(text: str) -> Quantity:
    if text == "0":
        return Quantity(0, text="0")
    match = _NUMBER.fullmatch(text) if text else None
    if match is None:
        raise QuantityError(FORMAT_WRONG)
    sign, zeros, whole, fraction, suffix = match.groups()
    fraction = fraction or ""
    bare = not (zeros or whole or fraction)
    if len(whole) + len(fraction) > _MAX_DIGITS:
        raise QuantityError(NUMERIC_WRONG)
    digits = whole + fraction if whole else "0" + fraction
    number = int(digits)
    if suffix in _BINARY_SUFFIXES:
        exponent = _BINARY_SUFFIXES[suffix]
        if bare and exponent >= 50:
            raise QuantityError(NUMERIC_WRONG)
        return _parse_binary(text, sign, number, fraction, exponent)
    format: Format = DECIMAL_SI
    decimal = _DECIMAL_SUFFIXES.get(suffix)
    if decimal is None:
        exponent, format = _parse_exponent(suffix), DECIMAL_EXPONENT
    else:
        exponent = decimal
    scale = exponent - len(fraction)
    fits = scale >= _NANO and len(digits) <= 18
    if scale < _NANO:
        if bare:
            raise QuantityError(NUMERIC_WRONG)
        number, scale = _divide_up(number, _NANO - scale), _NANO
    # Upstream keeps the spelling when its quick check finds it canonical.
    keep = fits and scale % 3 == 0 and digits[0] != "0" and not digits.endswith("000")
    return Quantity(-number if sign == "-" else number, scale, format, text if keep else "")


def _parse_exponent(suffix: str) -> int:
    match = _EXPONENT.fullmatch(suffix)
    if match is None or len(match[1]) > 21 or abs(int(match[1])) > _MAX_INT64:
        raise QuantityError(SUFFIX_WRONG)
    # int32(parsed), as Go truncates it.
    return (int(match[1]) + (1 << 31)) % (1 << 32) - (1 << 31)


def _parse_binary(text: str, sign: str, number: int, fraction: str, exponent: int) -> Quantity:
    format: Format = BINARY_SI
    unscaled, scale = number << exponent, -len(fraction)
    if scale < _NANO:
        unscaled, scale = _divide_up(unscaled, _NANO - scale), _NANO
    one = 10**-scale
    if unscaled > _MAX_INT64 * one:
        unscaled, scale = _MAX_INT64, 0
    elif 0 < unscaled < one:
        format = DECIMAL_SI
    # As in upstream's fast path: an odd multiple of 2**exponent up to 2**2 is canonical.
    fits = 15 - len(str(number)) - exponent * 3 // 10 - 1 >= 0
    keep = fits and not fraction and number & 7 != 0
    return Quantity(-unscaled if sign == "-" else unscaled, scale, format, text if keep else "")


def _divide_up(value: int, places: int) -> int:
    """``value / 10**places``, rounded away from zero."""
    if value == 0:
        return 0
    if places > value.bit_length():
        return 1 if value > 0 else -1
    quotient: int = -(-abs(value) // 10**places)
    return quotient if value > 0 else -quotient


def _magnitude(quantity: Quantity) -> int:
    """The decimal exponent, roughly: only for operands that are far apart."""
    if not quantity.unscaled:
        return -(1 << 40)
    return quantity.unscaled.bit_length() * 30103 // 100000 + quantity.scale


def _without_tens(unscaled: int, scale: int) -> tuple[int, int]:
    if unscaled == 0:
        return 0, 0
    while unscaled % 10 == 0:
        unscaled //= 10
        scale += 1
    return unscaled, scale


def _canonical_text(quantity: Quantity) -> str:
    unscaled, scale, format = quantity.unscaled, quantity.scale, quantity.format
    if unscaled == 0:
        return "0"
    if format == BINARY_SI:
        # Small and fractional values are shown in decimal, so that no precision is lost.
        if scale > 0 and scale <= 64:
            unscaled, scale = unscaled * 10**scale, 0
        if scale <= 0:
            one = 10**-scale
            if unscaled % one == 0 and abs(unscaled) >= 1024 * one:
                return _binary_text(unscaled // one)
        format = DECIMAL_SI
    unscaled, scale = _without_tens(unscaled, scale)
    rest = scale % 3
    unscaled, scale = unscaled * 10**rest, scale - rest
    suffix = _SUFFIX_OF_EXPONENT.get(scale) if format == DECIMAL_SI else None
    if suffix is None:
        suffix = f"e{scale}" if scale else ""
    return f"{unscaled}{suffix}"


def _binary_text(value: int) -> str:
    step = 0
    while step < 6 and value % 1024 == 0:
        value //= 1024
        step += 1
    return f"{value}{_SUFFIX_OF_1024[step]}"
