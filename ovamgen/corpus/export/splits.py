"""Which sample is for training and which for validation, decided by its key alone.

A sample stays where it is when others come or go: a corpus that grows never moves a picture from
one side to the other.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from fractions import Fraction

from ovamgen.errors import ConfigError

_NAME = re.compile(r"[a-z][a-z0-9]*")
_TAKEN = ("out", "request")
"""What stands beside the splits in results and in ``export.json``."""


@dataclass(frozen=True, slots=True)
class Splits:
    """Names of splits with their shares, which add up to 1."""

    shares: tuple[tuple[str, Fraction], ...]

    @classmethod
    def parse(cls, text: str) -> Splits:
        """The splits that ``train=0.9,val=0.1`` names.

        Raises:
            ConfigError: another form, a name that is no lower-case word or there twice, a share
                below 0, shares that do not add up to 1.
        """
        shares = []
        for part in text.split(","):
            name, _, share = (word.strip() for word in part.partition("="))
            if not _NAME.fullmatch(name) or name in _TAKEN:
                raise ConfigError(
                    "--split expects names of lower-case letters and digits with their shares, "
                    f"such as train=0.9,val=0.1; got '{text}'"
                )
            try:
                shares.append((name, Fraction(share)))
            except (ValueError, ZeroDivisionError):
                raise ConfigError(
                    f"--split expects a number for the share of {name}, such as {name}=0.9; "
                    f"got '{share}'"
                ) from None
        names = [name for name, _ in shares]
        if len(set(names)) < len(names):
            raise ConfigError(f"--split must name each split once, got '{text}'")
        total = sum(share for _, share in shares)
        if total != 1 or any(share < 0 for _, share in shares):
            raise ConfigError(
                f"the shares of --split must be from 0 to 1 and add up to 1, got '{text}', "
                f"which is {float(total):g}"
            )
        return cls(tuple(shares))

    @classmethod
    def with_val(cls, share: float) -> Splits:
        """``train``, and ``val`` with a share in [0, 1].

        Raises:
            ConfigError: it is no share.
        """
        if not 0 <= share <= 1:
            raise ConfigError(f"the share of validation samples must be from 0 to 1, got {share}")
        val = Fraction(share)
        return cls((("train", 1 - val), ("val", val)))

    @property
    def names(self) -> tuple[str, ...]:
        """The names, as they were given."""
        return tuple(name for name, _ in self.shares)

    def __str__(self) -> str:
        """The splits as they are typed: ``train=0.9,val=0.1``."""
        return ",".join(f"{name}={float(share):g}" for name, share in self.shares)

    def of(self, key: str) -> str:
        """The split of a sample.

        The last split has the keys with the smallest hashes, the one before it the next, and the
        first one the rest.
        """
        number = int.from_bytes(hashlib.sha256(f"val {key}".encode()).digest()[:8], "big")
        edge = Fraction(0)
        for name, share in reversed(self.shares[1:]):
            edge += share
            if number < edge * 2**64:
                return name
        return self.shares[0][0]
