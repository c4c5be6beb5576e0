"""The class table of an export: ids, names, colours, and how many samples show a class."""

from __future__ import annotations

import csv
import io
from collections import Counter

from ovamgen.classes.voc import BACKGROUND, IGNORE, VOC_CLASSES, voc_palette
from ovamgen.corpus.open import Corpus

NAMES = ("background", *(voc_class.name for voc_class in VOC_CLASSES))
"""By label, 0 to 20."""


def count_targets(corpus: Corpus) -> dict[int, int]:
    """Samples of the corpus by class id; one with several targets counts for each."""
    counts: Counter[int] = Counter()
    for record in corpus.records:
        lists = corpus.metadata(record, ["class_ids"]).column("class_ids").to_pylist()
        counts.update(class_id for class_ids in lists for class_id in class_ids)
    return dict(sorted(counts.items()))


def class_table(counts: dict[int, int]) -> bytes:
    """CSV of every label that a mask may hold: id, name, phrase, VOC's colour, samples."""
    palette = voc_palette()
    rows = [(BACKGROUND, "background", "")]
    rows += [(voc_class.id, voc_class.name, voc_class.phrase) for voc_class in VOC_CLASSES]
    rows += [(IGNORE, "ignore", "")]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["id", "name", "phrase", "red", "green", "blue", "samples"])
    for label, name, phrase in rows:
        samples = counts.get(label, 0) if label not in (BACKGROUND, IGNORE) else ""
        writer.writerow([label, name, phrase, *palette[label].tolist(), samples])
    return buffer.getvalue().encode()
