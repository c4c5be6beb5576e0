"""A training of a head from its first step to its last.

Every step is a function of the settings, the pictures, the model and its own number, so a training
that was killed and resumed is, step for step, the training that nothing disturbed.
"""

from __future__ import annotations

import json
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import interpolate

from ovamgen.attribution.heads.datasetdm import DatasetDmHead
from ovamgen.attribution.heads.head_file import Head, HeadNetwork, build_head
from ovamgen.attribution.heads.text import TRAINING_CLASS, datasetdm_words, grounded_words
from ovamgen.classes.class_entry import IGNORE
from ovamgen.diffusion.pipeline import LoadedPipeline
from ovamgen.engine.opened_model import PipelineAttention, use_repeatable_arithmetic
from ovamgen.errors import ConfigError
from ovamgen.heads.augment import scaled_crop
from ovamgen.heads.examples import (
    HeadExample,
    choose_examples,
    class_text,
    digest_of_examples,
    example_at,
)
from ovamgen.heads.features import FeatureReader, Levels
from ovamgen.heads.losses import datasetdm_loss, grounded_terms
from ovamgen.heads.settings import HeadTrainSettings
from ovamgen.heads.validation import is_due, read_scores, score, write_score
from ovamgen.pictures.picture_set import PictureSet
from ovamgen.plan.keys import sample_seed
from ovamgen.run.drain import Drain, drain_on_signals
from ovamgen.segmentor.checkpoint import Position, resume, write_checkpoint
from ovamgen.segmentor.training_log import LOG_STEPS, TrainingLog, check_loss
from ovamgen.storage.store import LocalStore
from ovamgen.storage.whole_files import check_place


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainedHead:
    """What a training left."""

    file: Path
    folder: Path
    steps: int
    taken_now: int
    learnt: int
    """Examples that it learnt from: pictures, or pairs of picture and class."""
    held_out: int
    loss: float | None
    """Mean over the last steps; None where all steps were there already."""
    miou: float | None
    """Score of the held-out pictures at the end, [0, 1]; None where there are none."""

    def lines(self) -> list[str]:
        """The result as text for people."""
        loss = "" if self.loss is None else f", last loss {self.loss:.4f}"
        scored = "" if self.miou is None else f", mIoU {100 * self.miou:.1f} on the held-out ones"
        return [
            f"steps          {self.steps} ({self.taken_now} taken now){loss}",
            f"examples       {self.learnt} learnt, {self.held_out} held out{scored}",
            f"head           {self.file}",
            f"log            {self.folder}",
        ]


def training_folder(out: str | Path) -> Path:
    """Where the checkpoint and the logs of a training lie: beside the head that it makes."""
    file = Path(out).expanduser()
    return file.with_name(f"{file.name}.training")


def train_head(
    settings: HeadTrainSettings,
    pictures: PictureSet,
    loaded: LoadedPipeline,
    out: str | Path,
    *,
    cpu_threads: int = 1,
    halves: bool = False,
) -> TrainedHead:
    """Trains a head to its last step, or goes on with the training beside the file.

    Args:
        settings: what is asked for.
        pictures: with `open_pictures`; masks of people, of rendering, or of a segmentor.
        loaded: the model whose features are learnt from.
        out: the head's file; `training_folder` is beside it.
        cpu_threads: of CPU arithmetic, which sums depend on.
        halves: write the head in float16; it is trained and scored in float32.

    Raises:
        ConfigError: settings, pictures or a place that cannot be used; another training's folder.
        MethodError: the model has no such features.
        SampleError: a picture came out broken when it was drawn again.
        OvamgenError: the loss is no number.
        Interrupted: a signal came; the checkpoint is of the last step.
    """
    file = Path(out).expanduser()
    folder = training_folder(file)
    threads = torch.get_num_threads()
    try:
        use_repeatable_arithmetic(cpu_threads)
        folder.mkdir(parents=True, exist_ok=True)
        check_place(file)
        with LocalStore(folder).lock():
            training = _Training(settings, pictures, loaded, file, cpu_threads)
            with (
                TrainingLog(folder, steps=training.steps, done=training.step) as log,
                drain_on_signals(math.inf, log.say, work="this step") as drain,
            ):
                return training.run(log, drain, halves=halves)
    except OSError as error:
        raise ConfigError(f"{folder} cannot be written: {error.strerror or error}") from None
    finally:
        torch.set_num_threads(threads)


