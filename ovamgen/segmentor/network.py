"""The segmentation network: UperNet on a ResNet, from pixels to class ids, and its file.

UperNet is Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018; both
networks are those of transformers. How it is trained is not known here.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, UInt8
from safetensors import safe_open
from torch import nn
from transformers import ResNetConfig, UperNetConfig, UperNetForSemanticSegmentation

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import as_saved, default_classes, from_saved
from ovamgen.errors import ConfigError
from ovamgen.segmentor.augment import MEAN_RGB, STD_RGB
from ovamgen.segmentor.checkpoint import to_bytes
from ovamgen.storage.damaged_files import BROKEN_SAFETENSORS
from ovamgen.storage.plain_json import load_plain_json
from ovamgen.storage.whole_files import write_whole

SEGMENTOR = "segmentor.safetensors"
_FORMAT = "ovamgen-segmentor-1"
_LARGEST_SIZE = 2048
_LARGEST_DEPTH = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """The shape of a network, as it stands in its file."""

    layer_type: str
    """``basic`` (two 3x3 convolutions) or ``bottleneck``, as in He et al., 2016."""
    embedding_size: int
    hidden_sizes: tuple[int, ...]
    depths: tuple[int, ...]
    stem_pooling: bool
    """The stem halves the picture twice, as published; without pooling once."""
    head_size: int
    pool_scales: tuple[int, ...]
    auxiliary_head: bool
    num_classes: int = len(default_classes()) + 1
    """Outputs: the background, and one for each class in the order of the ids."""


ARCHITECTURES = {
    "resnet50": Architecture(
        layer_type="bottleneck",
        embedding_size=64,
        hidden_sizes=(256, 512, 1024, 2048),
        depths=(3, 4, 6, 3),
        stem_pooling=True,
        head_size=512,
        pool_scales=(1, 2, 3, 6),
        auxiliary_head=True,
    ),
    "small": Architecture(
        layer_type="basic",
        embedding_size=32,
        hidden_sizes=(32, 64, 128, 256),
        depths=(2, 2, 2, 2),
        stem_pooling=True,
        head_size=32,
        pool_scales=(1, 2, 4),
        auxiliary_head=False,
    ),
}
"""By size. ``small`` is for pictures of 128 pixels on a CPU: half of ResNet-18's widths, and a
narrow head, which at a quarter of the picture's size costs more than the backbone."""


def architecture(size: str, classes: ClassSet) -> Architecture:
    """The shape of a size of `ARCHITECTURES` with an output for each class."""
    return replace(ARCHITECTURES[size], num_classes=len(classes) + 1)


def label_of_output(classes: ClassSet) -> UInt8[np.ndarray, " C"]:
    """The label that each output stands for: 0, then the ids, which may have gaps."""
    return np.array([BACKGROUND, *(entry.id for entry in classes.classes)], np.uint8)


def output_of_label(classes: ClassSet) -> UInt8[np.ndarray, " 256"]:
    """The output that stands for each label; 255 for whatever the set has no class for."""
    labels = label_of_output(classes)
    outputs = np.full(256, IGNORE, np.uint8)
    outputs[labels] = np.arange(len(labels))
    return outputs


