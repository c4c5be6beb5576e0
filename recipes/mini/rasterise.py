"""Icons as square RGBA sprites: the only part of the recipe that needs ``resvg-py``.

Knows SVG and pixels; which sprites there are is said in ``catalogue``.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import resvg_py
from PIL import Image

from ovamgen.errors import ConfigError
from recipes.mini.catalogue import CLASSES, ICON_SETS, LEFT_OUT_SPRITES, WITHOUT_POT
from recipes.mini.drawings import DRAWN, put_in_pot
from recipes.mini.fetch import fetch, read_icons
from recipes.mini.sprites import SPRITE_SIDE, Sprites

_ALPHA_FLOOR = 24
"""Paler pixels do not count for the crop: soft shadows would shrink the object."""


def make_sprites(archives: Path) -> Sprites:
    """The sprites of all classes, from the tarballs in ``archives`` (fetched where missing).

    Raises:
        ConfigError: a tarball cannot be had or is not the pinned one.
    """
    collections = {
        icons.name: read_icons(archive)
        for icons, archive in zip(ICON_SETS, fetch(archives), strict=True)
    }
    names: list[str] = []
    class_ids: list[int] = []
    images: list[Image.Image] = []
    for class_id, entry in enumerate(CLASSES, start=1):
        draw = DRAWN.get(entry.voc.name, list)
        noun = entry.voc.phrase.replace(" ", "-")
        found = [(f"drawn/{noun}-{i:02d}", crop(image)) for i, image in enumerate(draw())]
        for icon in entry.icons:
            found += [
                (f"{set_name}/{icon}", image)
                for set_name, collection in collections.items()
                if f"{set_name}/{icon}" not in LEFT_OUT_SPRITES
                and (image := rasterise(collection, icon)) is not None
            ]
        for number, (name, image) in enumerate(found):
            potted = name.split("/")[1] in WITHOUT_POT
            names.append(name)
            class_ids.append(class_id)
            images.append(crop(put_in_pot(image, number)) if potted else image)
    return Sprites(
        names=tuple(names),
        class_ids=np.array(class_ids, np.int64),
        pixels=np.stack([np.asarray(image) for image in images]),
    )


def rasterise(collection: dict[str, Any], icon: str) -> Image.Image | None:
    """The icon as a cropped RGBA sprite, or None where the collection (Iconify JSON) lacks it."""
    icons, aliases = collection["icons"], collection.get("aliases", {})
    if icon not in icons:
        icon = aliases.get(icon, {}).get("parent", icon)
    if icon not in icons:
        return None
    data = icons[icon]
    width = data.get("width", collection.get("width", 16))
    height = data.get("height", collection.get("height", 16))
    box = f"{data.get('left', 0)} {data.get('top', 0)} {width} {height}"
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{box}" width="{2 * SPRITE_SIDE}" height="{2 * SPRITE_SIDE}">{data["body"]}</svg>'
    )
    png = bytes(resvg_py.svg_to_bytes(svg_string=svg))
    return crop(Image.open(io.BytesIO(png)).convert("RGBA"))


def crop(image: Image.Image) -> Image.Image:
    """The object of an RGBA image, as large as it fits, centred in a square of ``SPRITE_SIDE``."""
    ys, xs = np.nonzero(np.asarray(image)[..., 3] > _ALPHA_FLOOR)
    if not len(ys):
        raise ConfigError("a sprite must show something, got a transparent image")
    image = image.crop((int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1))
    ratio = SPRITE_SIDE / max(image.size)
    width, height = (max(1, round(side * ratio)) for side in image.size)
    image = image.resize((width, height), Image.Resampling.LANCZOS)
    square = Image.new("RGBA", (SPRITE_SIDE, SPRITE_SIDE))
    square.paste(image, ((SPRITE_SIDE - width) // 2, (SPRITE_SIDE - height) // 2))
    return square
