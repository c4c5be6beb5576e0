"""A training of the segmentor from its first step to its last, in one process or in several.

Every step is a function of the settings, the data and its own number, so a training that was
killed and resumed is, step for step, the training that nothing disturbed.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ovamgen.classes.class_entry import IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.errors import ConfigError
from ovamgen.pictures.example import Examples
from ovamgen.run.drain import Drain, drain_on_signals
from ovamgen.segmentor.backbone import load_backbone_weights
from ovamgen.segmentor.batches import Batch, Mixture, batches
from ovamgen.segmentor.checkpoint import Position, resume, write_checkpoint
from ovamgen.segmentor.examples import open_sources, source_digests
from ovamgen.segmentor.network import (
    SEGMENTOR,
    architecture,
    build_network,
    load_weights,
    normalise,
    output_of_label,
    save_segmentor,
    saved_step,
)
from ovamgen.segmentor.settings import TrainSettings
from ovamgen.segmentor.training_log import LOG, LOG_STEPS, TrainingLog, check_loss
from ovamgen.storage.store import LocalStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What a training left."""

    folder: Path
    steps: int
    taken_now: int
    images: int
    """Different pictures that it was trained on."""
    loss: float | None
    """Mean over the last steps; None where all steps were there already."""

    def lines(self) -> list[str]:
        """For people."""
        loss = "" if self.loss is None else f", last loss {self.loss:.4f}"
        return [
            f"steps          {self.steps} ({self.taken_now} taken now){loss}",
            f"pictures       {self.images}",
            f"segmentor      {self.folder / SEGMENTOR}",
            f"log            {self.folder / LOG}",
        ]


def train(settings: TrainSettings, out: str | Path) -> Trained:
    """Trains a segmentor to its last step, or goes on with the training in the folder.

    Where a process group of torch.distributed is up, this process is one of its workers: each sees
    its part of every batch, and the first one writes.

    Args:
        settings: what is asked for.
        out: the folder of the training.

    Raises:
        ConfigError: settings, data or a folder that cannot be used; another training's folder.
        ShardError: a damaged shard or sample.
        OvamgenError: the loss is no number.
        Interrupted: a signal came; the checkpoint is of the last step.
    """
    folder = Path(out).expanduser()
    rank, world_size = _rank()
    settings.part_size(world_size)
    device = device_of(settings)
    sources, classes = open_sources(settings)
    settings.check_classes(len(classes))
    lock = LocalStore(folder).lock() if rank == 0 else nullcontext()
    with lock:
        folder.mkdir(parents=True, exist_ok=True)
        training = _Training(settings, folder, device, sources, classes, rank, world_size)
        with (
            TrainingLog(folder, steps=settings.steps, done=training.step)
            if rank == 0
            else nullcontext()
        ) as log:
            say = log.say if log is not None else print
            with drain_on_signals(math.inf, say, work="this step") as drain, _threads(settings):
                return training.run(log, drain)