def build_network(shape: Architecture, seed: int) -> UperNetForSemanticSegmentation:
    """The network with random weights, which are a function of the shape and the seed."""
    backbone = ResNetConfig(
        embedding_size=shape.embedding_size,
        hidden_sizes=list(shape.hidden_sizes),
        depths=list(shape.depths),
        layer_type=shape.layer_type,
        out_features=[f"stage{number}" for number in range(1, len(shape.depths) + 1)],
    )
    config = UperNetConfig(
        backbone_config=backbone,
        hidden_size=shape.head_size,
        pool_scales=list(shape.pool_scales),
        use_auxiliary_head=shape.auxiliary_head,
        num_labels=shape.num_classes,
        loss_ignore_index=IGNORE,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UperNetForSemanticSegmentation(config)
    if not shape.stem_pooling:
        network.backbone.embedder.pooler = nn.Identity()
    return network.to(memory_format=torch.channels_last)


def normalise(images: UInt8[torch.Tensor, "B 3 H W"]) -> Float32[torch.Tensor, "B 3 H W"]:
    """Pixels as the network takes them: zero mean and unit variance by ImageNet's figures."""
    mean = torch.tensor(MEAN_RGB, device=images.device).view(1, 3, 1, 1)
    std = torch.tensor(STD_RGB, device=images.device).view(1, 3, 1, 1)
    return (images.float() / 255 - mean) / std


class Segmentor:
    """A trained network that labels pictures; nothing of it changes."""

    def __init__(
        self,
        network: UperNetForSemanticSegmentation,
        shape: Architecture,
        device: torch.device,
        classes: ClassSet | None = None,
    ) -> None:
        """``network`` is moved to the device and put into evaluation mode.

        Its outputs are those of the classes, the default ones where none are given.
        """
        self.shape = shape
        self.classes = classes or default_classes()
        self._labels = label_of_output(self.classes)
        self._network = network.to(device).eval()
        self._device = device

    @torch.inference_mode()
    def probabilities(
        self, images: UInt8[np.ndarray, "B H W 3"], *, mirror: bool = False
    ) -> Float32[np.ndarray, "B C H W"]:
        """The probability of each of C outputs (`label_of_output`) in each pixel.

        Args:
            images: RGB of any size; all at once, so memory grows with their number.
            mirror: the mean of the picture's and the mirrored picture's probabilities: a little
                better, twice the time.
        """
        x = self._pixels(images)
        found = self._network(pixel_values=x).logits.softmax(dim=1)
        if mirror:
            mirrored = self._network(pixel_values=x.flip(3)).logits.softmax(dim=1)
            found = (found + mirrored.flip(3)) / 2
        return found.float().cpu().numpy()

    def predict(
        self,
        images: UInt8[np.ndarray, "B H W 3"] | Sequence[UInt8[np.ndarray, "H W 3"]],
        *,
        batch_size: int = 16,
        mirror: bool = False,
    ) -> UInt8[np.ndarray, "B H W"]:
        """The label map of each picture: 0 background, else ids of classes.

        Args:
            images: RGB, all of one size.
            batch_size: pictures labelled at once.
            mirror: see `probabilities`.
        """
        stacked = np.stack(list(images)) if not isinstance(images, np.ndarray) else images
        labels = np.empty(stacked.shape[:3], np.uint8)
        for start in range(0, len(stacked), batch_size):
            part = slice(start, start + batch_size)
            outputs = self.probabilities(stacked[part], mirror=mirror).argmax(axis=1)
            labels[part] = self._labels[outputs]
        return labels

    @torch.inference_mode()
    def features(
        self, images: UInt8[np.ndarray, "B H W 3"], *, batch_size: int = 16
    ) -> Float32[np.ndarray, "B width"]:
        """What the backbone's last stage makes of each picture, as the mean over its places."""
        parts = []
        for start in range(0, len(images), batch_size):
            found = self._network.backbone(self._pixels(images[start : start + batch_size]))
            parts.append(found.feature_maps[-1].mean(dim=(2, 3)).float().cpu().numpy())
        return np.concatenate(parts)

    def _pixels(self, images: UInt8[np.ndarray, "B H W 3"]) -> Float32[torch.Tensor, "B 3 H W"]:
        pixels = torch.from_numpy(np.ascontiguousarray(images)).to(self._device)
        return normalise(pixels.permute(0, 3, 1, 2)).contiguous(memory_format=torch.channels_last)


def save_segmentor(
    folder: Path,
    network: nn.Module,
    shape: Architecture,
    training: dict[str, Any],
    classes: ClassSet | None = None,
) -> None:
    """Writes ``segmentor.safetensors``; it is there whole or not at all.

    Args:
        folder: of the training.
        network: its weights are written.
        shape: written beside them.
        training: how far it was trained, for people.
        classes: that it labels; the default ones where not given.
    """
    record = as_saved(classes or default_classes())
    metadata = {
        "format": _FORMAT,
        "architecture": json.dumps(asdict(shape), sort_keys=True),
        "training": json.dumps(training, sort_keys=True),
        **{name: json.dumps(value, sort_keys=True) for name, value in record.items()},
    }
    # safetensors' save_file would make it private
    write_whole(folder / SEGMENTOR, to_bytes(network.state_dict(), metadata))


def saved_step(folder: Path) -> int | None:
    """Steps that the segmentor in a folder was trained for; None where there is no whole one.

    Args:
        folder: of the training.
    """
    try:
        with safe_open(str(folder / SEGMENTOR), framework="pt") as stored:
            return int(load_plain_json((stored.metadata() or {})["training"])["step"])
    except BROKEN_SAFETENSORS:
        return None


def load_segmentor(path: str | Path, device: str | torch.device = "cpu") -> Segmentor:
    """The segmentor that a training left.

    Args:
        path: the folder of the training, or its ``segmentor.safetensors``.
        device: where it is to run.

    Raises:
        ConfigError: there is none, or it is damaged.
    """
    file = segmentor_file(path)
    shape, classes, weights = _read(file)
    network = build_network(shape, seed=0)
    _give(network, weights, file)
    return Segmentor(network, shape, torch.device(device), classes)


def load_weights(
    network: nn.Module, shape: Architecture, classes: ClassSet, path: str | Path
) -> None:
    """Gives a network of the shape and classes the weights of a segmentor, to go on from them.

    Raises:
        ConfigError: there is none, it is damaged, of another shape or of other classes.
    """
    file = segmentor_file(path)
    found, its_classes, weights = _read(file)
    if its_classes != classes:
        raise ConfigError(
            f"{file} labels the classes {its_classes.identity}, the pictures to train on are of "
            f"{classes.identity}: give --init a segmentor of the same classes, or leave it out"
        )
    if found != shape:
        fields = [k for k, v in asdict(shape).items() if asdict(found)[k] != v]
        raise ConfigError(
            f"{file} must be of the architecture that is to be trained, it differs in "
            f"{', '.join(fields)}: check --size"
        )
    _give(network, weights, file)


def segmentor_file(path: str | Path) -> Path:
    """The weights' file in the folder of a training, or the file itself.

    Raises:
        ConfigError: there is none.
    """
    file = Path(path).expanduser()
    file = file / SEGMENTOR if file.is_dir() else file
    if not file.is_file():
        raise ConfigError(
            f"{file} must be the weights of a segmentor, it does not exist: give the folder that "
            "'ovamgen train --out' wrote to"
        )
    return file


def _read(file: Path) -> tuple[Architecture, ClassSet, dict[str, torch.Tensor]]:
    try:
        with safe_open(str(file), framework="pt") as stored:
            metadata = stored.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ConfigError(
                    f"{file} must be written by 'ovamgen train' (format {_FORMAT}), its format is "
                    f"{metadata.get('format', 'not named')}"
                )
            fields = load_plain_json(metadata["architecture"]).items()
            values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields}
            shape = Architecture(**values)
            _check_shape(shape)
            record = (
                {"classes": load_plain_json(metadata["classes"])} if "classes" in metadata else {}
            )
            weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (no mapping)
    except BROKEN_SAFETENSORS as error:
        raise _unreadable(file, error) from None
    try:
        classes = from_saved(record)
    except ConfigError as error:
        raise _unreadable(file, error) from None
    if shape.num_classes != len(classes) + 1:
        raise ConfigError(
            f"{file} labels {shape.num_classes} classes, and its class set {classes.name} has "
            f"{len(classes) + 1} with the background: give a checkpoint of 'ovamgen train'"
        )
    return shape, classes, weights


