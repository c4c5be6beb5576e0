"""Scores of other classes than VOC's: names, gaps between ids, and sets of many."""

import numpy as np
import pytest

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import built_in, default_classes
from ovamgen.config import build_config
from ovamgen.errors import ConfigError
from ovamgen.evaluate.scoring import Counts, iou_table, miou_difference, miou_over_tau
from ovamgen.evaluate.setups import configure
from ovamgen.evaluate.table_s1 import make_table
from ovamgen.evaluate.table_s1_settings import build_table_settings
from ovamgen.evaluate.tables import absent_note, class_table, rows_by_class, score_head
from ovamgen.pictures.picture_set import open_pictures
from tests.evaluate.conftest import tiny
from tests.own_classes import YARD

PETS = ClassSet.from_record(
    {"name": "pets", "classes": [{"id": 3, "name": "dog"}, {"id": 90, "name": "cat"}]}
)


def counts(classes, *rows):
    """Rows of (key, class id, intersection, union)."""
    keys, ids, hits, unions = zip(*rows, strict=True)
    return Counts(
        classes=classes,
        keys=tuple(keys),
        class_ids=np.array(ids, np.int64),
        included=np.ones(len(rows), bool),
        intersections=np.array(hits, np.int64),
        unions=np.array(unions, np.int64),
    )


def test_a_table_of_ids_with_gaps():
    """Forklift 2 / 4, vehicle (1 + 3) / (5 + 5); no pallet."""
    rows = counts(YARD, ("a", 1, 2, 4), ("a", 254, 1, 5), ("b", 254, 3, 5))
    table = iou_table(rows, draws=20)
    found = {name: interval.value for name, interval in table.per_class.items()}
    assert found == {"forklift": 0.5, "vehicle": 0.4}
    assert (table.absent, table.miou.value) == (("pallet",), pytest.approx(0.45))
    text = class_table({"all": table})
    head = "| word in the prompt | forklift | wooden pallet | vehicle | mIoU | overall | pictures |"
    assert text.splitlines()[0] == head
    assert "no pixel of pallet is in any truth" in absent_note(table)
    mious = miou_over_tau(rows, np.array([[2], [1], [3]]), np.array([[4], [5], [5]]))
    assert mious.tolist() == pytest.approx([0.45])
    assert miou_difference(rows, rows, draws=20).value == 0


def test_of_many_classes_those_that_occur_have_a_row_each():
    coco = built_in("coco")
    table = iou_table(counts(coco, ("a", 1, 1, 2), ("b", 80, 1, 4)), draws=20)
    assert score_head(coco) == ["mIoU", "overall", "pictures"]
    text = class_table({"not included": table, "all": table})
    assert max(map(len, text.splitlines())) < 120
    assert "| person | 50.0 | 50.0 |" in text
    assert "| toothbrush | 25.0 | 25.0 |" in text
    assert len(rows_by_class({"all": table}).splitlines()) == 2 + 2
    assert absent_note(table).count(",") < 30
    assert rows_by_class({"all": iou_table(counts(YARD, ("a", 1, 1, 2)), draws=20)}) == ""


def test_vocs_pictures_are_scored_for_the_classes_that_are_asked_for(voc_folder):
    pictures = open_pictures(voc_folder, classes=PETS)
    assert {target.entry.id for p in pictures.pictures for target in p.targets} == {3, 90}
    asked = {"model": tiny().model.model_dump(), "attribution": {"tokens": "words"}}
    config = configure(pictures, asked, build_config)
    assert config.classes == PETS
    with pytest.raises(ConfigError, match=r"classes voc .*configuration is of pets .*--classes"):
        configure(
            open_pictures(voc_folder), asked, lambda given: build_config(given, {"classes": PETS})
        )
    with pytest.raises(ConfigError, match="of the classes voc, and 'forklift' of yard is none"):
        open_pictures(voc_folder, classes=YARD)


def test_the_papers_table_is_of_vocs_classes(voc_folder, tmp_path):
    settings = build_table_settings(
        {
            "generate": {"classes": YARD.as_record(), "plan": {"captions": "demo"}},
            "voc": str(voc_folder),
            "rows": [{"name": "words", "tokens": "words"}],
        }
    )
    with pytest.raises(ConfigError, match="of VOC's classes, its runs are to be of yard"):
        make_table(settings, tmp_path / "table")
    assert not (tmp_path / "table").exists()
    assert default_classes() != YARD
