"""Numbers in text for people: things counted, and bytes."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """The number with its noun: ``1 finding``, ``2,000 findings``; for nouns that take an s."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def readable_bytes(size: int) -> str:
    """In the largest unit that leaves something before the point: ``1.4 GB``, ``37 bytes``."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return counted(size, "byte")
