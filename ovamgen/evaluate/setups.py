"""What is scored: an attribution method with words or tokens, and how masks are made of its maps.

A setup is a resolved configuration and the rows that stand for the classes. It does not know
pictures' pixels, nor how they are drawn.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ovamgen.attribution.interface import AttributedModel, ClassTarget
from ovamgen.attribution.targets import AttributedClasses, ClassRows, prompt_target
from ovamgen.attribution.token_bank import check_covers
from ovamgen.attribution.trained_head import HeadUse, open_head
from ovamgen.classes.class_entry import ClassEntry
from ovamgen.classes.loading import as_saved
from ovamgen.config import (
    FROM_FILE,
    METHODS,
    MODEL_IDENTITY,
    RECORDED_SELF_ATTENTION,
    ModelConfig,
    RunConfig,
    SynthesisConfig,
    canonical_json,
    check_method,
    merge,
    read_preset,
)
from ovamgen.engine.token_choice import open_tokens
from ovamgen.errors import ConfigError, MethodError
from ovamgen.pictures.picture_set import Picture, PictureSet

TEXT = "{class}"
"""The attribution text of words: the class's phrase alone, as a run has it."""
Sections = dict[str, dict[str, Any]]
"""Keys of a configuration by section."""
_NOT_OF_MAPS = ("preset", "tau", "beta", "crf", "ignore_low", "ignore_high")
"""Fields of the section ``masks`` that come after the maps."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Setup:
    """A method with words or with tokens, and the settings of its masks."""

    name: str
    """Short and fit for a file name: ``ovam-voc-sim-words``."""
    config: RunConfig
    rows: ClassRows
    """What stands for the classes."""
    head: HeadUse | None = None
    """The network that makes the maps, where the method has one."""
    text: str = TEXT
    """What is attributed for words: ``{class}`` becomes the class's phrase, ``{prompt}`` the
    picture's prompt (methods 2.4). A head is asked for the phrase, whatever it says."""

    @property
    def method(self) -> str:
        """A key of `ovamgen.config.METHODS`."""
        return self.config.attribution.method

    @property
    def preset(self) -> str:
        """The mask preset, fit for a file name also where it came from a file."""
        return self.config.masks.preset.removesuffix(FROM_FILE)

    @property
    def words(self) -> bool:
        """Classes are natural text, not optimised tokens."""
        return self.rows.source.words

    @property
    def tokens(self) -> str:
        """What stands for the classes, in a word: words, tokens, or untrained pairs."""
        return self.rows.source.described

    @property
    def tau(self) -> float:
        """The threshold that the preset sets."""
        assert self.config.masks.tau is not None
        return self.config.masks.tau

    @property
    def recorded(self) -> tuple[str, ...]:
        """What decides which sink hears a drawing: setups that agree in it share one."""
        method = METHODS[self.method].made_by
        masks = self.config.masks.model_dump(mode="json")
        attended = masks["self_attention"] in RECORDED_SELF_ATTENTION
        self_attention = [
            f"{name}={value}"
            for name, value in sorted(masks.items())
            if attended and name.startswith("self_attention")
        ]
        text = self.text if self.words else ""
        rows = self.rows.digest or self.tokens
        asked = [] if self.head is None else [canonical_json(self._head_identity(self.head))]
        if found := self._chosen():
            asked.append(canonical_json(found))
        return (method, rows, text, self.config.attribution.branch, *self_attention, *asked)

    def identity(self) -> dict[str, Any]:
        """What the maps depend on beside the model and the drawing, as plain values."""
        masks = self.config.masks.model_dump(mode="json")
        found = {
            "method": self.method,
            "branch": self.config.attribution.branch,
            "tokens": self.rows.digest or self.rows.source.name,
            "text": self.text if self.words else "",
            "masks": {name: value for name, value in masks.items() if name not in _NOT_OF_MAPS},
        }
        found |= self._chosen()
        return found if self.head is None else found | {"head": self._head_identity(self.head)}

    def _chosen(self) -> dict[str, Any]:
        """What of the drawing is read, where it is not all."""
        written = self.config.attribution.model_dump(mode="json")
        return {name: written[name] for name in ("resolutions", "calls") if name in written}

    def _head_identity(self, use: HeadUse) -> dict[str, str]:
        conditioning = "" if self.words else use.conditioning
        return {"sha256": use.head.sha256, "mode": use.mode, "conditioning": conditioning}

    def targets(
        self, picture: Picture, model: AttributedModel
    ) -> tuple[AttributedClasses, Mapping[int, str]]:
        """The picture's classes as attribution rows, and why some have none, by their place.

        Raises:
            ConfigError: the bank lacks a class.
        """
        entries = [target.entry for target in picture.targets]
        if not self.words:
            return self.rows.targets(entries, model), {}
        found: list[tuple[ClassTarget, ...]] = []
        problems = {}
        for place, entry in enumerate(entries):
            try:
                found.append(tuple(self._words(entry, picture, model)))
            except MethodError as error:
                problems[place] = str(error)
        targets = tuple(target for part in found for target in part)
        return AttributedClasses(targets=targets, sizes=tuple(map(len, found))), problems

    def _words(
        self, entry: ClassEntry, picture: Picture, model: AttributedModel
    ) -> Iterator[ClassTarget]:
        for phrase in entry.attributed:
            template = TEXT if self.head is not None else self.text
            text = template.replace("{class}", phrase).replace("{prompt}", picture.prompt)
            yield prompt_target(entry.name, phrase, text, model.encode)


