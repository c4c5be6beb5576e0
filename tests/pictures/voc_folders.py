"""Small folders in VOC's layout: coloured discs and squares whose class is their colour."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.voc import IGNORE, voc_palette

COLOURS = {1: (220, 30, 30), 8: (30, 200, 40), 15: (40, 60, 230), 20: (230, 220, 40)}


def draw(index: int, height: int = 48, width: int = 48) -> tuple[np.ndarray, np.ndarray]:
    """A picture with one disc, its border ignored, and its label map."""
    generator = np.random.default_rng(index)
    class_id = list(COLOURS)[index % len(COLOURS)]
    image = np.full((height, width, 3), 110, np.uint8)
    image += generator.integers(0, 30, image.shape, dtype=np.uint8)
    labels = np.zeros((height, width), np.uint8)
    y, x = generator.uniform(0.35, 0.65, 2) * (height, width)
    rows, columns = np.mgrid[:height, :width]
    distance = np.hypot(rows - y, columns - x)
    radius = min(height, width) * 0.3
    image[distance < radius] = COLOURS[class_id]
    labels[distance < radius] = class_id
    labels[abs(distance - radius) < 0.7] = IGNORE
    return image, labels


def write_voc(root: Path, splits: dict[str, int], height: int = 48, width: int = 48) -> Path:
    """A folder with so many pictures in each split."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True, exist_ok=True)
    start = 0
    for split, count in splits.items():
        names = []
        for index in range(count):
            name = f"{split}_{index:03d}"
            image, labels = draw(start + index, height, width)
            Image.fromarray(image).save(root / "JPEGImages" / f"{name}.jpg", quality=95)
            mask = Image.fromarray(labels)
            mask.putpalette(voc_palette().tobytes())
            mask.save(root / "SegmentationClass" / f"{name}.png")
            names.append(name)
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(names) + "\n")
        start += count
    return root
