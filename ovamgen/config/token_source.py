"""What ``attribution.tokens`` says: which rows stand for the classes. Nobody else reads it.

What can be told of it without a file or a model is told here; `ovamgen.attribution.targets` makes
the rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from ovamgen import mini
from ovamgen.classes.class_entry import ClassEntry
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import built_in
from ovamgen.classes.phrases import words_of
from ovamgen.config.masks import TOKEN_TAU

AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class ShippedBank:
    """A token bank that comes with the package, of VOC's classes."""

    file: Path
    told: str
    """What its rows are, for people."""
    tau: float
    """The threshold that suits its maps."""
    model: str | None = None
    """The model whose text encoder its rows are of; None: any with CLIP ViT-L/14."""

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes that it has pairs of."""
        return tuple(entry.name for entry in built_in("voc").classes)


SHIPPED: Mapping[str, ShippedBank] = MappingProxyType(
    {
        "own": ShippedBank(
            file=mini.TOKENS,
            told=f"{mini.NAME}'s own",
            tau=mini.TOKENS_TAU,
            model=mini.NAME,
        ),
        "voc-sd15": ShippedBank(
            file=Path(__file__).parents[1] / "data" / "voc-sd15.safetensors",
            told="the published ones, which OVAM's authors optimised for Stable Diffusion 1.5",
            tau=TOKEN_TAU,
        ),
    }
)
"""By the name that configurations have, so that no path of a machine stands in them."""

Missing = Literal["refuse", "words"]
"""What becomes of classes that a bank lacks: the bank is refused, or their words stand for them."""


@dataclass(frozen=True, slots=True)
class TokenSource:
    """Where the rows that stand for the classes come from."""

    name: str
    """As ``attribution.tokens`` has it: ``words``, ``untrained``, a shipped bank or a file, or
    ``auto`` where only the model's files can tell."""

    @classmethod
    def choose(cls, asked: str, model: str, classes: ClassSet, missing: Missing) -> TokenSource:
        """The source that is asked for, with a choice in place of ``auto`` where it can be made.

        Args:
            asked: a value of ``attribution.tokens``.
            model: the model's name.
            classes: that are to be attributed.
            missing: what becomes of classes that a bank lacks.

        Raises:
            ValueError: a shipped bank of another model.
        """
        if asked == AUTO:
            if model.startswith("random:"):
                return cls("untrained")
            if model == mini.NAME:
                return cls._of_bank("own", classes, missing)
            return cls(AUTO)
        shipped = SHIPPED.get(asked)
        if shipped is not None and shipped.model not in (None, model):
            raise ValueError(
                f"attribution.tokens {asked} is the bank of {shipped.model}, the model is {model}: "
                "give a bank that was made for it, or 'words'"
            )
        return cls(asked)

    @classmethod
    def of_text_encoder(
        cls, classes: ClassSet, missing: Missing, *, clip_vit_l14: bool
    ) -> TokenSource:
        """The choice for ``auto`` once it is known which text encoder the model has."""
        return cls._of_bank("voc-sd15", classes, missing) if clip_vit_l14 else cls("words")

    @classmethod
    def _of_bank(cls, name: str, classes: ClassSet, missing: Missing) -> TokenSource:
        lacking = lacks(SHIPPED[name].class_names, classes.classes)
        some = len(lacking) < len(classes) and missing == "words"
        return cls(name if some or not lacking else "words")

    @property
    def kind(self) -> Literal["words", "untrained", "bank", "auto"]:
        """Class phrases as natural text, pairs of the encoder's own rows, or pairs of a bank.

        ``auto`` where it is not chosen yet.
        """
        match self.name:
            case "words" | "untrained" | "auto" as kind:
                return kind
        return "bank"

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


def pairs_of(entry: ClassEntry, names: Iterable[str]) -> tuple[str, ...] | None:
    """The pairs of a bank that stand for a class: its own, else those of all its phrases.

    Spaces, hyphens, underscores and case do not count: ``dining table`` is ``diningtable``.

    Args:
        entry: the class.
        names: of the bank's pairs.

    Returns:
        Names of pairs; None where the bank lacks the class.
    """
    known = {_plain(name): name for name in names}
    for name in (entry.name, entry.phrase, *entry.coco):
        if (found := known.get(_plain(name))) is not None:
            return (found,)
    parts = [known.get(_plain(phrase)) for phrase in entry.phrases]
    if not parts or None in parts:
        return None
    return tuple(part for part in parts if part is not None)


def lacks(names: Iterable[str], classes: Iterable[ClassEntry]) -> tuple[str, ...]:
    """The names of the classes that a bank with pairs of these names lacks."""
    names = tuple(names)
    return tuple(entry.name for entry in classes if pairs_of(entry, names) is None)


def _plain(name: str) -> str:
    return "".join(words_of(name))


def bank_file(name: str) -> str:
    """Where a token bank lies: a shipped one by its name, any other as it was asked for."""
    return str(SHIPPED[name].file) if name in SHIPPED else name
