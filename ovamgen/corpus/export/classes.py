"""What an export says of its labels: names by label, a table with colours and counts, a record."""

from __future__ import annotations

import csv
import io
from collections import Counter

import yaml

from ovamgen.classes.class_entry import BACKGROUND, IGNORE
from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import palette_of
from ovamgen.corpus.open import Corpus


def label_names(classes: ClassSet) -> list[str]:
    """By label, a name that no other label has: for formats that allow no gap between ids."""
    # a class's own name has no space in it
    return [name or f"no class {label}" for label, name in enumerate(classes.label_names)]


def count_targets(corpus: Corpus) -> dict[int, int]:
    """Samples of the corpus by class id; one with several targets counts for each.

    Those that are to show no class count for the background's id.
    """
    counts: Counter[int] = Counter()
    for record in corpus.records:
        lists = corpus.metadata(record, ["class_ids"]).column("class_ids").to_pylist()
        counts.update(class_id for class_ids in lists for class_id in class_ids)
    return dict(sorted(counts.items()))


def class_table(classes: ClassSet, counts: dict[int, int]) -> bytes:
    """CSV of every label that a mask may hold: id, name, phrase, the set's colour, samples."""
    palette = palette_of(classes)
    rows = [(BACKGROUND, "background", "")]
    rows += [(entry.id, entry.name, entry.phrase) for entry in classes.classes]
    rows += [(IGNORE, "ignore", "")]
    buffer = io.StringIO(newline="")
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["id", "name", "phrase", "red", "green", "blue", "samples"])
    for label, name, phrase in rows:
        samples = counts.get(label, 0 if label not in (BACKGROUND, IGNORE) else "")
        writer.writerow([label, name, phrase, *palette[label].tolist(), samples])
    return buffer.getvalue().encode()


def class_file(classes: ClassSet) -> bytes:
    """The set as a class file, which ``--classes`` reads."""
    return yaml.safe_dump(classes.as_record(), sort_keys=False, allow_unicode=True).encode()
