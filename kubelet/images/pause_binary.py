"""A pause program, byte for byte: the image ``pause`` and PID 1 of shared process namespaces."""

from __future__ import annotations

# Blocks TERM, INT and CHLD and waits for them: CHLD reaps whatever has ended, the others exit 0.
_PAUSE_X86_64 = bytes.fromhex(
    "488d355a00000031ff31d241ba08000000b80e0000000f05488d3d4200000031f631d241ba08000000b880000000"
    "0f0585c078e483f811740931ffb83c0000000f0548c7c7ffffffff31f6ba010000004531d2b83d0000000f054885"
    "c07fe3ebb70240010000000000"
)


def pause_binary() -> bytes:
    """A static program of 225 bytes: waits, reaps orphans, exits on TERM. x86-64 only."""
    base, offset = 0x400000, 64 + 56
    entry = base + offset
    total = offset + len(_PAUSE_X86_64)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    for value, width in (
        (2, 2), (62, 2), (1, 4), (entry, 8), (64, 8), (0, 8), (0, 4), (64, 2), (56, 2), (1, 2),
        (0, 2), (0, 2), (0, 2),
    ):  # fmt: skip
        header += value.to_bytes(width, "little")
    segment = b""
    for value, width in (
        (1, 4), (5, 4), (0, 8), (base, 8), (base, 8), (total, 8), (total, 8), (0x1000, 8),
    ):  # fmt: skip
        segment += value.to_bytes(width, "little")
    return header + segment + _PAUSE_X86_64
