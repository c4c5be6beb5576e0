"""What is asked of a drawing, as sinks that listen to it and answer with named arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float32

from ovamgen.attribution.attn2mask import Attn2MaskSink
from ovamgen.attribution.daam import Daam, DaamMaps, DaamSink, PromptContext, absent_word
from ovamgen.attribution.ovam import OvamSink, TextMaps
from ovamgen.attribution.targets import pair_targets
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.config import METHODS
from ovamgen.diffusion.recorder import AttentionSink
from ovamgen.engine.array_files import Array
from ovamgen.engine.engine import PHRASES, PipelineAttention
from ovamgen.errors import ConfigError, MethodError


@dataclass(frozen=True, slots=True, eq=False)
class Asked:
    """All that is to be attributed."""

    prompt: str
    texts: tuple[str, ...]
    pairs: Array | None
    pairs_named: bool
    """The pairs were asked for by name, and did not just lie beside the latents."""
    bank: TokenBank | None


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One array of the file, with a label for each of its maps that is worth a picture."""

    array: str
    labels: tuple[str | None, ...]
    """One for each map, maps in the array's order; None where another map says the same."""
    maps: Float32[torch.Tensor, "K h w"]
    shape: tuple[int, ...]
    """The array's shape before (h, w)."""


@runtime_checkable
class Listener(Protocol):
    """A sink with answers."""

    @property
    def sink(self) -> AttentionSink:
        """What a recorder feeds."""

    @property
    def maximum(self) -> int:
        """The largest value that a map could have."""

    @property
    def meaning(self) -> str:
        """What the maps are, for people."""

    def answers(self) -> list[Answer]:
        """The arrays, after the drawing."""


def listen(method: str, attention: PipelineAttention, asked: Asked) -> list[Listener]:
    """Listeners for everything that is asked, each matrix fitting the model's text width.

    Raises:
        ConfigError: pairs or a bank of another width.
        MethodError: a text is too long, or the method has no maps of it.
    """
    info = attention.loaded.info
    if asked.pairs is not None and asked.pairs.shape[2] != info.context_width:
        raise ConfigError(
            f"token_pairs must have rows of width {info.context_width} for {info.model}, got "
            f"{asked.pairs.shape[2]}"
        )
    if asked.bank is not None:
        asked.bank.check_width(info.context_width, info.model)
    if METHODS[method].in_prompt:
        return _listen_to_prompt(attention, asked)
    return [MatrixListener(attention, asked, one_call=METHODS[method].one_call)]


class MatrixListener:
    """Maps of texts, pairs and a bank, which need not be in the prompt (OVAM, Attn2Mask).

    Args:
        attention: the model.
        asked: where nothing is, the prompt itself is attributed.
        one_call: maps of the one UNet call of Attn2Mask, rather than sums over all.
    """

    def __init__(self, attention: PipelineAttention, asked: Asked, *, one_call: bool) -> None:
        self._parts: list[tuple[str, tuple[str | None, ...], tuple[int, ...]]] = []
        matrices: list[torch.Tensor] = []
        nothing = not asked.texts and asked.pairs is None and asked.bank is None
        for index, text in enumerate((asked.prompt,) if nothing else asked.texts):
            encoded = attention.encode(text)
            labels = tuple(f"{index}: {word}" for word in encoded.words)
            self._parts.append((f"text_{index}", labels, (len(encoded.rows),)))
            matrices.append(encoded.rows)
        banks: list[tuple[str, Sequence[str], Array]] = []
        if asked.pairs is not None:
            numbered = [f"pair {index}" for index in range(len(asked.pairs))]
            banks.append(("token_pairs", numbered, asked.pairs))
        if asked.bank is not None:
            banks.append(("bank", asked.bank.class_names, asked.bank.pairs))
        for array, names, pairs in banks:
            # the background's map is what the class's leaves over
            both = tuple(label for name in names for label in (None, name))
            self._parts.append((array, both, (len(pairs), 2)))
            matrices += list(torch.tensor(pairs, device=attention.loaded.pipe.device))
        self._maps = TextMaps(attention.layers, matrices)
        self._nearest = Attn2MaskSink(OvamSink(self._maps)) if one_call else None

    @property
    def sink(self) -> AttentionSink:
        """What a recorder feeds."""
        return self._nearest or self._maps

    @property
    def maximum(self) -> int:
        """Calls · heads, summed over the layers."""
        return self._maps.sums.maximum

    @property
    def meaning(self) -> str:
        """What the maps are, for people."""
        if self._nearest is None or self._nearest.timestep is None:
            return f"raw sums of at most {self.maximum}"
        return (
            f"raw sums over heads and layers of UNet call {self._nearest.call} (timestep "
            f"{self._nearest.timestep:g}) alone, of at most {self.maximum}"
        )

    def answers(self) -> list[Answer]:
        """The arrays, after the drawing."""
        maps = iter(self._maps.result())
        answers = []
        for array, labels, shape in self._parts:
            count = shape[0] if len(shape) == 2 else 1
            found = torch.cat([next(maps)[0] for _ in range(count)])
            answers.append(Answer(array, labels, found, shape))
        return answers


