"""What a search for recipes found, as Markdown, JSON, lines for a terminal, and preset files."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from ovamgen import __version__
from ovamgen.config import default_branch
from ovamgen.evaluate.comparison import Parts
from ovamgen.evaluate.masks import data_set_name, describe_pictures, drawing_note
from ovamgen.evaluate.recipe.grid import HIGHEST, OVAM, Recipe
from ovamgen.evaluate.recipe.search import CRF_STEPS, FINALISTS, Found, Reported, Trial
from ovamgen.evaluate.scoring import plain_values
from ovamgen.evaluate.tables import (
    absent_note,
    left_out_note,
    markdown_table,
    percent,
    signed,
)
from ovamgen.masks.iou import TAUS
from ovamgen.pictures.picture_set import PictureSet

SHOWN = 10
"""Recipes of the table of the best ones."""
FEW = 30
"""Pictures below which a bootstrap interval is too narrow to go by."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Searched:
    """A search as a whole."""

    parts: Parts
    grid: tuple[Recipe, ...]
    found: tuple[Found, ...]
    """With words, and with tokens where the model has any."""
    strength: float
    highest: int
    """Timestep below which recipes were tried."""
    draws: int
    seed: int
    command: str
    """What was typed, or ""."""
    remarks: tuple[str, ...]

    @property
    def pictures(self) -> PictureSet:
        """The pictures that are reported on; the tuning part may be among them."""
        return self.parts.report

    @property
    def drawing(self) -> str:
        """How the pictures were drawn again, in a sentence."""
        if self.pictures.kind == "voc":
            return (
                f"Pictures were noised to strength {self.strength:g} and denoised with their "
                "captions; masks are scored against the exact ones."
            )
        return (
            "Pictures were drawn again from their prompts and seeds; masks are scored against "
            "people's annotations."
        )


def verdict(found: Found) -> str:
    """The sentence that says whether a recipe beats ``ovam``."""
    who, chosen = f"With {found.setup.tokens}", found.chosen
    ovam = f"ovam at its tuned threshold ({_settings(found.ovam.trial)})"
    pictures = f"{chosen.table.pictures} pictures that it was not chosen on"
    numbers = (
        f"mIoU {percent(chosen.table.miou)} against {percent(found.ovam.table.miou)} on "
        f"{pictures}, {signed(found.gain)}"
    )
    best = f"{chosen.trial.recipe} ({_settings(chosen.trial)})"
    match found.verdict:
        case "beats":
            return f"{who}, a recipe beats {ovam}: {best}, {numbers}."
        case "level":
            return (
                f"{who}, no recipe is shown to beat {ovam}: the best one where they were chosen, "
                f"{best}, has {numbers}, an interval that holds 0."
            )
        case "worse":
            return (
                f"{who}, no recipe beats {ovam}: the best one where they were chosen, {best}, is "
                f"worse, {numbers}."
            )
    return (
        f"{who}, no recipe beats {ovam}: none of the grid is better where they were chosen; it has "
        f"mIoU {percent(found.ovam.table.miou)} on {pictures}."
    )


def summary_lines(searched: Searched) -> list[str]:
    """The sentences, for a terminal."""
    few = [f"NOTE: {_few_note(searched)}"] if _few_note(searched) else []
    return [*(verdict(found) for found in searched.found), *few]


def preset_text(searched: Searched, found: Found) -> str:
    """The chosen recipe as a file for ``--preset``; its comments say where it comes from."""
    config, trial = found.chosen.judged.setup.config, found.chosen.trial
    masks: dict[str, Any] = {
        "word_tau" if found.setup.words else "token_tau": trial.tau,
        "normalisation": config.masks.normalisation,
        "normalised_at": config.masks.normalised_at,
        "interpolation": config.masks.interpolation,
        **trial.recipe.refinement.masks,
    }
    if masks["self_attention"] in ("affinity", "iterated"):
        masks["self_attention_positions"] = config.masks.self_attention_positions
    masks["crf"] = {"enabled": trial.crf}
    attribution: dict[str, Any] = {"method": "ovam"}
    if config.attribution.branch != default_branch("ovam"):
        attribution["branch"] = config.attribution.branch
    if found.setup.words:
        attribution["tokens"] = "words"
    if trial.recipe.resolutions:
        attribution["resolutions"] = list(trial.recipe.resolutions)
    if trial.recipe.calls is not None:
        attribution["calls"] = list(trial.recipe.calls)
    source = (
        f"ovamgen {__version__}, evaluate recipe, {config.model.id} on "
        f"{data_set_name(searched.pictures)}"
    )
    comments = [
        verdict(found),
        f"Chosen among {len(searched.grid)} recipes on {searched.parts.told}.",
        *searched.remarks,
        *([f"Note: {_few_note(searched)}."] if _few_note(searched) else []),
        *([f"Made by: {searched.command}"] if searched.command else []),
    ]
    sections = {"source": source, "attribution": attribution, "masks": masks}
    body = yaml.safe_dump(sections, sort_keys=False, allow_unicode=True, width=1000)
    return "".join(f"# {line}\n" for line in comments) + body


def to_markdown(searched: Searched) -> str:
    """The search as a page."""
    first = searched.found[0]
    parts = [
        f"# Recipes on {data_set_name(searched.pictures)}",
        *searched.remarks,
        *(verdict(found) for found in searched.found),
        f"Model `{first.setup.config.model.id}`. {searched.drawing} Recipes were chosen on "
        f"{searched.parts.told}. IoU × 100; in brackets 95 % bootstrap intervals over pictures "
        f"({searched.draws} draws), those of differences with both sides drawn together.",
    ]
    if searched.command:
        parts.append(f"```text\n{searched.command}\n```")
    for found in searched.found:
        parts += _kind(found)
    parts += ["## The grid", grid_text(searched.grid)]
    parts += notes(searched)
    return "\n\n".join(parts) + "\n"


