"""How long a reproduction takes, measured with a few drawings and steps before it starts.

Counted are drawings of the model and steps of the two optimisations, which is what a GPU is busy
with; scoring, dense CRF and figures are the processor's and come on top.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from ovamgen.classes.loading import default_classes
from ovamgen.config import RunConfig, build_config, load_preset
from ovamgen.diffusion.pipeline import LoadedPipeline, load_pipeline
from ovamgen.diffusion.schedulers import count_calls
from ovamgen.diffusion.synthesis import Synthesiser
from ovamgen.engine.opened_model import use_repeatable_arithmetic
from ovamgen.evaluate.compare import preset_setups
from ovamgen.evaluate.recording import count_drawings
from ovamgen.evaluate.reproduction.settings import ReproductionSettings, ScoringSettings
from ovamgen.evaluate.reproduction.steps import (
    Places,
    build_of,
    drawn_samples,
    request_of,
)
from ovamgen.pictures.draw import class_samples, draw_samples
from ovamgen.pictures.sample_folder import save_mask
from ovamgen.segmentor.network import architecture, build_network
from ovamgen.segmentor.settings import TrainSettings
from ovamgen.segmentor.training import SegmentationLoss, arithmetic, device_of
from ovamgen.tokens.learning import LearnerLimits, TokenLearner
from ovamgen.tokens.optimise import OptimiseRequest, prepare

_TIMED = 4
"""Steps that are timed, of a drawing and of the optimisations, after as many that warm up."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StepCost:
    """One part of the work."""

    name: str
    count: str
    """How much of what, for people."""
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """What is still to be done."""

    device: str
    parts: tuple[StepCost, ...]

    @property
    def seconds(self) -> float:
        """All of it."""
        return sum(part.seconds for part in self.parts)

    def lines(self) -> list[str]:
        """As text for people."""
        if not self.parts:
            return ["estimate: every drawing and training is there already"]
        what = "GPU hours" if self.device == "cuda" else "hours of this machine"
        rows = [f"  {p.name:<22} {p.count:<52} {_time(p.seconds)}" for p in self.parts]
        return [
            f"estimate: {self.seconds / 3600:.2f} {what}, by a few drawings and steps just timed; "
            "scoring and dense CRF on the processor come on top",
            *rows,
        ]


def estimate(settings: ReproductionSettings, out: str | Path) -> Estimate:
    """What a reproduction would take from where it stands.

    Args:
        settings: what is to be made.
        out: its folder; steps that are done are not counted, those that were stopped are.

    Raises:
        ConfigError: settings that cannot be used, or the model cannot be loaded.
    """
    places = Places(root=Path(out).expanduser())
    config = build_config(settings.generate)
    use_repeatable_arithmetic(config.runtime.cpu_threads)
    parts: list[StepCost] = []
    pace = _Pace(config)
    for name, asked in settings.pictures():
        if asked.draw is not None and not places.samples(name).exists():
            count = len(drawn_samples(asked.draw, settings.generate))
            parts.append(pace.drawings(f"pictures: {name}", {config.synthesis.steps: count}))
    if not places.bank.exists():
        parts.append(_tokens(settings, pace))
    for scoring in settings.scorings:
        if not (places.scores(scoring.name) / "comparison.json").exists():
            drawings = _scored(settings, scoring, places, config)
            parts.append(pace.drawings(f"masks: {scoring.name}", drawings))
    if settings.table_s1 is not None and not (places.table / "table.json").exists():
        parts += _table(settings, places, pace)
    return Estimate(device=config.model.device, parts=tuple(parts))


class _Pace:
    """Seconds of a UNet call, timed when they are first asked for."""

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self._loaded: LoadedPipeline | None = None
        self._seconds = 0.0

    def calls(self, steps: int) -> int:
        """UNet calls of a drawing of so many steps."""
        return count_calls(self._pipeline().pipe, self.config.synthesis.scheduler, steps)

    def drawings(self, name: str, drawings: dict[int, int]) -> StepCost:
        """The cost of so many drawings, by their number of steps."""
        calls = sum(count * self.calls(steps) for steps, count in drawings.items())
        count = sum(drawings.values())
        told = f"{count:,} drawings, {calls:,} UNet calls"
        return StepCost(name=name, count=told, seconds=calls * self.seconds())

    def seconds(self) -> float:
        """Seconds of one UNet call for one image with guidance."""
        loaded = self._pipeline()
        if not self._seconds:
            settings = self.config.synthesis.model_copy(update={"steps": _TIMED, "safety": "off"})
            synthesiser = Synthesiser(loaded, settings)
            synthesiser.draw(["a photograph"], [0])
            begun = time.perf_counter()
            synthesiser.draw(["a photograph"], [1])
            self._seconds = (time.perf_counter() - begun) / self.calls(_TIMED)
        return self._seconds

    def _pipeline(self) -> LoadedPipeline:
        if self._loaded is None:
            self._loaded = load_pipeline(self.config.model)
        return self._loaded