def _listen_to_prompt(attention: PipelineAttention, asked: Asked) -> list[Listener]:
    prompt = attention.encode(asked.prompt, cut=True)
    for text in asked.texts:
        if attention.encode(text, cut=True).token_ids != prompt.token_ids:
            raise MethodError(
                f"daam has maps of the generation prompt only: --text must be the prompt itself "
                f"({asked.prompt!r}), got {text!r}; for other texts use the method ovam"
            )
    if asked.pairs is not None and asked.pairs_named:
        raise MethodError(
            "daam puts an optimised token in the place of a word of the prompt, and token pairs "
            "have no names: give a bank (--tokens) with the class that the prompt names"
        )
    listeners: list[Listener] = []
    if asked.texts or asked.bank is None:
        padded = attention.encode(asked.prompt, padded=True, cut=True)
        labels = tuple(f"0: {word}" for word in prompt.words)
        listeners.append(PromptListener(attention, padded.rows, labels, max(1, len(asked.texts))))
    if asked.bank is not None:
        listeners.append(InjectedListener(attention, asked.prompt, asked.bank))
    return listeners


class _PromptMaps:
    """What is said of maps of the prompt's own tokens, which the drawing itself attends to."""

    sink: DaamMaps | DaamSink

    @property
    def maximum(self) -> int:
        """UNet calls."""
        return round(self.sink.maximum)

    @property
    def meaning(self) -> str:
        """What the maps are, for people."""
        return f"sums over {self.maximum} UNet calls, means over heads and layers"


class PromptListener(_PromptMaps):
    """The global heat map of DAAM: all rows of the prompt, without the padding (methods 1.2)."""

    def __init__(
        self,
        attention: PipelineAttention,
        padded: Float32[torch.Tensor, "L ctx"],
        labels: tuple[str, ...],
        copies: int,
    ) -> None:
        kept = tuple(range(len(labels)))
        context = PromptContext(image=0, rows=padded, kept=kept)
        self.sink: DaamMaps = DaamMaps(attention.layers, [context])
        self._labels = labels
        self._copies = copies

    def answers(self) -> list[Answer]:
        """The heat map, once for each time that it was asked for."""
        (maps,) = self.sink.result()
        shape = (len(maps),)
        return [Answer(f"text_{index}", self._labels, maps, shape) for index in range(self._copies)]


class InjectedListener(_PromptMaps):
    """Maps of a bank's class rows in the place of the words that name the classes (methods 1.6).

    Raises:
        MethodError: the prompt names none of the bank's classes.
    """

    def __init__(self, attention: PipelineAttention, prompt: str, bank: TokenBank) -> None:
        phrases = {name: PHRASES.get(name, name) for name in bank.class_names}
        sink = Daam(attention, pair_targets(bank, phrases)).open([prompt])
        named = [index for index in range(len(phrases)) if sink.problem(0, index) is None]
        if not named:
            raise MethodError(absent_word(" or ".join(phrases.values()), prompt))
        self.sink: DaamSink = sink
        self.names = tuple(bank.class_names[index] for index in named)
        self._named = named

    def answers(self) -> list[Answer]:
        """One map for each class that the prompt names."""
        maps = self.sink.class_maps()[0, self._named]
        return [Answer("bank", self.names, maps, (len(maps), 1))]
