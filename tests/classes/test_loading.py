"""Class sets by name, from files, and from names with commas."""

import pytest
import yaml

from ovamgen.classes.loading import built_in, load_class_set
from ovamgen.errors import ConfigError
from tests.classes.test_class_set import YARD, named, yard


def refused(place):
    with pytest.raises(ConfigError) as caught:
        load_class_set(str(place))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def written(tmp_path, text, name="own.yaml"):
    path = tmp_path / name
    path.write_text(text, "utf-8")
    return str(path)


def test_a_file_is_its_record(tmp_path):
    assert load_class_set(written(tmp_path, yaml.safe_dump(YARD))) == yard()


def test_a_file_without_a_name_is_called_as_the_file(tmp_path):
    assert load_class_set(written(tmp_path, "classes: [{name: cat}]", "pets.yml")).name == "pets"


def test_a_set_is_written_as_a_file(tmp_path):
    coco = built_in("coco")
    assert load_class_set(written(tmp_path, yaml.safe_dump(coco.as_record()))) == coco


def test_a_file_in_a_bucket():
    import fsspec

    with fsspec.open("memory://sets/yard.yaml", "w") as file:
        file.write(yaml.safe_dump(YARD))
    assert load_class_set("memory://sets/yard.yaml") == yard()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "must hold 'name:' and a list 'classes:', got a NoneType"),
        ("[cat, dog]", "got a list"),
        ("a: [", "cannot be read as YAML"),
        ("a: &x [1]\nclasses: *x", "aliases (*x) are not read"),
        ("classes: " + "[" * 90, "nested too deep"),
        ("#" * 4_200_000, "expected at most 4194304 bytes"),
        ("classes:\n- name: a\n  colour: #ff8800", "class 'a': colour is empty"),
        ("nam: a\nclasses: [{name: b}]", "unknown key 'nam': did you mean 'name'?"),
        ("classes: [{name: no}]", "got False"),
    ],
)
def test_files_that_are_no_sets(tmp_path, text, expected):
    message = refused(written(tmp_path, text))
    assert "own.yaml" in message
    assert expected in message


def test_a_file_that_is_not_there(tmp_path):
    assert "none.yaml does not exist" in refused(tmp_path / "none.yaml")


@pytest.mark.parametrize(
    ("place", "expected"),
    [
        ("cooc", "did you mean 'coco'?"),
        ("forklift", "of one class 'forklift,'"),
        ("", "got ''"),
        (",", "at least one class"),
        ("cat,dog,cat", "two classes have the name 'cat'"),
        ("sofa,couch", "names both sofa and couch"),
        ("a+b,c", "a name must be one word"),
    ],
)
def test_what_names_no_set(place, expected):
    assert expected in refused(place)


def test_names_bring_their_words_along():
    pets = load_class_set("cat, dog")
    assert pets.name == "cat-dog"
    assert [entry.id for entry in pets.classes] == [1, 2]
    assert named(pets, "a kitten, two puppies and a hot dog") == ["cat", "dog"]


def test_a_word_that_is_given_is_its_own_class():
    classes = load_class_set("person,worker,airplane")
    assert named(classes, "a man and two workers under planes") == ["person", "worker", "airplane"]


def test_names_that_nobody_knows_are_classes_too():
    classes = load_class_set("forklift,traffic cone,zebra")
    assert [entry.name for entry in classes.classes] == ["forklift", "traffic-cone", "zebra"]
    assert named(classes, "traffic cones, forklifts, zebra crossing") == [
        "traffic-cone",
        "forklift",
    ]


def test_one_class_of_a_built_in_set_keeps_its_name_there():
    entry = load_class_set("dining table,").classes[0]
    assert (entry.name, entry.phrase) == ("diningtable", "dining table")
