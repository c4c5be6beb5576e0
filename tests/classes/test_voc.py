"""Which words name a class of VOC, and which only look as if they did."""

import json
import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.classes.labels import palette_of, target_of
from ovamgen.classes.loading import built_in
from ovamgen.errors import ConfigError
from ovamgen.records import Target

VOC = built_in("voc")

# Written out here a second time, from VOC's and COCO's documentation.
VOC_NAMES = """
aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
pottedplant sheep sofa train tvmonitor"""
COCO_NAMES = """
airplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,dining table,dog,horse,motorcycle,person,\
potted plant,sheep,couch,train,tv"""


def named(text):
    return [mention.entry.name for mention in VOC.find(text)]


def test_ids_and_names():
    assert [entry.id for entry in VOC.classes] == list(range(1, 21))
    assert [entry.name for entry in VOC.classes] == VOC_NAMES.split()
    for entry, name in zip(VOC.classes, COCO_NAMES.strip().split(","), strict=True):
        assert name in entry.coco_names
    assert {entry.name: entry.phrase for entry in VOC.classes if entry.phrase != entry.name} == {
        "diningtable": "dining table",
        "pottedplant": "potted plant",
        "tvmonitor": "tv",
    }
    assert [VOC.by_id(entry.id) for entry in VOC.classes] == list(VOC.classes)
    assert target_of(VOC.by_id(11)) == Target(
        class_id=11, class_name="diningtable", phrase="dining table"
    )


@pytest.mark.parametrize("class_id", [0, 21, -1, 255])
def test_unknown_ids(class_id):
    with pytest.raises(ConfigError, match=f"from 1 to 20, got {class_id}"):
        VOC.by_id(class_id)


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("TVs", "tvmonitor"),
        ("television", "tvmonitor"),
        ("Dining_Tables", "diningtable"),
        ("dining-table", "diningtable"),
        ("pottedplant", "pottedplant"),
        ("couch", "sofa"),
        ("Airplane", "aeroplane"),
        ("people", "person"),
        (" motor-bike ", "motorbike"),
    ],
)
def test_names_and_synonyms(text, name):
    assert VOC.by_name(text).name == name


@pytest.mark.parametrize(
    ("text", "hint"),
    [("aeroplan", "'aeroplane'"), ("sofaa", "'sofa'"), ("zebra", "known are"), ("", "known are")],
)
def test_unknown_names_get_the_nearest(text, hint):
    with pytest.raises(ConfigError) as caught:
        VOC.by_name(text)
    assert f"'{text}'" in str(caught.value)
    assert hint in str(caught.value)


def test_messages_are_one_line():
    with pytest.raises(ConfigError) as caught:
        VOC.by_name("a\nb" * 1000)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a hot dog with mustard", []),
        ("Hot-dogs and corn dogs", []),
        ("a teddy bear", []),
        ("a television next to a tv", ["tvmonitor", "tvmonitor"]),
        ("a T.V. on the wall", ["tvmonitor"]),
        ("two TV's", ["tvmonitor"]),
        ("a man with children", ["person", "person"]),
        ("a catch at the cart, a bush and a hotdog", []),
        ("cats, dogs; buses and couches!", ["cat", "dog", "bus", "sofa"]),
        ("geese, oxen, puppies, aircraft", ["bird", "cow", "dog", "aeroplane"]),
        ("dining tables", ["diningtable"]),
        ("a table and a plant", []),
        ("a dining room table with chairs", ["diningtable", "chair"]),
        ("potted plants in a row", ["pottedplant"]),
        ("people at a bus stop by the train tracks", ["person"]),
        ("the bus stops here", ["bus"]),
        ("a bus driver", ["person"]),
        ("two train cars and a cable car", ["train"]),
        ("a car park", []),
        ("a car, park it", ["car"]),
        ("motor-bikes and dirt bikes", ["motorbike", "motorbike"]),
        ("a bike rack with one bike", ["bicycle"]),
        ("a sheep dog with sheep", ["dog", "sheep"]),
        ("a cowboy on a cow boy", ["person", "person"]),
        ("a toy train, a stuffed dog and a horse statue", []),
        ("baby elephant and a baby", ["person"]),
        ("a bird's eye view, a bird’s eye view", []),
        ("a dvd player and a tennis player", ["person"]),
        ("women's restroom", []),
        ("the man's dog", ["person", "dog"]),
        ("human", ["person"]),
        ("passenger jets with passengers", ["aeroplane", "person"]),
        ("a flat-screen", ["tvmonitor"]),
        ("", []),
        ("!?", []),
    ],
)
def test_mentions(text, expected):
    assert named(text) == expected


def test_every_phrase_and_its_plural_is_a_mention():
    for entry in VOC.classes:
        for phrase in entry.names:
            assert named(f"There is a {phrase} here") == [entry.name]
            if entry.name not in ("bus", "sheep"):
                plural = f"{phrase}es" if phrase == "couch" else f"{phrase}s"
                assert named(f"Many {plural.upper()}.") == [entry.name]


def test_places_are_of_the_text():
    text = "İ A dog, a Dining-Table and TVs"
    places = [(text[m.start : m.end], m.entry.name) for m in VOC.find(text)]
    assert places == [("dog", "dog"), ("Dining-Table", "diningtable"), ("TVs", "tvmonitor")]


@given(
    entry=st.sampled_from(VOC.classes),
    before=st.text(string.ascii_lowercase, min_size=1, max_size=6),
    after=st.text("bcdfgjkpqvxz", min_size=1, max_size=6),
)
def test_only_whole_words_count(entry, before, after):
    assert entry.name not in named(before + entry.name + after)


def test_captions_of_coco_name_what_they_always_named(repository):
    """394 captions of COCO val2017 (CC BY 4.0) that hold every word and compound found in them.

    The mentions were written by the matcher that knew VOC alone, before class sets.
    """
    rows = json.loads((repository / "tests/classes/voc_mentions.json").read_text("utf-8"))
    assert len(rows) == 394
    for _, caption, mentions in rows:
        assert [[m.entry.id, m.start, m.end] for m in VOC.find(caption)] == mentions, caption


def test_palette_is_vocs():
    palette = palette_of(VOC)
    known = {
        0: (0, 0, 0),
        1: (128, 0, 0),
        2: (0, 128, 0),
        3: (128, 128, 0),
        8: (64, 0, 0),
        15: (192, 128, 128),
        20: (0, 64, 128),
        255: (224, 224, 192),
    }
    assert {index: tuple(palette[index].tolist()) for index in known} == known
    assert len(np.unique(palette, axis=0)) == 256