def _tokens(settings: ReproductionSettings, pace: _Pace) -> StepCost:
    """Every picture is drawn twice, once to learn from it and once to measure.

    A step of a class's mean loss costs as much as one of each of its pictures.
    """
    asked = settings.tokens
    steps = asked.steps or int(load_preset(asked.preset, "tokens")["steps"])
    classes = len(pace.config.classes)
    pictures = classes * asked.images_per_class
    drawing = pace.calls(pace.config.synthesis.steps) * pace.seconds()
    return StepCost(
        name="tokens",
        count=f"{2 * pictures} drawings, {classes * steps:,} steps of SGD",
        seconds=pictures * (2 * drawing + steps * _token_step_seconds(pace.config, asked.preset)),
    )


def _token_step_seconds(config: RunConfig, preset: str) -> float:
    """Seconds of one step, on a picture of its own with a made-up mask."""
    first = config.classes.classes[0].name
    with tempfile.TemporaryDirectory() as folder:
        samples = class_samples(per_class=1, classes=config.classes, names=[first])
        done = draw_samples(config, samples, Path(folder) / "samples")
        shape = done.folder.image(samples[0]).shape[:2]
        mask = torch.zeros(shape, dtype=torch.bool).numpy()
        mask[: shape[0] // 2] = True
        save_mask(mask, done.folder.annotation_path(samples[0]))
        resolved, (task,) = prepare(
            OptimiseRequest(
                samples=str(done.folder.root),
                out=str(Path(folder) / "bank.safetensors"),
                preset=preset,
                steps=2 * _TIMED,
                device=config.model.device,
            )
        )
        times: list[float] = []
        learner = TokenLearner(resolved, LearnerLimits())
        learner.learn(task, lambda step, loss: times.append(time.perf_counter()))
    return (times[-1] - times[-1 - _TIMED]) / _TIMED


def _scored(
    settings: ReproductionSettings, scoring: ScoringSettings, places: Places, config: RunConfig
) -> dict[int, int]:
    """Drawings of a scoring, by their number of steps."""
    if scoring.draw is not None and not places.samples(scoring.name).exists():
        # not drawn yet; each is drawn again once, whatever hears it
        return {config.synthesis.steps: len(drawn_samples(scoring.draw, settings.generate))}
    # words stand for the tokens, which need not be there yet
    request = request_of(settings, scoring, places, tokens="untrained")
    pictures = request.open(request.split, request.annotations)
    setups = preset_setups(request, pictures, build_of(settings))
    return count_drawings(pictures, setups, request.strength)


def _table(settings: ReproductionSettings, places: Places, pace: _Pace) -> list[StepCost]:
    table = settings.table("untrained", {})
    rows = len(table.rows)
    steps = pace.config.synthesis.steps
    drawn = pace.drawings("Table S1: pictures", {steps: rows * table.images})
    trainings = table.trainings({"shards": str(places.table)})
    seconds = sum(one.steps * _training_step_seconds(one) for one in trainings)
    count = f"{rows} trainings of {sum(one.steps for one in trainings):,} steps"
    return [drawn, StepCost(name="Table S1: trainings", count=count, seconds=rows * seconds)]


def _training_step_seconds(settings: TrainSettings) -> float:
    """Seconds of a step of a segmentor's training on pictures that are all noise."""
    device = device_of(settings)
    network = SegmentationLoss(
        build_network(architecture(settings.size, default_classes()), 0), settings.class_weights
    ).to(device)
    assert settings.crop_px is not None
    shape = (settings.batch_size, settings.crop_px, settings.crop_px)
    images = torch.zeros((shape[0], 3, *shape[1:]), dtype=torch.uint8, device=device)
    labels = torch.zeros(shape, dtype=torch.uint8, device=device)
    times = []
    for _ in range(3):
        begun = time.perf_counter()
        with arithmetic(settings, device):
            loss = network(images, labels)
        loss.backward()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begun)
    # the first one warms up
    return min(times[1:])


def _time(seconds: float) -> str:
    return f"{seconds / 3600:.2f} h" if seconds >= 360 else f"{seconds / 60:.1f} min"