def to_json(searched: Searched) -> dict[str, Any]:
    """The search as plain values."""
    return {
        "ovamgen_version": __version__,
        "dataset": describe_pictures(searched.pictures),
        "model": searched.found[0].setup.config.model.id,
        "strength": searched.strength if searched.pictures.kind == "voc" else None,
        "tuned_on": searched.parts.told,
        "tuning_pictures": len(searched.parts.tune_keys),
        "reported_pictures": len(searched.parts.report_keys),
        "bootstrap": {"draws": searched.draws, "seed": searched.seed, "confidence": 0.95},
        "command": searched.command,
        "remarks": list(searched.remarks),
        "notes": notes(searched),
        "recipes": len(searched.grid),
        "found": [
            {
                "tokens": found.setup.tokens,
                "verdict": found.verdict,
                "sentence": verdict(found),
                "gain": plain_values(found.gain),
                "ovam": _reported_data(found.ovam),
                "chosen": _reported_data(found.chosen),
                "with_crf": [_trial_data(trial) for trial in found.finals],
                "without_crf": [_trial_data(trial) for trial in found.trials],
            }
            for found in searched.found
        ],
    }


def grid_text(grid: Sequence[Recipe]) -> str:
    """The grid in words."""
    layers = dict.fromkeys(recipe.layers_text for recipe in grid)
    calls = dict.fromkeys(recipe.calls_text for recipe in grid)
    refinements = dict.fromkeys(recipe.refinement.name for recipe in grid)
    return (
        f"{len(grid)} recipes: layers of {', '.join(layers)} cells on their shorter side; UNet "
        f"calls at timesteps {', '.join(calls)} (0 is the image); self-attention "
        f"{'; '.join(refinements)} (affinity and iteration are min-max normalised). Each was "
        f"scored at {len(TAUS)} thresholds from {TAUS[0]:g} to {TAUS[-1]:g} without dense CRF; "
        f"the {FINALISTS} best and ovam with it as well, at up to {CRF_STEPS} thresholds on either "
        "side of their best."
    )


def notes(searched: Searched) -> list[str]:
    """What a reader of the tables should know."""
    texts = list(searched.pictures.notes)
    if few := _few_note(searched):
        texts.append(f"{few[0].upper()}{few[1:]}.")
    texts.append(absent_note(searched.found[0].chosen.table))
    texts += [left_out_note(found.chosen.judged) for found in searched.found]
    if searched.pictures.kind == "voc" and searched.highest < HIGHEST:
        texts.append(
            f"Timesteps above {searched.highest} were never called here: a recipe of all calls "
            "reads them where pictures are generated, and no recipe of those alone was tried."
        )
    texts.append(drawing_note(searched.found[0].chosen.judged, searched.pictures))
    return list(dict.fromkeys(text for text in texts if text))


def _few_note(searched: Searched) -> str:
    """The sentence that says that there are too few pictures for intervals, or ""."""
    count = len(searched.parts.report_keys)
    if count >= FEW:
        return ""
    return (
        f"intervals over {count} pictures are narrower than they should be: go by those of {FEW} "
        "or more"
    )


def _kind(found: Found) -> list[str]:
    """The tables of words, or of tokens."""
    head = ["", "recipe", "τ", "dense CRF", "mIoU where chosen", "mIoU", "overall", "pictures"]
    rows = [_row("ovam", found.ovam)]
    if found.chosen is not found.ovam:
        rows.append(_row("best recipe", found.chosen))
    ranked = sorted(
        (trial for trial in found.trials if math.isfinite(trial.miou)),
        key=lambda trial: -trial.miou,
    )
    single = [trial for trial in found.trials if trial.recipe.changes(OVAM) <= 1]
    return [
        f"## With {found.setup.tokens}",
        markdown_table(head, rows),
        *([] if found.verdict == "none" else [f"Difference: {signed(found.gain)}."]),
        f"With dense CRF, where recipes were chosen (the {FINALISTS} best without it, and ovam):",
        _trials(found.finals),
        "One change at a time, without dense CRF, where recipes were chosen:",
        _trials(single),
        f"The {min(SHOWN, len(ranked))} best of {len(found.trials)}, without dense CRF, where they "
        "were chosen:",
        _trials(ranked[:SHOWN]),
    ]


def _row(name: str, reported: Reported) -> list[str]:
    trial, table = reported.trial, reported.table
    return [
        name,
        str(trial.recipe),
        f"{trial.tau:g}",
        "yes" if trial.crf else "no",
        f"{100 * trial.miou:.1f}",
        percent(table.miou, interval=True),
        percent(table.overall, interval=True),
        str(table.pictures),
    ]


def _trials(trials: Sequence[Trial]) -> str:
    rows = [
        [
            trial.recipe.layers_text,
            trial.recipe.calls_text,
            trial.recipe.refinement.name,
            f"{trial.tau:g}",
            f"{100 * trial.miou:.1f}" if math.isfinite(trial.miou) else "–",
        ]
        for trial in trials
    ]
    return markdown_table(["layers", "calls", "self-attention", "τ", "mIoU"], rows)


def _settings(trial: Trial) -> str:
    return f"τ {trial.tau:g}, {'with' if trial.crf else 'without'} dense CRF"


def _trial_data(trial: Trial) -> dict[str, Any]:
    return {
        **trial.recipe.sections,
        "tau": trial.tau,
        "dense_crf": trial.crf,
        "miou_where_chosen": round(trial.miou, 6) if math.isfinite(trial.miou) else None,
    }


def _reported_data(reported: Reported) -> dict[str, Any]:
    return {**_trial_data(reported.trial), "scores": reported.table.to_json()}
