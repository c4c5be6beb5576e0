"""What consistency with the mirrored picture tells of a mask, where its exact mask is known."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy.stats import spearmanr

from ovamgen.config import build_config
from ovamgen.corpus.select.consistency import ConsistencyScorer
from ovamgen.masks.iou import count_pixels
from ovamgen.pictures.picture_set import open_pictures

MINIMA = (0.0, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)


def consistency_and_iou(strength: float, limit: int | None = None) -> list[dict[str, Any]]:
    """For each picture and class of the validation set: consistency, and IoU with the exact mask.

    Masks are made as a run with `mini` makes them, of the attention of drawing the picture again;
    consistency compares that mask with the one by the mirrored picture.

    Args:
        strength: of both drawings, in (0, 1].
        limit: at most so many pictures.
    """
    config = build_config({"model": {"id": "mini"}, "plan": {"captions": "demo"}, "out": "unused"})
    scorer = ConsistencyScorer.load(config, strength)
    pictures = open_pictures("mini", limit=limit)
    found = []
    for picture in pictures.pictures:
        image, truth = pictures.image(picture), pictures.truth(picture)
        targets = sorted(target.entry.id for target in picture.targets)
        names = [pictures.classes.by_id(target).name for target in targets]
        row = {
            "prompt": picture.prompt,
            "seed": picture.seed,
            "class_ids": targets,
            "class_names": names,
        }
        # of the mirrored picture's mirrored picture: the mask of the picture itself
        made = scorer.by_mirrored(np.ascontiguousarray(image[:, ::-1]), row, targets)
        if made is None:
            continue
        labels = np.ascontiguousarray(made.labels[:, ::-1])
        consistency = scorer.scores(image, labels, row)
        for place, target in enumerate(targets):
            both, either = count_pixels(labels == target, truth, target)
            found.append(
                {
                    "picture": picture.key,
                    "class": names[place],
                    "consistency": consistency[place],
                    "score": made.scores[place],
                    "iou": both / either if either else 0.0,
                }
            )
    return found


def told(rows: list[dict[str, Any]]) -> str:
    """Correlations of ranks, and what is left above each minimum, as Markdown.

    Args:
        rows: of `consistency_and_iou`.
    """
    scores, ious = (np.array([row[name] for row in rows]) for name in ("consistency", "iou"))
    correlation = {
        name: spearmanr([row[name] for row in rows], ious).statistic
        for name in ("consistency", "score")
    }
    text = [
        f"{len(rows)} masks. Rank correlation with the IoU: {correlation['consistency']:.2f}; "
        f"of the mean heatmap inside a mask (`--min-score`): {correlation['score']:.2f}.",
        "",
        "| least consistency | masks kept | mean IoU of those kept | of those left out |",
        "|---|---:|---:|---:|",
    ]
    for least in MINIMA:
        kept = scores >= least
        out = f"{ious[~kept].mean():.3f}" if (~kept).any() else ""
        text.append(f"| {least:g} | {kept.sum()} | {ious[kept].mean():.3f} | {out} |")
    return "\n".join(text)