def make_setup(config: RunConfig, *, name: str = "", text: str = TEXT) -> Setup:
    """The setup of a resolved configuration; the bank is read, the model's files are looked at.

    Args:
        config: model, attribution, masks and synthesis count.
        name: of the setup; of method, preset and words or tokens where not given.
        text: what is attributed for words.

    Raises:
        ConfigError: no such model, bank or head, or they do not fit; a text without a place for
            words.
        MethodError: no such method.
    """
    check_method(config.attribution.method)
    if "{class}" not in text and "{prompt}" not in text:
        raise ConfigError(f"--text must hold '{{class}}' or '{{prompt}}', got '{text[:60]}'")
    config, bank = open_tokens(config, of_all=False)
    rows = ClassRows(config.attribution.token_source, bank)
    head = open_head(config)
    if not name:
        method, preset = config.attribution.method, config.masks.preset.removesuffix(FROM_FILE)
        name = preset if preset.startswith(method) else f"{method}-{preset}"
        name = f"{name}-{rows.source.label}"
    return Setup(name=name, config=config, rows=rows, head=head, text=text)


def tokens_of(preset: str) -> str:
    """What is scored by a preset where no tokens are asked for: its own, or words.

    Raises:
        ConfigError: no such preset or file.
    """
    return str(read_preset(preset).get("attribution", {}).get("tokens", "words"))


def configure(
    pictures: PictureSet, asked: Sections, build: Callable[[Sections], RunConfig]
) -> RunConfig:
    """The configuration to score with; samples bring the model and settings that drew them.

    Args:
        pictures: what is scored.
        asked: what was asked for by section, None where nothing was; it is laid over the samples'.
        build: resolves such sections.

    Raises:
        ConfigError: other settings are asked for than the samples were drawn with, or other
            classes.
    """
    own = sample_sections(pictures)
    given = {
        section: {name: value for name, value in values.items() if value is not None}
        for section, values in asked.items()
    }
    config = build(merge(own, given))
    if config.classes != pictures.classes:
        raise ConfigError(
            f"the pictures of {pictures.name} are of the classes {pictures.classes.identity}, and "
            f"the configuration is of {config.classes.identity}: name the latter with --classes, "
            "or leave classes out of the configuration"
        )
    check_drawn_by(pictures, config)
    return config


def check_classes(setups: Sequence[Setup], pictures: Sequence[Picture]) -> None:
    """Checks that every bank, and every head that must, has all classes that the pictures show.

    Raises:
        ConfigError: a bank or a head lacks one.
    """
    shown = {target.entry.id: target.entry for picture in pictures for target in picture.targets}
    entries = [shown[class_id] for class_id in sorted(shown)]
    for setup in setups:
        if setup.rows.bank is not None:
            check_covers(setup.rows.bank, entries, setup.config.attribution.missing)
        if setup.head is not None:
            setup.head.check_classes([entry.name for entry in entries])


def sample_sections(pictures: PictureSet) -> Sections:
    """The sections ``model`` and ``synthesis`` of the drawing that was annotated.

    Without device and precision, which are the machine's; empty for real pictures.
    """
    model = pictures.settings.get("model", {})
    named = {name: model[name] for name in MODEL_IDENTITY if model.get(name)}
    synthesis = pictures.settings.get("synthesis", {})
    return {
        "model": named,
        "synthesis": {name: value for name, value in synthesis.items() if value is not None},
        **as_saved(pictures.classes),
    }


def check_drawn_by(pictures: PictureSet, config: RunConfig) -> None:
    """Checks that generated samples were drawn by the configuration's model and settings.

    Raises:
        ConfigError: they were not; what differs is named.
    """
    if pictures.kind != "samples":
        return
    asked = config.model_dump(mode="json", include={"model", "synthesis"})
    changed = []
    for section, kind in (("model", ModelConfig), ("synthesis", SynthesisConfig)):
        # fields that are written only where they are in use
        now = dict.fromkeys(kind.came_later & asked[section].keys())
        changed += [
            f"{section}.{name}: {value} -> {asked[section].get(name)}"
            for name, value in (now | pictures.settings.get(section, {})).items()
            if name not in ("device", "dtype", "safety") and asked[section].get(name) != value
        ]
    if changed:
        raise ConfigError(
            f"the samples of {pictures.name} were drawn with other settings than are asked for "
            f"({'; '.join(changed)}): masks are scored on the drawing that was annotated, leave "
            "those options away"
        )
