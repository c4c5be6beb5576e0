"""Which words name a class, and which only look as if they did."""

import string

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovamgen.classes.voc import VOC_CLASSES, class_by_id, class_by_name, find_classes, voc_palette
from ovamgen.errors import ConfigError
from ovamgen.records import Target

# Written out here a second time, from VOC's and COCO's documentation.
VOC_NAMES = """
aeroplane bicycle bird boat bottle bus car cat chair cow diningtable dog horse motorbike person
pottedplant sheep sofa train tvmonitor"""
COCO_NAMES = """
airplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow,dining table,dog,horse,motorcycle,person,\
potted plant,sheep,couch,train,tv"""
AUTHORS_NAMES = """
aeroplane bicycle bird boat bottle bus car cat chair cow dining-table dog horse motorbike person
potted-plant sheep sofa train tv"""


def named(text):
    return [mention.voc_class.name for mention in find_classes(text)]


def test_ids_and_names():
    assert [voc.id for voc in VOC_CLASSES] == list(range(1, 21))
    assert [voc.name for voc in VOC_CLASSES] == VOC_NAMES.split()
    assert [voc.coco_name for voc in VOC_CLASSES] == COCO_NAMES.strip().split(",")
    assert {voc.name: voc.phrase for voc in VOC_CLASSES if voc.phrase != voc.name} == {
        "diningtable": "dining table",
        "pottedplant": "potted plant",
        "tvmonitor": "tv",
    }
    assert [class_by_id(voc.id) for voc in VOC_CLASSES] == list(VOC_CLASSES)
    assert class_by_id(11).target() == Target(
        class_id=11, class_name="diningtable", phrase="dining table"
    )


@pytest.mark.parametrize("class_id", [0, 21, -1, 255])
def test_unknown_ids(class_id):
    with pytest.raises(ConfigError, match=str(class_id)):
        class_by_id(class_id)


def test_the_authors_names_are_understood():
    authors = AUTHORS_NAMES.split()
    assert [voc.hyphenated for voc in VOC_CLASSES] == authors
    assert [class_by_name(name).hyphenated for name in authors] == authors


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("TVs", "tvmonitor"),
        ("television", "tvmonitor"),
        ("Dining_Tables", "diningtable"),
        ("pottedplant", "pottedplant"),
        ("couch", "sofa"),
        ("Airplane", "aeroplane"),
        ("people", "person"),
        (" motor-bike ", "motorbike"),
    ],
)
def test_names_and_synonyms(text, name):
    assert class_by_name(text).name == name


def test_every_name_of_every_class_is_understood():
    for voc in VOC_CLASSES:
        for name in (voc.name, voc.phrase, voc.coco_name, voc.hyphenated, voc.name.upper()):
            assert class_by_name(name) is voc


@pytest.mark.parametrize(
    ("text", "hint"),
    [("aeroplan", "'aeroplane'"), ("sofaa", "'sofa'"), ("giraffe", "known are"), ("", "known are")],
)
def test_unknown_names_get_the_nearest(text, hint):
    with pytest.raises(ConfigError) as caught:
        class_by_name(text)
    assert f"'{text}'" in str(caught.value)
    assert hint in str(caught.value)


def test_messages_are_one_line():
    with pytest.raises(ConfigError) as caught:
        class_by_name("a\nb" * 1000)
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
    for voc in VOC_CLASSES:
        for phrase in (voc.name, voc.phrase, voc.coco_name):
            assert named(f"There is a {phrase} here") == [voc.name]
            if voc.name not in ("bus", "sheep"):
                plural = f"{phrase}es" if phrase == "couch" else f"{phrase}s"
                assert named(f"Many {plural.upper()}.") == [voc.name]


def test_places_are_of_the_text():
    text = "İ A dog, a Dining-Table and TVs"
    places = [(text[m.start : m.end], m.voc_class.name) for m in find_classes(text)]
    assert places == [("dog", "dog"), ("Dining-Table", "diningtable"), ("TVs", "tvmonitor")]


@given(st.text(max_size=80))
def test_mentions_lie_in_the_text_in_order(text):
    mentions = find_classes(text)
    edges = [edge for mention in mentions for edge in (mention.start, mention.end)]
    assert edges == sorted(edges)
    for mention in mentions:
        # A mention taken alone is a mention: places are those of the words.
        assert class_by_name(text[mention.start : mention.end]) is mention.voc_class


@given(
    voc=st.sampled_from(VOC_CLASSES),
    before=st.text(string.ascii_lowercase, min_size=1, max_size=6),
    after=st.text("bcdfgjkpqvxz", min_size=1, max_size=6),
)
def test_only_whole_words_count(voc, before, after):
    glued = before + voc.name + after
    assert voc.name not in named(glued)


def test_palette_is_vocs():
    palette = voc_palette()
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