def _check_shape(shape: Architecture) -> None:
    """Refuses sizes that no network here has: it would be built, however large, before it is seen.

    Raises:
        ValueError: one of them is none, or out of range.
    """
    sizes = (shape.embedding_size, shape.head_size, shape.num_classes, *shape.hidden_sizes)
    ranges = (
        ("sizes", sizes, _LARGEST_SIZE),
        ("depths", shape.depths, _LARGEST_DEPTH),
        ("pool_scales", shape.pool_scales, _LARGEST_DEPTH),
    )
    for name, values, largest in ranges:
        if not all(type(value) is int and 1 <= value <= largest for value in values):
            raise ValueError(f"{name} must be whole numbers from 1 to {largest}")
    stages = {len(shape.depths), len(shape.hidden_sizes)}
    if stages != {4} or len(shape.pool_scales) > _LARGEST_DEPTH:
        raise ValueError("expected the depths and sizes of 4 stages")
    if shape.layer_type not in ("basic", "bottleneck"):
        raise ValueError(f"expected layer_type basic or bottleneck, got {shape.layer_type!r:.40}")


def _give(network: nn.Module, weights: dict[str, torch.Tensor], file: Path) -> None:
    try:
        network.load_state_dict(weights)
    except RuntimeError as error:
        raise _unreadable(file, error) from None


def _unreadable(file: Path, error: Exception) -> ConfigError:
    reason = " ".join(str(error).split())
    return ConfigError(f"{file} cannot be read as a segmentor: {reason:.300}")
