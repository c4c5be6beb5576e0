"""Composites as a data set in the layout of PASCAL VOC.

``JPEGImages/NAME.jpg``, ``SegmentationClass/NAME.png`` (mode P, VOC's palette),
``ImageSets/Segmentation/SPLIT.txt``, and ``captions.csv`` beside them.
"""

from __future__ import annotations

import csv
from pathlib import Path

from PIL import Image

from ovamgen.classes.labels import palette_of
from ovamgen.classes.loading import built_in
from ovamgen.errors import ConfigError
from recipes.mini.catalogue import CLASSES
from recipes.mini.composites import Composer
from recipes.mini.sprites import SPLITS, Split, Sprites
from recipes.mini.workspace import require_new

_JPEG_QUALITY = 95
_SEEDS: dict[Split, int] = {"train": 101, "val": 102, "test": 103}


def write_voc(
    folder: Path,
    sprites: Sprites,
    counts: dict[Split, int],
    two_object_share: float = 0.27,
    three_object_share: float = 0.08,
) -> None:
    """Writes the data set: equal arguments, equal bytes.

    Classes take turns as the first object of a picture, so they are balanced. Every split draws
    from sprites of its own, but for classes that have too few (``Sprites.of_split``).

    Args:
        folder: new or empty.
        sprites: all of them.
        counts: pictures of each split; a split that is left out is not written.
        two_object_share: pictures that show two objects.
        three_object_share: pictures that show three.

    Raises:
        ConfigError: the folder holds something, or a split is unknown.
    """
    if unknown := sorted(set(counts) - set(SPLITS)):
        raise ConfigError(f"splits must be among {', '.join(SPLITS)}, got {', '.join(unknown)}")
    require_new(folder)
    images, masks = folder / "JPEGImages", folder / "SegmentationClass"
    lists = folder / "ImageSets" / "Segmentation"
    for path in (images, masks, lists):
        path.mkdir(parents=True)
    palette = palette_of(built_in("voc")).tobytes()
    rows: list[tuple[str, ...]] = []
    for split, count in counts.items():
        composer = Composer(
            sprites=sprites,
            members=sprites.of_split(split),
            seed=_SEEDS[split],
            two_object_share=two_object_share,
            three_object_share=three_object_share,
            overlaps=True,
        )
        names = [f"{split}_{index:06d}" for index in range(count)]
        for index, name in enumerate(names):
            composite = composer.compose(index, class_id=index % len(CLASSES) + 1)
            picture = Image.fromarray(composite.image)
            picture.save(images / f"{name}.jpg", quality=_JPEG_QUALITY, subsampling=0)
            mask = Image.fromarray(composite.labels)
            mask.putpalette(palette)
            mask.save(masks / f"{name}.png", optimize=True)
            classes = [CLASSES[class_id - 1].voc.name for class_id in composite.class_ids]
            rows.append((name, split, composite.caption, ";".join(classes), composite.background))
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names))
    with (folder / "captions.csv").open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "split", "caption", "classes", "background"))
        writer.writerows(rows)
