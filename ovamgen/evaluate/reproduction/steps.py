"""The supplementary of the paper, step by step: ``jobs/reproduce.py``.

Pictures, tokens, masks of all methods, figures, segmentors, one page. Every step leaves its output
in a folder of its own and is not made again while that is there; a step that was stopped goes on
where it was.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ovamgen.classes.loading import is_default
from ovamgen.config import RunConfig, build_config, canonical_json
from ovamgen.console.progress import Progress
from ovamgen.console.wording import counted
from ovamgen.errors import ConfigError, IncompleteError
from ovamgen.evaluate.compare import CompareRequest, compare_data_set
from ovamgen.evaluate.figures import draw_figures
from ovamgen.evaluate.reproduction.page import render_reproduction
from ovamgen.evaluate.reproduction.settings import (
    DrawSettings,
    PicturesSettings,
    ReproductionSettings,
    ScoringSettings,
)
from ovamgen.evaluate.setups import Sections
from ovamgen.evaluate.table_s1 import make_table
from ovamgen.evaluate.tables import write_text
from ovamgen.pictures.draw import caption_samples, class_samples, draw_samples
from ovamgen.pictures.sample_folder import SAMPLES, Sample, SampleFolder
from ovamgen.run.inputs import plan_for
from ovamgen.tokens.optimise import OptimiseRequest, optimise_tokens

_SETTINGS = "settings.json"
PAGE = "index.html"
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """Where everything of a reproduction lies."""

    root: Path

    @property
    def page(self) -> Path:
        """The page with every number beside the paper's."""
        return self.root / PAGE

    @property
    def bank(self) -> Path:
        """The tokens that were learnt."""
        return self.root / "tokens" / "tokens.safetensors"

    @property
    def token_report(self) -> Path:
        """Figure S1 and what belongs to it."""
        return self.root / "tokens" / "report"

    @property
    def table(self) -> Path:
        """Table S1."""
        return self.root / "table-s1"

    def samples(self, name: str) -> Path:
        """Pictures that were drawn for ``tokens`` or for a scoring."""
        return self.root / "samples" / name

    def scores(self, name: str) -> Path:
        """The comparison of a scoring, with its figures."""
        return self.root / "scores" / name


def reproduce(settings: ReproductionSettings, out: str | Path, say: Say) -> Places:
    """Everything that the settings ask for, or the rest of it, and the page last.

    Args:
        settings: what to make.
        out: the folder.
        say: told what begins.

    Raises:
        ConfigError: settings that cannot be used, or a folder of another reproduction.
        IncompleteError: pictures wait for people's annotations; the same call goes on.
        Interrupted: a signal came; the same call goes on.
    """
    places = Places(root=Path(out).expanduser())
    config = build_config(settings.generate)
    if not is_default(config.classes):
        raise ConfigError(
            f"the supplementary is of VOC's classes, generate.classes asks for "
            f"{config.classes.identity}: leave it out; 'ovamgen evaluate compare' takes any"
        )
    if settings.table_s1 is not None:
        table = settings.table(str(places.bank), {})
        table.trainings({"shards": str(places.table)})
    _claim(places.root, settings)
    total = 4 + (settings.table_s1 is not None)
    say(f"step 1 of {total}: pictures")
    _pictures(settings, config, places, say)
    say(f"step 2 of {total}: tokens of every class")
    _tokens(settings, config, places)
    say(f"step 3 of {total}: masks of every method")
    taus: dict[str, float] = {}
    for scoring in settings.scorings:
        data = _scores(settings, scoring, places, say)
        tuned = {row["name"]: float(row["tuned"]["tau"]) for row in data["rows"]}
        # of two scorings with the same presets the first decides
        taus = tuned | taus
    say(f"step 4 of {total}: figures S3 to S7")
    _figures(settings, places)
    if settings.table_s1 is not None:
        say(f"step 5 of {total}: Table S1, segmentors trained on each method's pictures")
        given = taus if settings.thresholds == "tuned" else {}
        make_table(settings.table(str(places.bank), given), places.table, say)
    write_text(places.page, render_reproduction(settings, places))
    return places


def drawn_samples(draw: DrawSettings, generate: dict[str, Any]) -> tuple[Sample, ...]:
    """The samples that the settings ask for.

    Args:
        draw: the settings.
        generate: the configuration of all drawing.

    Raises:
        ConfigError: captions or classes that cannot be used.
    """
    if draw.captions is None:
        assert draw.per_class is not None
        return class_samples(
            per_class=draw.per_class,
            seed=draw.seed,
            to_the_letter=True,
        )
    names = ("captions", "instances", "preset", "limit", "per_class")
    plan = {name: getattr(draw, name) for name in names if getattr(draw, name) is not None}
    return caption_samples(plan_for(build_config(generate, {"plan": plan})).specs, seed=draw.seed)


