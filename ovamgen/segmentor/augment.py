"""Random scale, crop, mirroring and colours of a picture and its label map; pasted objects."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, UInt8
from PIL import Image

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.segmentor.settings import AugmentSettings

MEAN_RGB = (0.485, 0.456, 0.406)
STD_RGB = (0.229, 0.224, 0.225)
"""ImageNet's, in [0, 1]: what backbones with published weights were trained with."""

_FILL = tuple(round(255 * value) for value in MEAN_RGB)
"""Around pictures that are smaller than the crop: zero for the network, ignored in the labels."""

_LUMINANCE = np.array([0.299, 0.587, 0.114], np.float32)
"""ITU-R BT.601."""


def augment(
    image: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "H W"],
    crop_px: int,
    settings: AugmentSettings,
    generator: np.random.Generator,
) -> tuple[UInt8[np.ndarray, "{crop_px} {crop_px} 3"], UInt8[np.ndarray, "{crop_px} {crop_px}"]]:
    """A random crop of the scaled picture with its labels, which stay exact class ids.

    Args:
        image: RGB.
        labels: of the same height and width.
        crop_px: height and width of the result; what lies outside of the picture is 255.
        settings: how much of what.
        generator: the only source of chance.
    """
    low, high = math.log(settings.scale_low), math.log(settings.scale_high)
    factor = math.exp(generator.uniform(low, high))
    corner = generator.uniform(size=2)
    image, labels = _scaled_crop(image, labels, crop_px, factor, corner)
    if settings.flip and generator.uniform() < 0.5:
        image, labels = image[:, ::-1], labels[:, ::-1]
    image = _jitter(image, settings, generator)
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def paste_objects(
    image: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "H W"],
    other_image: UInt8[np.ndarray, "H W 3"],
    other_labels: UInt8[np.ndarray, "H W"],
) -> tuple[UInt8[np.ndarray, "H W 3"], UInt8[np.ndarray, "H W"]]:
    """The picture with the objects of another one in front, and the labels of what is then seen.

    Its background and ignored pixels are not pasted. Edges are not blended, which Ghiasi et al.
    found to make no difference (Simple Copy-Paste, CVPR 2021).
    """
    objects = (other_labels != BACKGROUND) & (other_labels != IGNORE)
    pasted = np.where(objects[..., None], other_image, image)
    return pasted, np.where(objects, other_labels, labels)


def _scaled_crop(
    image: UInt8[np.ndarray, "H W 3"],
    labels: UInt8[np.ndarray, "H W"],
    crop_px: int,
    factor: float,
    corner: np.ndarray,
) -> tuple[np.ndarray, np.ndarray]:
    """Scale and crop in one resampling: only what is seen is computed.

    ``corner``, two numbers in [0, 1), chooses among the places of the crop; where the scaled
    picture is smaller than the crop, among the places of the picture in it.
    """
    canvas = np.empty((crop_px, crop_px, 3), np.uint8)
    canvas[:] = _FILL
    canvas_labels = np.full((crop_px, crop_px), IGNORE, np.uint8)
    windows, boxes = [], []
    for length, chance in zip(labels.shape, corner, strict=True):
        scaled = max(1, round(length * factor))
        shown = min(scaled, crop_px)
        start = int(chance * (scaled - shown + 1))
        inset = int(chance * (crop_px - shown + 1))
        windows.append(slice(inset, inset + shown))
        boxes.append((start * length / scaled, (start + shown) * length / scaled))
    (top, bottom), (left, right) = boxes
    rows, columns = windows
    size = columns.stop - columns.start, rows.stop - rows.start
    box = (left, top, right, bottom)
    canvas[rows, columns] = np.asarray(
        Image.fromarray(image).resize(size, Image.Resampling.BILINEAR, box=box)
    )
    canvas_labels[rows, columns] = np.asarray(
        Image.fromarray(labels).resize(size, Image.Resampling.NEAREST, box=box)
    )
    return canvas, canvas_labels


def _jitter(
    image: UInt8[np.ndarray, "H W 3"], settings: AugmentSettings, generator: np.random.Generator
) -> UInt8[np.ndarray, "H W 3"]:
    """Brightness, contrast, saturation and hue, all of them linear: one product for each pixel."""
    brightness, contrast, saturation = generator.uniform(
        1 - settings.jitter, 1 + settings.jitter, size=3
    )
    turn = generator.uniform(-settings.hue, settings.hue)
    if not settings.jitter and not settings.hue:
        return image
    values = image.astype(np.float32)
    colours = _hue_matrix(turn)
    colours = saturation * colours + (1 - saturation) * np.outer(np.ones(3), _LUMINANCE)
    matrix = (brightness * contrast * colours).astype(np.float32)
    middle = float(values.reshape(-1, 3).mean(axis=0) @ _LUMINANCE)
    shift = np.float32(brightness * (1 - contrast) * middle)
    mixed = values.reshape(-1, 3) @ matrix.T + shift
    return np.rint(mixed.clip(0, 255)).astype(np.uint8).reshape(image.shape)


def _hue_matrix(turn: float) -> Float32[np.ndarray, "3 3"]:
    """RGB to RGB of another hue: a rotation of the two colour axes of YIQ; grey stays grey."""
    to_yiq = np.array([_LUMINANCE, [0.5959, -0.2746, -0.3213], [0.2115, -0.5227, 0.3112]])
    angle = 2 * math.pi * turn
    rotation = np.array(
        [
            [1, 0, 0],
            [0, math.cos(angle), -math.sin(angle)],
            [0, math.sin(angle), math.cos(angle)],
        ]
    )
    return (np.linalg.inv(to_yiq) @ rotation @ to_yiq).astype(np.float32)
