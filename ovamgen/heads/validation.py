"""How well a head finds the objects of pictures that it did not learn from."""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool
from torch import Tensor
from torch.nn.functional import interpolate

from ovamgen.attribution.heads.datasetdm import DatasetDmHead, select_mask
from ovamgen.attribution.heads.grounded import grounded_mask
from ovamgen.attribution.heads.head_file import HeadNetwork
from ovamgen.attribution.heads.running import run_head
from ovamgen.heads.examples import HeadExample
from ovamgen.heads.features import Levels
from ovamgen.masks.iou import count_pixels, iou
from ovamgen.pictures.picture_set import PictureSet
from ovamgen.storage.whole_files import write_whole

VALIDATION = "validation.csv"
_COLUMNS = ("step", "miou")


def score(
    network: HeadNetwork,
    examples: Sequence[HeadExample],
    pictures: PictureSet,
    levels: Callable[[HeadExample], Levels],
    texts: Callable[[HeadExample], Tensor],
) -> float:
    """Mean over the classes of the intersection over union of the head's own decision, [0, 1].

    Each class is counted over all pictures that show it (methods 7.3); the head runs as published,
    one picture and one class at a time.

    Args:
        network: as it is; its state is the same afterwards.
        examples: held-out ones.
        pictures: where they are from.
        levels: features of an example.
        texts: a vector for each of its classes.
    """
    training = network.training
    counts: dict[int, list[int]] = {}
    for example in examples:
        truth = pictures.truth(example.picture)
        given = levels(example)
        for voc, text in zip(example.classes, texts(example), strict=True):
            mask = head_mask(network, given, text, (truth.shape[0], truth.shape[1]))
            pixels = count_pixels(mask, truth, voc.id)
            counts.setdefault(voc.id, [0, 0])
            for place, number in enumerate(pixels):
                counts[voc.id][place] += number
    network.train(training)
    table = np.array([counts[class_id] for class_id in sorted(counts)], np.int64)
    return float(np.nanmean(iou(table[:, 0], table[:, 1])))


def head_mask(
    network: HeadNetwork, levels: Levels, text: Tensor, size: tuple[int, int]
) -> Bool[np.ndarray, "H W"]:
    """What the head takes for the object: the published decision, at the picture's size.

    Args:
        network: either head.
        levels: features of one picture.
        text: one vector.
        size: (height, width) of the picture in pixels.
    """
    if isinstance(network, DatasetDmHead):
        said = run_head(network, "official", levels, text)
        mask = select_mask(said[-1], size).winning_logits > 0
    else:
        logits: Tensor = run_head(network, "official", levels, text[None])
        if tuple(logits.shape[1:]) != size:
            logits = interpolate(logits[None], size=size, mode="bilinear", align_corners=False)[0]
        mask = grounded_mask(logits[0])
    found: np.ndarray = mask.cpu().numpy()
    return found


def write_score(folder: Path, step: int, miou: float) -> None:
    """Adds a score to the table in the folder; rows of later steps, taken again, are dropped."""
    rows = [row for row in read_scores(folder) if row[0] < step]
    lines = [",".join(_COLUMNS), *(f"{at},{value:.6f}" for at, value in (*rows, (step, miou)))]
    write_whole(folder / VALIDATION, ("\n".join(lines) + "\n").encode())


def read_scores(folder: Path) -> list[tuple[int, float]]:
    """Steps and their scores; none where nothing was scored."""
    path = folder / VALIDATION
    if not path.exists():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [(int(row["step"]), float(row["miou"])) for row in csv.DictReader(file)]


def is_due(step: int, steps: int, every: int) -> bool:
    """Whether the held-out pictures are scored after this step."""
    return step == steps or step % every == 0
