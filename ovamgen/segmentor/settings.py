"""What may be asked of a training: sizes of the network, schedule, data, augmentation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from ovamgen.config import AS_KEYS, Section, merge, validated
from ovamgen.errors import ConfigError


class AugmentSettings(Section):
    """What is done to a picture before the network sees it; every step may be switched off."""

    came_later: ClassVar = frozenset({"copy_paste"})

    scale_low: float = Field(default=0.5, gt=0)
    """The least factor that a picture is resized by."""
    scale_high: float = Field(default=2.0, gt=0)
    """The picture is resized by a factor drawn between the two, evenly in its logarithm."""
    flip: bool = True
    """Every second picture is mirrored."""
    jitter: float = Field(default=0.4, ge=0, lt=1)
    """Brightness, contrast and saturation are multiplied by up to 1 +- this."""
    hue: float = Field(default=0.05, ge=0, le=0.5)
    """Hue is turned by up to this share of the circle."""
    copy_paste: float = Field(default=0.0, ge=0, le=1)
    """Share of the pictures that the objects of another one are pasted onto (Ghiasi et al., CVPR
    2021): scenes of several objects for a corpus whose pictures show one."""

    @model_validator(mode="after")
    def _range(self) -> AugmentSettings:
        if self.scale_low > self.scale_high:
            raise ValueError(
                f"augment.scale_low must be at most augment.scale_high, got {self.scale_low} and "
                f"{self.scale_high}"
            )
        return self


class TrainSettings(Section):
    """One training; all fields but the last two decide what the weights become."""

    shards: str | None = None
    """The folder of a run or a view, or tars with braces: ``train-{000000..000009}.tar``."""
    source: str | None = None
    """The corpus of a view in ``shards``; by default the one beside it."""
    real: str | None = None
    """A folder in VOC's layout."""
    real_split: str = "train"
    """List of ``real`` in ImageSets/Segmentation."""
    real_share: float = Field(default=0.5, ge=0, le=1)
    """Share of the pictures that come from ``real`` where both are given."""
    size: Literal["small", "resnet50"] = "small"
    """UperNet's backbone: a small one for 128-pixel pictures on a CPU, or a ResNet-50."""
    backbone: str | None = None
    """A .safetensors file with the weights of the backbone; from scratch without one."""
    init: str | None = None
    """A segmentor to go on from: folder of a training, or its weights' file. For a second training
    on other data (synthetic, then real) or at another size of pictures (small, then full)."""
    steps: int = Field(default=2000, ge=1)
    """Updates of the weights."""
    batch_size: int = Field(default=16, ge=2)
    """Pictures in one update, over all workers and accumulated parts."""
    accumulation: int = Field(default=1, ge=1)
    """Parts that a worker's share of a batch is cut into, one after another."""
    crop_px: int | None = Field(default=None, ge=32)
    """Height and width that the network is trained on; by default 128, of ``resnet50`` 512."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """AdamW, or SGD with momentum."""
    learning_rate: float | None = Field(default=None, gt=0)
    """The highest rate; by default 2e-3 for ``small``, 1e-4 for ``resnet50``, 0.01 with SGD."""
    weight_decay: float | None = Field(default=None, ge=0)
    """By default 0.01, 5e-4 with SGD; not of biases and normalisations."""
    momentum: float = Field(default=0.9, ge=0, lt=1)
    """Momentum of SGD."""
    warmup_share: float = Field(default=0.05, ge=0, lt=1)
    """Share of the steps in which the rate rises from zero."""
    poly_power: float = Field(default=0.9, gt=0)
    """The rate falls as (1 - step / steps) to this power."""
    ema_decay: float | None = Field(default=None, gt=0, lt=1)
    """What a running mean of the weights keeps of itself at an update; the mean is what is saved
    then. The last weights are saved where it is not given."""
    class_weights: tuple[float, ...] | None = None
    """Weights of the labels in the loss, background first, then by id; all 1 where not given."""
    augment: AugmentSettings = AugmentSettings()
    seed: int = Field(default=0, ge=0, lt=2**63)
    """Seed of the first weights, the order of the data and the augmentation."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """``auto``: cuda where there is one."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """The network's arithmetic while it learns (autocast). ``auto``: bfloat16 on a GPU, float32
    on a CPU; CPUs with AVX-512 BF16 gain half of their speed by ``bfloat16``."""
    cpu_threads: int | None = Field(default=None, ge=1)
    """Threads of CPU arithmetic, which sums depend on; by default 1."""
    loaders: int = Field(default=0, ge=0)
    """Processes that read and augment pictures; 0 does it in the process that trains."""
    save_seconds: float = Field(default=60.0, gt=0)
    """Time between two checkpoints."""

    @model_validator(mode="after")
    def _resolve(self) -> TrainSettings:
        if not self.shards and not self.real:
            raise ValueError("a training needs data: give --shards, --real, or both")
        if self.class_weights is not None and min(self.class_weights) < 0:
            raise ValueError("class_weights must not be negative")
        if self.init and self.backbone:
            raise ValueError("init has a backbone of its own: give --init or --backbone")
        small, sgd = self.size == "small", self.optimizer == "sgd"
        defaults = {
            "crop_px": 128 if small else 512,
            "learning_rate": 0.01 if sgd else 2e-3 if small else 1e-4,
            "weight_decay": 5e-4 if sgd else 0.01,
            "cpu_threads": 1,
        }
        for name, value in defaults.items():
            if getattr(self, name) is None:
                object.__setattr__(self, name, value)
        return self

    def semantic(self) -> dict[str, Any]:
        """The fields that decide what the weights become, as plain values.

        Paths are left out: the data are known by their digest.
        """
        paths = {"shards", "source", "real", "backbone", "init"}
        return self.model_dump(mode="json", exclude=paths | {"device", "loaders", "save_seconds"})

    def check_classes(self, count: int) -> None:
        """Checks what depends on how many classes the data have.

        Raises:
            ConfigError: ``class_weights`` are not one for the background and one for each class.
        """
        if self.class_weights is not None and len(self.class_weights) != count + 1:
            raise ConfigError(
                f"class_weights must be {count + 1} numbers, background first, got "
                f"{len(self.class_weights)}"
            )

    def part_size(self, world_size: int) -> int:
        """Pictures that one of so many workers sees at once.

        Raises:
            ConfigError: the batch cannot be divided, or a part is too small for batch statistics.
        """
        parts = world_size * self.accumulation
        if self.batch_size % parts or self.batch_size // parts < 2:
            possible = max(2, self.batch_size // parts) * parts
            raise ConfigError(
                f"batch_size must be a multiple of workers x accumulation = {parts}, with at "
                f"least 2 pictures each, got {self.batch_size}: try {possible}"
            )
        return self.batch_size // parts


def build_settings(*layers: dict[str, Any], given_as: Mapping[str, str] = AS_KEYS) -> TrainSettings:
    """The settings that the layers make, later ones winning.

    Args:
        layers: settings by name.
        given_as: what complaints call a setting that was given otherwise: see `validated`.

    Raises:
        ConfigError: an unknown key (the nearest one is named) or a value that is not allowed.
    """
    merged: dict[str, Any] = {}
    for layer in layers:
        merged = merge(merged, layer)
    return validated(TrainSettings, merged, "training setting", given_as)
