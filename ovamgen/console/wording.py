"""Words of messages: things counted, bytes, and the name that may have been meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


def counted(number: int, noun: str) -> str:
    """The number with its noun: ``1 finding``, ``2,000 findings``; for nouns that take an s."""
    return f"{number:,} {noun}{'s' * (number != 1)}"


def listed(names: Iterable[str], most: int = 8) -> str:
    """The names with commas, the first of many: ``cat, dog``, ``cat, dog and 78 more``."""
    every = list(names)
    rest = len(every) - most
    return ", ".join(every[:most]) + (f" and {rest} more" if rest > 0 else "")


def readable_bytes(size: int) -> str:
    """In the largest unit that leaves something before the point: ``1.4 GB``, ``37 bytes``."""
    for unit, factor in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return counted(size, "byte")


def nearest(name: str, known: Iterable[str], cutoff: float = 0.5) -> str:
    """``: did you mean 'X'?``, or all that is known where nothing is near; for a message's end."""
    names, wanted = {each.lower(): each for each in sorted(known)}, name.lower()
    begun = [each for each in names if wanted and each.startswith(wanted)]
    near = begun or difflib.get_close_matches(wanted, names, n=1, cutoff=cutoff)
    if near:
        return f": did you mean {' or '.join(repr(names[each]) for each in near)}?"
    return f": known are {', '.join(names.values())}"
