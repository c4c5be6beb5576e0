"""Classes as attribution rows: from a token bank, their phrases, or the encoder's own rows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ovamgen.attribution.interface import AttributedModel, ClassTarget, EncodedText, HeatmapSink
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.classes.class_entry import ClassEntry
from ovamgen.config import TokenSource, pairs_of
from ovamgen.errors import MethodError


@dataclass(frozen=True, slots=True, eq=False)
class AttributedClasses:
    """Classes as attribution rows: one target for most, several for one that several phrases show.

    A method makes a map of every target; a class's map is the largest of its targets'.
    """

    targets: tuple[ClassTarget, ...]
    """Those of the first class, then those of the second, and so on."""
    sizes: tuple[int, ...]
    """How many of them each class has."""

    def largest(self, values: Tensor) -> Tensor:
        """What stands for each class: the largest of its targets' values, place by place.

        Args:
            values: (images, targets, ...), normalised.

        Returns:
            (images, classes, ...).
        """
        if set(self.sizes) <= {1}:
            return values
        parts = torch.split(values, list(self.sizes), dim=1)
        return torch.stack([part.amax(1) for part in parts], dim=1)

    def problem(self, sink: HeatmapSink, image: int, place: int) -> str | None:
        """Why there is no map of a class in an image, or None: one of its targets is enough."""
        start = sum(self.sizes[:place])
        found = [sink.problem(image, start + step) for step in range(self.sizes[place])]
        return None if None in found else found[0]

    def only(self, places: Sequence[int]) -> AttributedClasses:
        """Some of the classes, in the order that is asked for."""
        starts = [sum(self.sizes[:place]) for place in range(len(self.sizes))]
        parts = [self.targets[starts[p] : starts[p] + self.sizes[p]] for p in places]
        return AttributedClasses(
            targets=tuple(target for part in parts for target in part),
            sizes=tuple(map(len, parts)),
        )


@dataclass(frozen=True, slots=True, eq=False)
class ClassRows:
    """A token source with what was read of it: gives the rows of any classes."""

    source: TokenSource
    bank: TokenBank | None = None
    """The bank, where the source is one (`ovamgen.attribution.token_bank.open_bank`)."""

    @property
    def digest(self) -> str:
        """Digest (hex) of the bank, "" where none was read."""
        return self.bank.sha256 if self.bank else ""

    def targets(self, classes: Sequence[ClassEntry], model: AttributedModel) -> AttributedClasses:
        """The classes as attribution rows of the model's width, each found by itself.

        Args:
            classes: each with the phrases that name it in a prompt; those that a bank lacks are
                attributed by them (`ovamgen.attribution.token_bank.open_bank` has agreed to it).
            model: whose attention is read.

        Raises:
            ConfigError: the bank was made for another text encoder.
            MethodError: a phrase has no words.
        """
        bank = self.bank
        if bank is not None:
            bank = bank_of_model(bank, model)
        found = [self._of_class(entry, model, bank) for entry in classes]
        return AttributedClasses(
            targets=tuple(target for part in found for target in part),
            sizes=tuple(map(len, found)),
        )

    def _of_class(
        self, entry: ClassEntry, model: AttributedModel, bank: TokenBank | None
    ) -> tuple[ClassTarget, ...]:
        pairs = None if bank is None else pairs_of(entry, bank.class_names)
        if bank is not None and pairs is not None:
            # a pair of one of its phrases stands where that phrase does in a prompt
            named = (entry.phrase,) if len(pairs) == 1 else entry.phrases
            return pair_targets(bank, dict(zip(pairs, named, strict=True)))
        phrases = {phrase: phrase for phrase in entry.attributed}
        if self.source.untrained:
            return untrained_targets(phrases, model.encode)
        return phrase_targets(phrases, model.encode)


def bank_of_model(bank: TokenBank, model: AttributedModel) -> TokenBank:
    """The bank with the background rows that it leaves to the model, where it does.

    Raises:
        ConfigError: it was made for another text encoder.
    """
    bank.check_width(model.context_width, model.name)
    if not bank.rows_alone:
        return bank
    return bank.paired_with(model.encode("").rows[0].float().cpu().numpy())


def pair_targets(bank: TokenBank, phrases: Mapping[str, str]) -> tuple[ClassTarget, ...]:
    """Some of the bank's pairs, on the CPU; the class row is channel 1 (methods 2.4).

    Args:
        bank: of one text encoder.
        phrases: the words that name what each pair stands for in a prompt, by the pair's name.

    Raises:
        ConfigError: the bank lacks one of them.
    """
    pairs = torch.from_numpy(bank.select(list(phrases)))
    return tuple(
        ClassTarget(name=name, rows=pair, channel=1, phrase=phrase)
        for (name, phrase), pair in zip(phrases.items(), pairs, strict=True)
    )


def phrase_targets(
    phrases: Mapping[str, str], encode: Callable[[str], EncodedText]
) -> tuple[ClassTarget, ...]:
    """Each class as its phrase alone; the last sub-token's map is the class's (methods 2.4).

    Args:
        phrases: what the encoder reads for each class: ``dining table``.
        encode: the model's text encoder, without padding.

    Raises:
        MethodError: a phrase has no words.
    """
    texts = {name: encode(phrase) for name, phrase in phrases.items()}
    return tuple(
        ClassTarget(name=name, rows=text.rows, channel=text.last_subtoken(), phrase=phrases[name])
        for name, text in texts.items()
    )


def untrained_targets(
    phrases: Mapping[str, str], encode: Callable[[str], EncodedText]
) -> tuple[ClassTarget, ...]:
    """Pairs of the text encoder's own rows: `<SoT>` and the last sub-token of each class phrase.

    What an optimiser starts from (methods 2.5), and all that a model without a bank can offer.

    Args:
        phrases: what the encoder reads for each class.
        encode: the model's text encoder, without padding.

    Raises:
        MethodError: a phrase has no words.
    """
    return tuple(
        ClassTarget(
            name=target.name,
            rows=target.rows[[0, target.channel]].cpu(),
            channel=1,
            phrase=target.phrase,
        )
        for target in phrase_targets(phrases, encode)
    )


def prompt_target(
    name: str, phrase: str, prompt: str, encode: Callable[[str], EncodedText]
) -> ClassTarget:
    """A class as its words in a prompt: all rows of the prompt compete (methods 2.4, VOC-sim).

    The map is that of the last sub-token of the phrase's first occurrence.

    Args:
        name: the class.
        phrase: the words that name it: ``dining table``.
        prompt: the text that names it.
        encode: the model's text encoder, without padding.

    Raises:
        MethodError: the phrase has no words, or the prompt does not name it.
    """
    text = encode(prompt)
    wanted = phrase_ids(encode(phrase))
    starts = occurrences(text.token_ids, wanted)
    if not starts:
        raise MethodError(
            f"the phrase {phrase!r} is not in the prompt {prompt!r}: name it there, or attribute "
            "the phrase alone"
        )
    return ClassTarget(
        name=name, rows=text.rows, channel=starts[0] + len(wanted) - 1, phrase=phrase
    )


def phrase_ids(text: EncodedText) -> tuple[int, ...]:
    """The sub-tokens of a phrase that was encoded alone, without `<SoT>` and `<EoT>`.

    Raises:
        MethodError: it has no words.
    """
    return tuple(text.token_ids[1 : text.last_subtoken() + 1])


def occurrences(token_ids: Sequence[int], wanted: Sequence[int]) -> tuple[int, ...]:
    """Every row at which these sub-tokens begin, in order."""
    length, wanted = len(wanted), tuple(wanted)
    starts = range(len(token_ids) - length + 1)
    return tuple(row for row in starts if tuple(token_ids[row : row + length]) == wanted)