class SegmentationLoss(nn.Module):
    """The network with its loss as one module, which is what DDP wraps."""

    def __init__(self, network: Any, class_weights: tuple[float, ...] | None) -> None:
        """``network`` is an UperNetForSemanticSegmentation."""
        super().__init__()
        self.class_weights: torch.Tensor | None
        self.network = network
        weights = None if class_weights is None else torch.tensor(class_weights)
        self.register_buffer("class_weights", weights, persistent=False)

    def forward(self, images: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """The mean cross-entropy over the pixels that count; 0 where none does.

        Args:
            images: uint8 (B, 3, H, W).
            labels: uint8 (B, H, W), numbers of outputs; 255 where a pixel does not count.
        """
        x = normalise(images).contiguous(memory_format=torch.channels_last)
        features = self.network.backbone(x).feature_maps
        loss = self._cross_entropy(self.network.decode_head(features), labels)
        if self.network.auxiliary_head is not None:
            weight = self.network.config.auxiliary_loss_weight
            loss = loss + weight * self._cross_entropy(
                self.network.auxiliary_head(features), labels
            )
        return loss

    def _cross_entropy(self, logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        target = labels.long()
        logits = nn.functional.interpolate(
            logits, size=target.shape[1:], mode="bilinear", align_corners=False
        )
        total = nn.functional.cross_entropy(
            logits.float(), target, weight=self.class_weights, ignore_index=IGNORE, reduction="sum"
        )
        counted = target != IGNORE
        if self.class_weights is None:
            norm = counted.sum()
        else:
            norm = self.class_weights[target.where(counted, 0)].where(counted, 0.0).sum()
        return total / norm.clamp(min=1)


def learning_rate(settings: TrainSettings, step: int) -> float:
    """The rate of a step, 0 the first: a linear rise, then (1 - step / steps) ** power.

    The poly rule is that of Chen et al., DeepLab, 2017.
    """
    assert settings.learning_rate is not None, "resolved by the settings"
    warmup = round(settings.warmup_share * settings.steps)
    rise = min(1.0, (step + 1) / (warmup + 1))
    return settings.learning_rate * rise * (1 - step / settings.steps) ** settings.poly_power


def build_optimizer(network: nn.Module, settings: TrainSettings) -> torch.optim.Optimizer:
    """AdamW (Loshchilov and Hutter, 2019) or SGD with momentum, as the settings ask."""
    # biases and the scales of normalisations are vectors; they are not pulled to zero
    parameters = list(network.parameters())
    groups: list[dict[str, Any]] = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], "weight_decay": 0.0},
    ]
    assert settings.learning_rate is not None, "resolved by the settings"
    if settings.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=settings.learning_rate, momentum=settings.momentum)
    return torch.optim.AdamW(groups, lr=settings.learning_rate)


def rising_decay(decay: float, updates: int) -> float:
    """What a running mean keeps of itself at an update, (0, ``decay``].

    It rises to ``decay`` over the first updates, or a short training would end with much of its
    first weights.

    Args:
        decay: what is kept at most.
        updates: made before.
    """
    return min(decay, (1 + updates) / (10 + updates))


def build_average(network: nn.Module, decay: float) -> AveragedModel:
    """A running mean of the network's weights and statistics, to be told of every update."""

    def update(means: Any, values: Any, updates: torch.Tensor | int) -> None:
        kept = rising_decay(decay, int(updates))
        get_ema_multi_avg_fn(kept)(means, values, updates)  # type: ignore[no-untyped-call]

    return AveragedModel(network, multi_avg_fn=update, use_buffers=True)


