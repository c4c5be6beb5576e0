import numpy as np
import pytest

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.loading import built_in
from ovamgen.classes.relabelling import relabelling
from ovamgen.errors import ConfigError

VOC = built_in("voc")


def own(*entries):
    return ClassSet.from_record({"name": "own", "classes": list(entries)})


def test_labels_of_voc_as_those_of_a_set_over_it():
    pets = own(
        {"name": "cat"},
        {"id": 7, "name": "vehicle", "phrases": ["car", "bus"]},
        {"id": 9, "name": "table", "phrase": "dining table"},
    )
    table = relabelling(VOC, pets)
    expected = np.zeros(256, np.uint8)
    expected[[8, 7, 6, 11, 255]] = [1, 7, 7, 9, 255]
    np.testing.assert_array_equal(table, expected)


def test_a_set_is_itself():
    table = relabelling(VOC, VOC)
    np.testing.assert_array_equal(table[:21], np.arange(21))


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([{"name": "cat"}, {"name": "zebra"}], "'zebra' of own is none of them"),
        ([{"name": "vehicle", "phrases": ["car", "tank"]}], "'tank' of vehicle of own is none"),
        (
            [{"name": "cat"}, {"name": "pet", "phrases": ["cat", "dog"], "synonyms": []}],
            "names both|cannot tell them apart",
        ),
    ],
)
def test_what_the_labels_cannot_tell_is_refused(entries, message):
    with pytest.raises(ConfigError, match=message):
        relabelling(VOC, own(*entries))
