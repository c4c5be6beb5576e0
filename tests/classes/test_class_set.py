"""A set of classes as a value: what it refuses, how it is saved, what it finds."""

import json
import pickle

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import palette_of
from ovamgen.classes.loading import built_in
from ovamgen.classes.phrases import words_of
from ovamgen.errors import ConfigError
from tests.classes.class_sets import WORDS, records, refused

YARD = {
    "name": "yard",
    "classes": [
        {"name": "forklift", "synonyms": ["fork-lift truck", "lift truck"], "colour": "#FF8800"},
        {"name": "pallet", "not": ["pallet knife"]},
        {"name": "vehicle", "phrases": ["car", "bus", "truck"]},
        {"name": "person", "synonyms": ["worker", "man", "woman", "child"], "id": 9},
        {"name": "hard-hat", "synonyms": ["safety helmet/cap"], "not_forms": ["hard hat area"]},
    ],
}


def yard():
    return ClassSet.from_record(YARD)


def named(classes, text):
    return [mention.entry.name for mention in classes.find(text)]


def test_what_is_not_given_follows():
    classes = yard()
    assert [entry.id for entry in classes.classes] == [1, 2, 3, 9, 10]
    assert classes.labels == 11
    assert len(classes) == 5
    hat = classes.by_id(10)
    assert hat.phrase == "hard hat"
    assert hat.synonyms == ("safety helmet", "safety cap")
    assert classes.by_id(1).with_article == "a forklift"
    assert built_in("coco").by_name("scissors").with_article == "a pair of scissors"
    assert built_in("voc").by_id(1).with_article == "an aeroplane"


def test_several_phrases_are_attributed():
    classes = yard()
    assert classes.by_name("vehicle").attributed == ("car", "bus", "truck")
    assert classes.by_name("pallet").attributed == ("pallet",)
    assert {"car", "bus", "truck"} <= set(classes.by_name("vehicle").coco_names)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Two Forklifts and fork-lift trucks", ["forklift", "forklift"]),
        ("a pallet knife on a pallet", ["pallet"]),
        ("a truck; lift trucks", ["vehicle", "forklift"]),
        ("workers, women, a child and children", ["person"] * 4),
        ("a hard hat area without hard hats", ["hard-hat"]),
        ("a toy truck by a bus statue", []),
        ("palletcar", []),
    ],
)
def test_mentions(text, expected):
    assert named(yard(), text) == expected


def test_written_words_win_over_made_plurals():
    eyewear = {"name": "eyewear", "synonyms": ["glasses"]}
    classes = ClassSet.from_record({"name": "a", "classes": [{"name": "glass"}, eyewear]})
    assert named(classes, "a glass and glasses") == ["glass", "eyewear"]


def test_a_class_may_give_up_its_own_name():
    record = {"name": "a", "classes": [{"name": "orange", "not_forms": ["orange"]}]}
    classes = ClassSet.from_record(record)
    assert named(classes, "an orange wall and oranges") == ["orange"]
    assert classes.by_name("orange").id == 1


@pytest.mark.parametrize(
    ("classes", "expected"),
    [
        ([], "at least one class"),
        ([{"name": f"c{i}"} for i in range(255)], "at most 254 classes, since masks have eight"),
        ([{"name": "cat"}, {"name": "Cat"}], "two classes have the name 'Cat'"),
        (
            [{"name": "a", "id": 2}, {"name": "b", "id": 2}],
            "two classes have the id 2: a (2) and b",
        ),
        ([{"name": "a", "id": 0}], "class 'a': the id of a class must be from 1 to 254"),
        ([{"name": "a", "id": 255}], "255 is ignored), got 255"),
        ([{"name": "a", "id": "3"}], "id: input should be a valid integer, got '3'"),
        ([{"name": "a", "id": True}], "id: input should be a valid integer, got True"),
        (
            [{"name": "car", "synonyms": ["taxi"]}, {"name": "cab", "synonyms": "taxi"}],
            "'taxi' names both car and cab",
        ),
        ([{"name": "axe"}, {"name": "axis"}], "'axes' names both axe and axis"),
        ([{"name": "hot dog"}], "a name must be one word"),
        ([{"name": "../x"}], "a name must be one word"),
        ([{"name": "background"}], "background is a label that every set has"),
        ([{"name": "a", "synonym": ["b"]}], "unknown key 'synonym': did you mean 'synonyms'?"),
        ([{"name": "a", "no": ["b"]}], "unknown key 'no': did you mean 'not' or"),
        ([{"name": "a", "colour": "red"}], "must be written as '#ff8800', got 'red'"),
        ([{"name": "a", "colour": None}], "quote it ('#ff8800')"),
        ([{"name": "a", "colour": 5}], "colour: input should be a valid string, got 5"),
        ([{"name": 5}], "class 1: name: input should be a valid string, got 5"),
        ([{"name": "a", "synonyms": 3}], "synonyms: input should be a list, got 3"),
        ([{"name": "a", "synonyms": [3]}], "should be a valid string, got 3"),
        ([{"name": "a", "synonyms": ["?!"]}], "a phrase must have letters or digits"),
        ([{"name": "a", "synonyms": ["x\x00y"]}], "nothing unprintable"),
        ([{"name": "a", "synonyms": ["x " * 13]}], "at most 12 words"),
        ([{"name": "a", "synonyms": ["a/b/c/d/e/f/g/h " * 8]}], "at most 10000 phrases"),
        ([{"name": "a", "article": "x" * 101}], "an article must be a few words"),
        (["cat"], "class 1: input should be a mapping such as {name: pallet}, got 'cat'"),
        ([{}], "class 1: key 'name' must be given"),
        ({"cat": {}}, "classes: input should be a list"),
        (None, "classes: input should be a list"),
    ],
)
def test_what_is_refused(classes, expected):
    assert expected in refused({"name": "own", "classes": classes})