def _pictures(settings: ReproductionSettings, config: RunConfig, places: Places, say: Say) -> None:
    """Draws what is to be drawn; everything that waits for annotations is said at once."""
    waiting = []
    for name, asked in settings.pictures():
        if asked.draw is None:
            continue
        with Progress(f"pictures of {name}") as counting:
            done = draw_samples(
                config,
                drawn_samples(asked.draw, settings.generate),
                places.samples(name),
                on_start=counting.start,
                on_picture=counting.add,
            )
        done.check_complete()
        missing = _without_annotation(done.folder, asked, name)
        if missing:
            waiting.append((name, missing))
    if waiting:
        for name, missing in waiting:
            folder = places.samples(name)
            say(f"{counted(missing, 'picture')}: ovamgen annotate --samples {folder}")
        raise IncompleteError(
            f"{counted(sum(count for _, count in waiting), 'picture')} wait for an annotation: "
            "paint them with the commands above (or put masks beside them, as 'ovamgen annotate "
            "--help' says), then give this command again; of the pictures to score, those that "
            "cannot be used may stay without one once there is one of each class"
        )


def _without_annotation(folder: SampleFolder, asked: PicturesSettings, name: str) -> int:
    """How many samples still need an annotation.

    Tokens need one of every sample; a scoring one of every class, as the authors left pictures out
    that could not be annotated (methods 7.2).
    """
    there = [s for s in folder.samples if folder.annotation_path(s, asked.annotations).exists()]
    if name != "tokens" and {s.class_name for s in there} == {s.class_name for s in folder.samples}:
        return 0
    return len(folder.samples) - len(there)


def _tokens(settings: ReproductionSettings, config: RunConfig, places: Places) -> None:
    if places.bank.exists():
        return
    asked = settings.tokens
    places.bank.parent.mkdir(parents=True, exist_ok=True)
    done = optimise_tokens(
        OptimiseRequest(
            samples=asked.samples or str(places.samples("tokens")),
            annotations=asked.annotations,
            out=str(places.bank),
            preset=asked.preset,
            steps=asked.steps,
            learning_rate=asked.learning_rate,
            images_per_class=asked.images_per_class,
            model=config.model.id,
            device=config.model.device,
            report=str(places.token_report),
        )
    )
    done.check_complete()


def request_of(
    settings: ReproductionSettings,
    scoring: ScoringSettings,
    places: Places,
    *,
    tokens: str | None = None,
) -> CompareRequest:
    """What a scoring asks of a comparison.

    Args:
        settings: of the reproduction.
        scoring: one of its.
        places: of its output.
        tokens: others than those that it learns.
    """
    drawn = scoring.draw is not None or _holds_samples(scoring.samples)
    steps = None if drawn else settings.drawing_steps
    return CompareRequest(
        dataset=scoring.samples or str(places.samples(scoring.name)),
        out=str(places.scores(scoring.name)),
        asked={"model": {}, "synthesis": {"steps": steps}},
        tokens=tokens or str(places.bank),
        heads=tuple(settings.heads.values()),
        presets=",".join(scoring.presets),
        split=scoring.split,
        tune_fraction=scoring.tune_fraction,
        tune_apart=settings.thresholds == "tuned",
        annotations=scoring.annotations,
        caption=scoring.caption,
        limit=scoring.limit,
        strength=scoring.strength,
        text=scoring.text,
        seed=0,
        draws=settings.bootstrap_draws,
        # those of the supplementary are drawn of one picture a class
        figures=False,
    )


def build_of(settings: ReproductionSettings) -> Callable[[Sections], RunConfig]:
    """What resolves the sections of a comparison, laid over those of the reproduction."""
    return lambda asked: build_config(settings.generate, asked)


def _scores(
    settings: ReproductionSettings, scoring: ScoringSettings, places: Places, say: Say
) -> dict[str, Any]:
    mark = places.scores(scoring.name) / "comparison.json"
    if not mark.exists():
        say(f"masks on {scoring.name}")
        with Progress("drawings") as counting:
            compare_data_set(request_of(settings, scoring, places), build_of(settings), counting)
    data: dict[str, Any] = json.loads(mark.read_text("utf-8"))
    return data


def _figures(settings: ReproductionSettings, places: Places) -> None:
    """Figures of the first scoring, whose maps are there."""
    scoring = settings.scorings[0]
    request = request_of(settings, scoring, places)
    mark = places.scores(scoring.name) / "figures.json"
    if mark.exists():
        return
    tuned = str(places.scores(scoring.name) / "comparison.json")
    with Progress("drawings") as counting:
        done = draw_figures(
            request,
            build_of(settings),
            counting,
            thresholds=tuned if settings.thresholds == "tuned" else None,
        )
    write_text(mark, json.dumps(list(done.names)) + "\n")


def _holds_samples(folder: str | None) -> bool:
    return folder is not None and (Path(folder).expanduser() / SAMPLES).exists()


def _claim(root: Path, settings: ReproductionSettings) -> None:
    """Writes down what the folder is of; one of another reproduction is refused."""
    asked = canonical_json(settings.model_dump(mode="json"))
    place = root / _SETTINGS
    if not place.exists():
        write_text(place, asked)
    elif place.read_text("utf-8") != asked:
        raise ConfigError(
            f"{root} holds a reproduction with other settings ({place.name}): name another folder, "
            "or remove it"
        )
