"""A blind look: pictures in random order under numbers, and the names that somebody gives them.

The sheet tells nothing of what was asked for; the key lies apart, and is opened only to score.
"""

from __future__ import annotations

import csv
import random
from collections import Counter
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import SampleFolder
from recipes.mini.captions import names_of
from recipes.mini.catalogue import CLASSES

_COLUMNS = ("number", "key", "class_name")
_PER_ROW = 10
_LABEL_PX = 16
NOTHING = "?"
"""What a guess says where nothing can be made out."""


def draw_blind_sheet(
    folder: SampleFolder, sheet: Path, key: Path, *, count: int, seed: int
) -> None:
    """Writes the sheet (PNG) and its key (CSV: number, key of the sample, class asked for).

    Pictures are drawn from all of the folder's, so classes have no equal shares to count on.

    Raises:
        ConfigError: the folder has fewer pictures, or one of them is missing or damaged.
    """
    if len(folder.samples) < count:
        raise ConfigError(
            f"the sheet needs {count} pictures, {folder.root} has {len(folder.samples)}: give a "
            "smaller --count, or draw more"
        )
    chosen = random.Random(seed).sample(folder.samples, count)
    images = [Image.fromarray(folder.image(sample)) for sample in chosen]
    width, height = (max(sides) for sides in zip(*(image.size for image in images), strict=True))
    rows = -(-count // _PER_ROW)
    page = Image.new("RGB", (width * _PER_ROW, (height + _LABEL_PX) * rows), (255, 255, 255))
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(_LABEL_PX - 3)
    for index, image in enumerate(images):
        row, column = divmod(index, _PER_ROW)
        left, top = column * width, row * (height + _LABEL_PX)
        draw.text((left + 2, top), str(index + 1), fill=(0, 0, 0), font=font)
        page.paste(image, (left, top + _LABEL_PX))
    for path in (sheet, key):
        path.parent.mkdir(parents=True, exist_ok=True)
    page.save(sheet)
    with key.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(_COLUMNS)
        writer.writerows(
            (number, sample.key, sample.class_name) for number, sample in enumerate(chosen, start=1)
        )


def score_guesses(key: Path, guesses: Path) -> dict[str, Any]:
    """How many pictures were named right, of all in the key, by class and with the mistakes.

    Args:
        key: what `draw_blind_sheet` wrote.
        guesses: a line a picture, its number and a name (any of a caption's: ``tv``,
            ``motorcycle``), or ``?``; empty lines and what follows ``#`` are passed over.

    Raises:
        ConfigError: a line that is no guess, a number twice, or one that the sheet lacks.
    """
    with _opened(key) as file:
        wanted = {int(row["number"]): row["class_name"] for row in csv.DictReader(file)}
    named = _read_guesses(guesses, wanted)
    right: Counter[str] = Counter()
    mistakes: Counter[str] = Counter()
    for number, class_name in wanted.items():
        guess = named.get(number, NOTHING)
        right[class_name] += guess == class_name
        if guess != class_name:
            mistakes[f"{class_name} taken for {'nothing' if guess == NOTHING else guess}"] += 1
    totals = Counter(wanted.values())
    return {
        "pictures": len(wanted),
        "named_right": right.total(),
        "without_a_guess": len(wanted) - len(named),
        "by_class": {name: f"{right[name]}/{totals[name]}" for name in sorted(totals)},
        "mistakes": dict(mistakes.most_common()),
    }


def _read_guesses(path: Path, wanted: dict[int, str]) -> dict[int, str]:
    known = {name: entry.voc.name for entry in CLASSES for name in names_of(entry)}
    named: dict[int, str] = {}
    with _opened(path) as file:
        for line_number, line in enumerate(file, start=1):
            words = line.split("#")[0].lower().split()
            if not words:
                continue
            number, name = words[0].rstrip(".:,"), " ".join(words[1:])
            if not number.isdecimal() or (name not in known and name != NOTHING):
                raise ConfigError(
                    f"{path}, line {line_number}: expected a number and the name of a class or "
                    f"'{NOTHING}', got '{line.strip()[:80]}'"
                )
            if int(number) not in wanted or int(number) in named:
                what = "was guessed before" if int(number) in named else "is not on the sheet"
                raise ConfigError(f"{path}, line {line_number}: picture {number} {what}")
            named[int(number)] = known.get(name, NOTHING)
    return named


def _opened(path: Path) -> Any:
    try:
        return path.open(newline="", encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from None