@pytest.mark.parametrize("record", [None, 3, [], {"name": "a"}, {"classes": [{"name": "a"}]}])
def test_what_is_no_record_is_refused(record):
    assert refused(record)


def test_many_phrases_are_refused():
    synonyms = [f"w{number}" for number in range(10_001)]
    assert "at most 10000" in refused(
        {"name": "a", "classes": [{"name": "b", "synonyms": synonyms}]}
    )


@settings(deadline=None, max_examples=50)
@given(records())
def test_a_record_is_the_set(record):
    classes = ClassSet.from_record(record)
    again = ClassSet.from_record(json.loads(json.dumps(classes.as_record())))
    assert again == classes
    assert again.as_record() == classes.as_record()
    assert again.digest == classes.digest
    assert pickle.loads(pickle.dumps(classes)) == classes


@settings(deadline=None, max_examples=50)
@given(records(), records())
def test_digests_are_equal_where_sets_are(one, other):
    one, other = ClassSet.from_record(one), ClassSet.from_record(other)
    assert (one.digest == other.digest) == (one == other)


def test_what_was_worked_out_does_not_travel():
    classes = yard()
    before = pickle.dumps(classes)
    named(classes, "a truck")
    assert pickle.dumps(classes) == before


@settings(deadline=None, max_examples=50)
@given(record=records())
def test_own_colours_win_and_the_others_are_vocs(record):
    classes = ClassSet.from_record(record)
    palette, voc = palette_of(classes), palette_of(built_in("voc"))
    own = {entry.id: entry.colour for entry in classes.classes if entry.colour}
    for label in range(256):
        expected = bytes.fromhex(own[label][1:]) if label in own else bytes(voc[label])
        assert bytes(palette[label]) == expected
    assert palette.dtype == np.uint8


@settings(deadline=None, max_examples=50)
@given(record=records(), text=st.lists(st.sampled_from(WORDS)).map(" ".join) | st.text())
def test_mentions_are_longest_phrases_in_order(record, text):
    classes = ClassSet.from_record(record)
    mentions = classes.find(text)
    edges = [edge for mention in mentions for edge in (mention.start, mention.end)]
    assert edges == sorted(edges)
    own = {entry.id: set(classes.phrases(entry.id)) for entry in classes.classes}
    for mention in mentions:
        words = words_of(text[mention.start : mention.end])
        assert " ".join(words) in own[mention.entry.id]
        # nothing longer begins there
        rest = words_of(text[mention.start :])
        longer = {" ".join(rest[:length]) for length in range(len(words) + 1, len(rest) + 1)}
        assert not any(longer & phrases for phrases in own.values())


@settings(deadline=None, max_examples=50)
@given(record=records())
def test_every_name_is_a_class(record):
    classes = ClassSet.from_record(record)
    for entry in classes.classes:
        for name in entry.names:
            assert classes.by_name(name.upper()) == entry


PRINTABLE = st.characters(exclude_categories=["C", "Z"]) | st.just(" ")


@settings(deadline=None, max_examples=200)
@given(
    # a letter or a digit somewhere, as a phrase must have: few random texts do
    st.builds(
        "{}{}{}".format,
        st.text(PRINTABLE, max_size=15),
        st.characters(categories=["L", "N"]),
        st.text(PRINTABLE, max_size=15),
    )
)
@example("|0")
def test_whatever_is_a_phrase_can_be_looked_for(text):
    record = {"name": "a", "classes": [{"name": "b", "synonyms": [text]}]}
    try:
        classes = ClassSet.from_record(record)
    except ConfigError:
        assume(False)
    classes.check_words()
    for synonym in classes.classes[0].synonyms:
        assert classes.by_name(synonym).name == "b"
