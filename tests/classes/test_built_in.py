"""The sets that ship: their ids, names and colours, and what their words find."""

import json
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ovamgen.classes.class_set import ClassSet
from ovamgen.classes.labels import palette_of
from ovamgen.classes.loading import BUILT_IN, built_in
from ovamgen.classes.plurals import FILE
from recipes.plurals import plurals_file


@pytest.mark.parametrize(
    ("name", "count", "some"),
    [
        ("voc", 20, {1: "aeroplane", 19: "train", 20: "tvmonitor"}),
        ("coco", 80, {1: "person", 3: "car", 53: "hot-dog", 80: "toothbrush"}),
        ("ade150", 150, {1: "wall", 13: "person", 45: "chest-of-drawers", 150: "flag"}),
        ("cityscapes19", 19, {1: "road", 7: "traffic-light", 12: "person", 19: "bicycle"}),
    ],
)
def test_ids_and_names(name, count, some):
    classes = built_in(name)
    assert classes.name == name
    assert [entry.id for entry in classes.classes] == list(range(1, count + 1))
    assert {class_id: classes.by_id(class_id).name for class_id in some} == some


def test_the_categories_of_coco_are_in_its_order(shared):
    file = shared / "data/coco/instances_val2017_79images.json"
    categories = json.loads(file.read_text())["categories"]
    names = [category["name"] for category in sorted(categories, key=lambda c: c["id"])]
    assert [entry.phrase for entry in built_in("coco").classes] == names


def test_colours_are_those_of_the_data_sets():
    city, ade = palette_of(built_in("cityscapes19")), palette_of(built_in("ade150"))
    assert city[1].tolist() == [128, 64, 128]
    assert city[11].tolist() == [70, 130, 180]
    assert city[19].tolist() == [119, 11, 32]
    assert ade[1].tolist() == [120, 120, 120]
    assert ade[75].tolist() == [0, 255, 173]
    assert ade[150].tolist() == [92, 0, 255]
    assert city[0].tolist() == ade[0].tolist() == [0, 0, 0]
    assert city[255].tolist() == ade[255].tolist() == [224, 224, 192]


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_class_is_known_by_each_of_its_names(name):
    classes = built_in(name)
    for entry in classes.classes:
        for text in (*entry.names, entry.name.upper(), entry.phrase.replace(" ", "_")):
            assert classes.by_name(text) is entry


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_phrase_and_no_excluded_one_is_found(name):
    classes = built_in(name)
    for entry in classes.classes:
        for phrase in classes.phrases(entry.id):
            assert [m.entry for m in classes.find(f"There, {phrase}.")] == [entry], phrase
        for phrase in (*entry.excluded, *entry.excluded_forms):
            assert entry not in [m.entry for m in classes.find(f"There, {phrase}.")], phrase


@pytest.mark.parametrize(
    ("caption", "expected"),
    [
        ("an orange cat sleeps beside two oranges", ["cat", "orange"]),
        ("a hot dog and a dog", ["hot-dog", "dog"]),
        ("a stuffed teddy bear and a polar bear", ["teddy-bear", "bear"]),
        ("a couple of dogs watch a couple", ["dog", "person"]),
        ("a baby elephant with a baby", ["elephant", "person"]),
        ("a glass of wine and wine glasses", ["wine-glass", "wine-glass"]),
        ("a tennis ball, a baseball bat", ["sports-ball", "baseball-bat"]),
        ("the laptop computer's mouse on a mouse pad", ["laptop", "mouse"]),
        ("cutting carrot cake with a knife, two knives", ["cake", "knife", "knife"]),
        ("a stop sign below a stoplight", ["stop-sign", "traffic-light"]),
        ("toilet paper by the toilet", ["toilet"]),
    ],
)
def test_captions_in_the_words_of_coco(caption, expected):
    assert [m.entry.name for m in built_in("coco").find(caption)] == expected


def test_the_plurals_that_ship_are_those_of_inflect():
    # 'python -m recipes.plurals' writes them again
    assert FILE.read_text("utf-8") == plurals_file()


def test_no_built_in_set_needs_inflect(repository):
    code = (
        "import sys\n"
        "from ovamgen.classes.loading import BUILT_IN, built_in\n"
        "for name in BUILT_IN: built_in(name).find('two dogs')\n"
        "assert not {'inflect', 'torch', 'pyarrow'} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=repository, check=True)


@pytest.mark.parametrize("name", BUILT_IN)
@settings(deadline=None, max_examples=50)
@given(text=st.text(max_size=80) | st.lists(st.sampled_from(
    ["hot", "dog", "'s", "toy", "orange", "two", "Teddy", "bear", "tv", "-", "_", ",", "of", "wine"]
)).map(" ".join))  # fmt: skip
def test_mentions_lie_in_the_text_in_order(name, text):
    classes = built_in(name)
    mentions = classes.find(text)
    edges = [edge for mention in mentions for edge in (mention.start, mention.end)]
    assert edges == sorted(edges)
    for mention in mentions:
        # a mention taken alone is a mention: places are those of the words
        assert classes.by_name(text[mention.start : mention.end]) is mention.entry


@pytest.mark.parametrize("name", BUILT_IN)
def test_a_record_is_the_set(name):
    classes = built_in(name)
    again = ClassSet.from_record(json.loads(json.dumps(classes.as_record())))
    assert again == classes
    assert again.digest == classes.digest
