"""What ``attribution.tokens`` says: which rows stand for the classes. Nobody else reads it.

What can be told of it without a file or a model is told here; `ovamgen.attribution.targets` makes
the rows.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from ovamgen import mini

AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedBank:
    """A token bank that comes with the package."""

    file: Path
    model: str
    """The model whose text encoder its rows are of."""
    tau: float
    """The threshold that suits its maps."""


SHIPPED: Mapping[str, ShippedBank] = MappingProxyType(
    {"own": ShippedBank(file=mini.TOKENS, model=mini.NAME, tau=mini.TOKENS_TAU)}
)
"""By the name that configurations have, so that no path of a machine stands in them."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where the rows that stand for the classes come from."""

    name: str
    """As ``attribution.tokens`` has it: ``words``, ``untrained``, a shipped bank or a file."""

    @classmethod
    def choose(cls, asked: str, model: str) -> TokenSource:
        """The source that is asked for, with a choice for the model in place of ``auto``.

        Args:
            asked: a value of ``attribution.tokens``.
            model: the model's name.

        Raises:
            ValueError: a shipped bank of another model.
        """
        if asked == AUTO:
            without = "untrained" if model.startswith("random:") else "words"
            return cls(next((n for n, bank in SHIPPED.items() if bank.model == model), without))
        shipped = SHIPPED.get(asked)
        if shipped is not None and shipped.model != model:
            raise ValueError(
                f"attribution.tokens {asked} is the bank of {shipped.model}, the model is {model}: "
                "give a bank that was made for it, or 'words'"
            )
        return cls(asked)

    @property
    def kind(self) -> Literal["words", "untrained", "bank"]:
        """Class phrases as natural text, pairs of the encoder's own rows, or pairs of a bank."""
        if self.name == "words":
            return "words"
        return "untrained" if self.name == "untrained" else "bank"

    @property
    def words(self) -> bool:
        """Classes are natural text, not pairs of rows."""
        return self.kind == "words"

    @property
    def untrained(self) -> bool:
        """Pairs are the text encoder's own rows, which nobody has optimised."""
        return self.kind == "untrained"

    @property
    def file(self) -> str | None:
        """Path or URL of the bank; None where none is read."""
        return bank_file(self.name) if self.kind == "bank" else None

    @property
    def label(self) -> Literal["words", "tokens"]:
        """What publications call it, in a word."""
        return "words" if self.words else "tokens"

    @property
    def described(self) -> str:
        """The same for people: words, tokens, or untrained pairs."""
        return "untrained pairs" if self.untrained else self.label

    def tau(self, of_silent_tokens: float) -> float | None:
        """The threshold of the tokens as far as it is known before a file is read, else None.

        Args:
            of_silent_tokens: that of tokens which name none.
        """
        if self.name in SHIPPED:
            return SHIPPED[self.name].tau
        return of_silent_tokens if self.untrained else None


def bank_file(name: str) -> str:
    """Where a token bank lies: a shipped one by its name, any other as it was asked for."""
    return str(SHIPPED[name].file) if name in SHIPPED else name
