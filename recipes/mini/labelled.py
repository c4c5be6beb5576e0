"""What ``ovamgen label`` makes of pictures whose exact masks are known, read off its shards."""

from __future__ import annotations

from pathlib import PurePosixPath

import numpy as np

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.corpus.open import open_corpus
from ovamgen.masks.confusion import ConfusionMatrix
from ovamgen.masks.iou import count_pixels
from ovamgen.mini import voc_place
from ovamgen.pictures.voc import VocFolder
from ovamgen.shards.arrays import decode_png
from ovamgen.shards.codec import MASK
from ovamgen.shards.finished_shard import read_extra_fields


def told(corpus_url: str) -> str:
    """Scores of a corpus of the embedded model's validation pictures, in words.

    Args:
        corpus_url: made by ``ovamgen label`` of ``ovamgen/mini/voc/JPEGImages``.
    """
    corpus = open_corpus(corpus_url)
    truths = VocFolder.open(voc_place("mini"), "val", corpus.classes)
    places = {name: place for place, name in enumerate(truths.names)}
    matrix = ConfusionMatrix(len(corpus.classes.classes) + 1)
    ious: list[float] = []
    present = kept = right = pictures = 0
    for record in corpus.records:
        sources = read_extra_fields(corpus.store, record)
        for key, members, row in corpus.read_with_rows(record):
            name = PurePosixPath(str(sources[key]["picture"])).stem
            truth = truths.read(places[name]).labels
            # the validation pictures have the model's own size, so that nothing was scaled
            labels = decode_png(members[MASK])
            matrix.add(truth, np.where(labels == IGNORE, BACKGROUND, labels).astype(np.uint8))
            shown = set(np.unique(truth).tolist()) - {BACKGROUND, IGNORE}
            found = set(row["class_ids"]) - {BACKGROUND}
            pictures += 1
            present, kept = present + len(shown), kept + len(found)
            right += len(shown & found)
            for target in shown & found:
                both, either = count_pixels(labels == target, truth, target)
                ious.append(both / either if either else 0.0)
    scores = matrix.scores()
    return (
        f"{pictures} pictures; classes: {present} shown, {kept} kept, {right} of these shown "
        f"(precision {right / max(kept, 1):.2f}, recall {right / max(present, 1):.2f}); mean IoU "
        f"of a mask of a class that is shown {np.mean(ious or [0.0]):.3f}; pooled mIoU of the "
        f"classes {scores.miou_foreground:.3f}, with background {scores.miou_with_background:.3f}"
    )