class _Training:
    """A training between two steps."""

    def __init__(
        self,
        settings: TrainSettings,
        folder: Path,
        device: torch.device,
        sources: list[Examples],
        classes: ClassSet,
        rank: int,
        world_size: int,
    ) -> None:
        self._settings, self._folder, self._device = settings, folder, device
        self._rank, self._world_size = rank, world_size
        self._classes = classes
        self._shape = architecture(settings.size, classes)
        share = settings.real_share if len(sources) == 2 else 0.0
        self._mixture = Mixture(sources=sources, second_share=share, seed=settings.seed)
        self._network = build_network(self._shape, settings.seed).to(device)
        if settings.backbone is not None:
            load_backbone_weights(self._network.backbone, settings.backbone)
        if settings.init is not None:
            load_weights(self._network, self._shape, classes, settings.init)
        self._optimizer = build_optimizer(self._network, settings)
        decay = settings.ema_decay
        self._average = None if decay is None else build_average(self._network, decay)
        self._weights = self._network
        """What a checkpoint keeps."""
        if self._average is not None:
            self._weights = nn.ModuleList([self._network, self._average])
        self._position = Position(
            step=0,
            settings=settings.semantic(),
            data=source_digests(settings, sources, classes),
            world_size=world_size,
        )
        self.step = self._resume()
        loss: nn.Module = SegmentationLoss(self._network, settings.class_weights).to(device)
        if world_size > 1:
            if device.type == "cuda":
                loss = nn.SyncBatchNorm.convert_sync_batchnorm(loss)  # type: ignore[no-untyped-call]  # torch's
            loss = DistributedDataParallel(loss)
        self._loss = loss.train()

    def run(self, log: TrainingLog | None, drain: Drain) -> Trained:
        """Takes the steps that are left."""
        settings, first = self._settings, self.step
        if first and self._rank == 0 and saved_step(self._folder) != first:
            # the last process ended between the checkpoint and the segmentor
            self._save_segmentor()
        outputs = output_of_label(self._classes)
        data = batches(self._mixture, settings, outputs, first, self._rank, self._world_size)
        # of the steps since the last row of the log, those before an interruption included
        losses = [torch.tensor(loss, device=self._device) for loss in self._position.losses]
        mean: float | None = None
        saved = time.monotonic()
        while self.step < settings.steps:
            rate = learning_rate(settings, self.step)
            losses.append(self._take_step(data, rate))
            self.step += 1
            last = self.step == settings.steps
            stopping = drain.asked
            saving = stopping or last or time.monotonic() - saved >= settings.save_seconds
            logging = last or self.step % LOG_STEPS == 0
            if saving or logging:
                mean = float(torch.stack(losses).mean())
                assert settings.learning_rate is not None, "resolved by the settings"
                check_loss(mean, self.step, settings.learning_rate)
            if logging:
                # never at a save, whose time is the clock's: equal trainings have equal logs
                if log is not None and mean is not None:
                    log.row(self.step, mean, rate)
                losses = []
            if log is not None:
                log.tick(self.step, settings.batch_size, mean)
            if saving:
                self._save(losses)
                saved = time.monotonic()
            if stopping and not last:
                drain.finish()
        return Trained(
            folder=self._folder,
            steps=self.step,
            taken_now=self.step - first,
            images=sum(map(len, self._mixture.sources)),
            loss=mean,
        )

    def _take_step(self, data: Iterator[Batch], rate: float) -> torch.Tensor:
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        self._optimizer.zero_grad(set_to_none=True)
        parts = self._settings.accumulation
        total = torch.zeros((), device=self._device)
        for part in range(parts):
            images, labels = (tensor.to(self._device, non_blocking=True) for tensor in next(data))
            apart = isinstance(self._loss, DistributedDataParallel) and part < parts - 1
            with self._loss.no_sync() if apart else nullcontext():  # type: ignore[operator]  # DDP's
                with arithmetic(self._settings, self._device):
                    loss = self._loss(images, labels) / parts
                loss.backward()
            total += loss.detach()
        self._optimizer.step()
        if self._average is not None:
            self._average.update_parameters(self._network)
        return total

    def _resume(self) -> int:
        """Steps that the folder's checkpoint has, which the network is set to."""
        found = resume(self._folder, self._weights, self._optimizer, self._position)
        if found is None:
            if (self._folder / SEGMENTOR).exists():
                raise ConfigError(
                    f"{self._folder} holds a segmentor without a checkpoint to go on from: give "
                    "another --out"
                )
            return 0
        self._position = replace(self._position, losses=found.losses)
        return found.step

    def _save(self, losses: list[torch.Tensor]) -> None:
        if self._rank != 0:
            return
        kept = tuple(float(loss) for loss in losses)
        position = replace(self._position, step=self.step, losses=kept)
        # first: a segmentor alone is somebody's result, and is not trained on
        write_checkpoint(self._folder, self._weights, self._optimizer, position)
        self._save_segmentor()

    def _save_segmentor(self) -> None:
        told = {
            "step": self.step,
            "steps": self._settings.steps,
            "settings": self._position.settings,
            "data": self._position.data,
        }
        network = self._network if self._average is None else self._average.module
        save_segmentor(self._folder, network, self._shape, told, self._classes)


def device_of(settings: TrainSettings) -> torch.device:
    """The device that a training runs on.

    Raises:
        ConfigError: a GPU was asked for, and there is none.
    """
    there = torch.cuda.is_available()
    if settings.device == "cuda" and not there:
        raise ConfigError("device cuda was asked for, this machine has none: give --device cpu")
    if settings.device == "cpu" or not there:
        return torch.device("cpu")
    return torch.device("cuda", torch.cuda.current_device())


def arithmetic(settings: TrainSettings, device: torch.device) -> torch.autocast:
    """The context in which the network computes its loss: bfloat16 where that is asked for."""
    precision = settings.precision
    halved = precision == "bfloat16" or (precision == "auto" and device.type == "cuda")
    return torch.autocast(device.type, torch.bfloat16, enabled=halved)


@contextmanager
def _threads(settings: TrainSettings) -> Iterator[None]:
    before = torch.get_num_threads()
    assert settings.cpu_threads is not None, "resolved by the settings"
    torch.set_num_threads(settings.cpu_threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _rank() -> tuple[int, int]:
    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    return 0, 1