class _Training:
    """A training between two steps."""

    def __init__(
        self,
        settings: HeadTrainSettings,
        pictures: PictureSet,
        loaded: LoadedPipeline,
        file: Path,
        cpu_threads: int,
    ) -> None:
        self._settings, self._pictures, self._loaded, self._file = settings, pictures, loaded, file
        self._folder = training_folder(file)
        self._device = loaded.pipe.device
        self._split = choose_examples(pictures, settings)
        self._attention = PipelineAttention(loaded)
        draw = settings.generated == "draw"
        self._reader = FeatureReader(loaded, settings.kind, pictures, draw=draw)
        info = loaded.info
        shape = settings.shape(self._reader.channels, info.context_width, info.vae_scale_factor)
        self._network: HeadNetwork = build_head(shape, settings.seed).to(self._device).train()
        self._optimizer = torch.optim.Adam(self._network.parameters(), lr=settings.learning_rate)
        self.steps = settings.total_steps(len(self._split.learnt))
        self._position = Position(
            step=0,
            settings=settings.semantic() | {"cpu_threads": cpu_threads},
            data={
                "pictures": digest_of_examples(pictures, self._split),
                "model": loaded.info.digest,
            },
            world_size=1,
        )
        self._kept: dict[tuple[str, str], Levels] = {}
        self._texts: dict[tuple[str, str], Tensor] = {}
        self._keeping = not settings.augment and self._feature_bytes() <= settings.feature_bytes
        self.step = self._resume()

    def run(self, log: TrainingLog, drain: Drain, *, halves: bool) -> TrainedHead:
        """Takes the steps that are left, and writes the head."""
        settings, first = self._settings, self.step
        losses = list(self._position.losses)
        mean: float | None = None
        saved = time.monotonic()
        while self.step < self.steps:
            rate = settings.rate(self.step, len(self._split.learnt))
            losses.append(self._take_step(rate))
            self.step += 1
            last, stopping = self.step == self.steps, drain.asked
            mean = sum(losses) / len(losses)
            check_loss(mean, self.step, settings.learning_rate)
            log.tick(self.step, settings.batch_size, mean)
            if self._split.held_out and is_due(self.step, self.steps, settings.validate_steps):
                self._validate(log)
            if last or self.step % LOG_STEPS == 0:
                # never at a save, whose time is the clock's: equal trainings have equal logs
                log.row(self.step, mean, rate)
                losses = []
            if stopping or last or time.monotonic() - saved >= settings.save_seconds:
                self._save(losses)
                saved = time.monotonic()
            if stopping and not last:
                drain.finish()
        scores = read_scores(self._folder)
        miou = scores[-1][1] if self._split.held_out and scores else None
        self._head(miou).save(self._file, halves=halves)
        return TrainedHead(
            file=self._file,
            folder=self._folder,
            steps=self.step,
            taken_now=self.step - first,
            learnt=len(self._split.learnt),
            held_out=len(self._split.held_out),
            loss=mean,
            miou=miou,
        )

    def _take_step(self, rate: float) -> float:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        count, total = self._settings.batch_size, 0.0
        for place in range(self.step * count, (self.step + 1) * count):
            loss = self._loss(place) / count
            loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it so
            total += float(loss.detach())
        self._optimizer.step()
        return total

    def _loss(self, place: int) -> Float[Tensor, ""]:
        """The loss of the example at a place of the order."""
        settings = self._settings
        example = example_at(self._split.learnt, place, settings)
        truth = self._pictures.truth(example.picture)
        masks = example.masks(truth)
        if settings.augment:
            image = self._pictures.image(example.picture)
            random = np.random.default_rng([settings.seed, place, 1])
            side = min(self._loaded.info.height, self._loaded.info.width)
            image, mask = scaled_crop(image, masks[0], side, random)
            levels, masks = self._reader.levels(example, image), mask[None]
        else:
            levels = self._levels(example)
        given = [[item.float() for item in items] for items in levels]
        targets = torch.from_numpy(masks).to(self._device)
        texts = self._text(example)
        if isinstance(self._network, DatasetDmHead):
            generator = torch.Generator().manual_seed(sample_seed(settings.seed, f"points:{place}"))
            said = self._network(given, texts[0])[-1]
            return datasetdm_loss(
                said, targets[0], lambda n: torch.rand(n, 2, generator=generator)
            ).total
        logits = self._network(given, texts)
        known = torch.from_numpy(truth != IGNORE).to(self._device)
        return grounded_terms(logits, *_fitted(targets, known, logits)).sum()

    def _levels(self, example: HeadExample) -> Levels:
        """Features of a picture, made once where they may be kept."""
        if not self._keeping:
            return self._reader.levels(example)
        key = example.picture.key, example.prompt
        if key not in self._kept:
            self._kept[key] = self._reader.levels(example)
        return self._kept[key]

    def _text(self, example: HeadExample) -> Float[Tensor, "K ctx"]:
        """What the head is asked with: a vector for each class, as `generate` asks it."""
        rows = []
        for voc in example.classes:
            name, prompt = class_text(voc, self._settings), example.prompt
            if self._settings.kind == "datasetdm":
                prompt = ""
                name = TRAINING_CLASS if self._settings.asked_for == TRAINING_CLASS else name
            if (name, prompt) not in self._texts:
                vector = (
                    datasetdm_words(self._attention, name)
                    if self._settings.kind == "datasetdm"
                    else grounded_words(self._attention, prompt, name)
                )
                self._texts[name, prompt] = vector.to(self._device, torch.float32)
            rows.append(self._texts[name, prompt])
        return torch.stack(rows)

    def _feature_bytes(self) -> int:
        """Bytes of the features of all examples."""
        sizes = {
            (example.picture.key, example.prompt): (example.picture.height, example.picture.width)
            for example in (*self._split.learnt, *self._split.held_out)
        }
        return sum(self._reader.nbytes(size) for size in sizes.values())

    def _validate(self, log: TrainingLog) -> None:
        held_out = self._split.held_out
        miou = score(self._network, held_out, self._pictures, self._levels, self._text)
        write_score(self._folder, self.step, miou)
        log.say(f"step {self.step}: mIoU {100 * miou:.1f} on {len(held_out)} held-out examples")

    def _resume(self) -> int:
        """Steps that the folder's checkpoint has, which the network is set to."""
        found = resume(self._folder, self._network, self._optimizer, self._position)
        if found is None:
            return 0
        self._position = replace(self._position, losses=found.losses)
        return found.step

    def _save(self, losses: list[float]) -> None:
        position = replace(self._position, step=self.step, losses=tuple(losses))
        write_checkpoint(self._folder, self._network, self._optimizer, position)

    def _head(self, miou: float | None) -> Head:
        told = {
            "kind": "trained",
            "model": self._loaded.info.model,
            "model_digest": self._loaded.info.digest,
            "pictures": f"{self._pictures.name} {self._pictures.split}".strip(),
            "pictures_digest": self._position.data["pictures"],
            "examples": f"{len(self._split.learnt)} learnt, {len(self._split.held_out)} held out",
            "steps": str(self.step),
            "settings": json.dumps(self._settings.semantic(), sort_keys=True),
        }
        if miou is not None:
            told["held_out_miou"] = f"{miou:.4f}"
        return Head(
            kind=self._settings.kind,
            network=self._network,
            classes=self._split.class_names,
            provenance=told,
        )


def _fitted(masks: Tensor, known: Tensor, logits: Tensor) -> tuple[Tensor, Tensor]:
    """Masks and what is known, of the logits' size: the nearest pixel of each."""
    size = logits.shape[1:]
    if masks.shape[1:] == size:
        return masks, known
    both = torch.cat([masks, known[None]])[None].float()
    resized = interpolate(both, size=tuple(size), mode="nearest-exact")[0] > 0
    return resized[:-1], resized[-1]
