"""Shuffle sharding: each flow has a hand of queues, and few flows share a whole hand. Pure."""

from __future__ import annotations

import hashlib
from math import log2

_MAX_ENTROPY = 60.0
"""Bits that a hash of 64 gives safely."""


def flow_hash(schema: str, distinguisher: str) -> int:
    """The hash of a flow: the same number as upstream's for the same names."""
    digest = hashlib.sha256(f"{schema}\0{distinguisher}".encode()).digest()
    return int.from_bytes(digest[:8], "little")


def required_entropy(deck: int, hand: int) -> float:
    return sum(log2(deck - i) for i in range(hand))


def deal(value: int, deck: int, hand: int) -> tuple[int, ...]:
    """``hand`` different cards of ``deck``, always the same for the same ``value``.

    :raises ValueError: the hand does not fit the deck, or the hash does not suffice for it.
    """
    if not 0 < hand <= deck:
        raise ValueError(f"handSize {hand} must be positive and at most deckSize {deck}")
    if required_entropy(deck, hand) > _MAX_ENTROPY:
        raise ValueError(f"deckSize {deck} and handSize {hand} need more than 60 bits of entropy")
    remainders = []
    for i in range(hand):
        value, rest = divmod(value, deck - i)
        remainders.append(rest)
    cards = []
    for i, card in enumerate(remainders):
        for j in range(i, 0, -1):
            if card >= remainders[j - 1]:
                card += 1
        cards.append(card)
    return tuple(cards)
