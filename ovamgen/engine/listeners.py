"""What is asked of a drawing, as sinks that listen to it and answer with named arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float32

from ovamgen.attribution.attn2mask import Attn2MaskSink
from ovamgen.attribution.daam import Daam, DaamMaps, DaamSink, PromptContext, absent_word
from ovamgen.attribution.ovam import OvamSink, TextMaps
from ovamgen.attribution.targets import bank_of_model, pair_targets
from ovamgen.attribution.token_bank import TokenBank
from ovamgen.config import METHODS
from ovamgen.diffusion.recorder import AttentionSink
from ovamgen.engine.array_files import Array
from ovamgen.engine.opened_model import PipelineAttention
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
    phrases: Mapping[str, str]
    """The words of classes in a prompt, by the names that a bank may have."""


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """One array of the file, with a label for each of its maps that is worth a picture."""

    array: str
    labels: tuple[str | None, ...]
    """One for each map, maps in the array's order; None where another map says the same."""
    maps: Float32[torch.Tensor, "K h w"]
    shape: tuple[int, ...]
    """The array's shape before (h, w)."""


@dataclass(frozen=True, slots=True, eq=False)
class Listener:
    """A sink with answers; all but the sink can be told after the drawing."""

    sink: AttentionSink
    """What a recorder feeds."""
    answers: Callable[[], list[Answer]]
    """The arrays."""
    maximum: Callable[[], int]
    """The largest value that a map could have."""
    meaning: Callable[[], str]
    """What the maps are, for people."""
    names: tuple[str, ...] = ()
    """Classes of the array ``bank``."""


def listen(method: str, attention: PipelineAttention, asked: Asked) -> list[Listener]:
    """Listeners for everything that is asked, each matrix fitting the model's text width.

    Raises:
        ConfigError: pairs or a bank of another width.
        MethodError: a text is too long, or the method has no maps of it.
    """
    width = attention.context_width
    if asked.pairs is not None and asked.pairs.shape[2] != width:
        raise ConfigError(
            f"token_pairs must have rows of width {width} for {attention.name}, got "
            f"{asked.pairs.shape[2]}"
        )
    if asked.bank is not None:
        asked = replace(asked, bank=bank_of_model(asked.bank, attention))
    if METHODS[method].in_prompt:
        return _listen_to_prompt(attention, asked)
    return [_listen_to_matrices(attention, asked, one_call=METHODS[method].one_call)]


def _listen_to_matrices(attention: PipelineAttention, asked: Asked, *, one_call: bool) -> Listener:
    """Maps of texts, pairs and a bank, which need not be in the prompt (OVAM, Attn2Mask).

    Where nothing is asked for, the prompt itself is attributed.
    """
    parts: list[tuple[str, tuple[str | None, ...], tuple[int, ...]]] = []
    matrices: list[torch.Tensor] = []
    nothing = not asked.texts and asked.pairs is None and asked.bank is None
    for index, text in enumerate((asked.prompt,) if nothing else asked.texts):
        encoded = attention.encode(text)
        labels = tuple(f"{index}: {word}" for word in encoded.words)
        parts.append((f"text_{index}", labels, (len(encoded.rows),)))
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
        parts.append((array, both, (len(pairs), 2)))
        matrices += list(torch.tensor(pairs, device=attention.loaded.pipe.device))
    maps = TextMaps(attention.layers, matrices)
    nearest = Attn2MaskSink(OvamSink(maps)) if one_call else None

    def answers() -> list[Answer]:
        found = iter(maps.result())
        return [
            Answer(array, labels, torch.cat([next(found)[0] for _ in range(count)]), shape)
            for array, labels, shape in parts
            for count in [shape[0] if len(shape) == 2 else 1]
        ]

    def meaning() -> str:
        most = f"at most {maps.sums.maximum}"
        if nearest is None or nearest.timestep is None:
            return f"raw sums of {most}"
        return (
            f"raw sums over heads and layers of UNet call {nearest.call} (timestep "
            f"{nearest.timestep:g}) alone, of {most}"
        )

    classes = asked.bank.class_names if asked.bank else ()
    return Listener(nearest or maps, answers, lambda: maps.sums.maximum, meaning, classes)


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
        labels = tuple(f"0: {word}" for word in prompt.words)
        listeners.append(_whole_prompt(attention, asked, labels))
    if asked.bank is not None:
        listeners.append(_injected(attention, asked.prompt, asked.bank, asked.phrases))
    return listeners


def _whole_prompt(attention: PipelineAttention, asked: Asked, labels: tuple[str, ...]) -> Listener:
    """The global heat map of DAAM: all rows of the prompt, without the padding (methods 1.2).

    It is there once for each time that it was asked for.
    """
    padded = attention.encode(asked.prompt, padded=True, cut=True).rows
    context = PromptContext(image=0, rows=padded, kept=tuple(range(len(labels))))
    sink = DaamMaps(attention.layers, [context])

    def answers() -> list[Answer]:
        (maps,) = sink.result()
        copies = range(max(1, len(asked.texts)))
        return [Answer(f"text_{index}", labels, maps, (len(maps),)) for index in copies]

    return _of_prompt(sink, answers)


def _injected(
    attention: PipelineAttention, prompt: str, bank: TokenBank, words: Mapping[str, str]
) -> Listener:
    """Maps of a bank's class rows in the place of the words that name the classes (methods 1.6).

    Raises:
        MethodError: the prompt names none of the bank's classes.
    """
    phrases = {name: words.get(name, name) for name in bank.class_names}
    sink = Daam(attention, pair_targets(bank, phrases)).open([prompt])
    named = [index for index in range(len(phrases)) if sink.problem(0, index) is None]
    if not named:
        raise MethodError(absent_word(" or ".join(phrases.values()), prompt))
    names = tuple(bank.class_names[index] for index in named)

    def answers() -> list[Answer]:
        maps = sink.class_maps()[0, named]
        return [Answer("bank", names, maps, (len(maps), 1))]

    return _of_prompt(sink, answers, names)


def _of_prompt(
    sink: DaamMaps | DaamSink, answers: Callable[[], list[Answer]], names: tuple[str, ...] = ()
) -> Listener:
    """Maps of the prompt's own tokens, which the drawing itself attends to."""

    def calls() -> int:
        return round(sink.maximum)

    def meaning() -> str:
        return f"sums over {calls()} UNet calls, means over heads and layers"

    return Listener(sink, answers, calls, meaning, names)
