"""``classes`` and ``prompts`` as a person types them."""

import csv
import json

import pytest
import yaml

from tests.cli.test_cli import ovamgen

YARD = """
name: yard
classes:
  - {name: forklift, synonyms: [lift truck], colour: "#ff8800"}
  - {name: glass}
  - {name: eyewear, synonyms: [glasses]}
  - {name: vehicle, phrases: [car, bus, truck]}
"""
CAPTIONS = ["two forklifts and a lift truck", "a man with glasses", "A Bus", "a tree", "cars, cars"]


@pytest.fixture
def yard(tmp_path):
    path = tmp_path / "yard.yaml"
    path.write_text(YARD)
    return path


@pytest.fixture
def captions(tmp_path):
    path = tmp_path / "captions.txt"
    path.write_text("\n".join(CAPTIONS))
    return path


def rows(text, width):
    """The first cells of a printed table's rows."""
    return {line.split()[0]: line.split()[1:width] for line in text.splitlines() if line.split()}


def refused(*arguments):
    done = ovamgen(*arguments)
    assert done.returncode == 2, done.stdout
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("ovamgen: ")
    return done.stderr


def test_what_ships_is_listed():
    assert [line.split()[:2] for line in ovamgen("classes", "list").stdout.splitlines()] == [
        ["voc", "20"],
        ["coco", "80"],
        ["ade150", "150"],
        ["cityscapes19", "19"],
    ]
    listed = json.loads(ovamgen("classes", "list", "--json").stdout)
    assert {"name": "coco", "classes": 80} in listed


def test_a_set_is_shown(yard):
    text = ovamgen("classes", "show", yard).stdout
    assert "#ff8800" in text
    assert "lift truck" in text
    assert "car, bus, truck" in text
    assert "yard: 4 classes, digest " in text


def test_a_shown_record_is_a_class_file(tmp_path):
    shown = ovamgen("classes", "show", "coco", "--json").stdout
    again = tmp_path / "again.yaml"
    again.write_text(shown)
    assert ovamgen("classes", "show", again, "--json").stdout == shown
    assert len(yaml.safe_load(shown)["classes"]) == 80


def test_what_words_find_in_captions(yard, captions):
    found = json.loads(ovamgen("classes", "check", yard, "--captions", captions, "--json").stdout)
    assert found["captions"] == 5
    assert found["without_class"] == 1
    assert [(row["name"], row["captions"], row["words"]) for row in found["classes"]] == [
        ("forklift", 1, {"forklifts": 1, "lift truck": 1}),
        ("glass", 0, {}),
        ("eyewear", 1, {"glasses": 1}),
        ("vehicle", 2, {"cars": 2, "bus": 1}),
    ]
    assert found["classes"][3]["examples"] == ["A Bus", "cars, cars"]
    assert found["contests"] == [{"phrase": "glasses", "names": "eyewear", "plural_of": "glass"}]
    text = ovamgen("classes", "check", yard, "--captions", captions).stdout
    assert rows(text, 2)["vehicle"] == ["2"]
    assert "5 captions, 1 of them name no class" in text
    assert "'glasses', the plural in glass, names eyewear" in text


def test_words_are_compared_with_instances(tmp_path):
    texts = {1: ["a cat", "a pet", "a dog"], 2: ["a dog"], 3: ["a cat and a dog"]}
    annotations = [
        {"id": 10 * image + number, "image_id": image, "caption": text}
        for image, several in texts.items()
        for number, text in enumerate(several)
    ]
    captions, instances = tmp_path / "captions.json", tmp_path / "instances.json"
    captions.write_text(json.dumps({"annotations": annotations}))
    shown = [(1, 17), (1, 17), (2, 18), (2, 90)]
    objects = [{"image_id": i, "category_id": c, "area": 9.0, "iscrowd": 0} for i, c in shown]
    names = {17: "cat", 18: "dog", 90: "toothbrush"}
    content = {
        # no captions are judged of image 3, which the file does not list
        "images": [{"id": 1}, {"id": 2}, {"id": 4}],
        "categories": [{"id": number, "name": name} for number, name in names.items()],
        "annotations": objects,
    }
    instances.write_text(json.dumps(content))
    arguments = ["classes", "check", "cat,dog", "--captions", captions, "--instances", instances]
    found = json.loads(ovamgen(*arguments, "--json").stdout)
    assert [row["agreement"] for row in found["classes"]] == [
        {
            "right": 1,
            "wrong": 0,
            "silent": 2,
            "images": 1,
            "images_named": 1,
            "precision": 1.0,
            "recall": 1 / 3,
        },
        {
            "right": 1,
            "wrong": 1,
            "silent": 0,
            "images": 1,
            "images_named": 1,
            "precision": 0.5,
            "recall": 1.0,
        },
    ]
    text = ovamgen(*arguments).stdout
    assert "precision 66.7 % (2 of 3), recall 50.0 % (2 of 4)" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("classes: [{name: cat}, {name: dog, synonyms: [cat]}]", "'cat' names both cat and dog"),
        ("classes: []", "at least one class"),
        ("classes: [{name: cat, synonym: kitty}]", "did you mean 'synonyms'?"),
        ("classes: [{name: cat, id: 255}]", "from 1 to 254"),
    ],
)
def test_bad_files_are_one_line(tmp_path, captions, text, expected):
    path = tmp_path / "own.yaml"
    path.write_text(text)
    assert expected in refused("classes", "show", path)
    assert expected in refused("classes", "check", path, "--captions", captions)
    out = ["--per-class", 1, "--out", tmp_path / "a.csv"]
    assert expected in refused("prompts", "--classes", path, *out)
    assert not (tmp_path / "a.csv").exists()


def test_other_mistakes_are_one_line(tmp_path):
    assert "did you mean 'coco'?" in refused("classes", "show", "cocoo")
    assert "does not exist" in refused("classes", "check", "voc", "--captions", tmp_path / "a.csv")
    some = ["prompts", "--classes", "cat,dog", "--per-class", 1]
    assert "must end in .csv" in refused(*some, "--out", tmp_path / "a.txt")
    assert "cannot be written" in refused(*some, "--out", tmp_path / "none" / "a.csv")
    many = ["prompts", "--classes", "cat,dog", "--per-class", 0, "--out", tmp_path / "a.csv"]
    assert "at least 1 prompt a class" in refused(*many)


def test_a_thousand_prompts_are_planned_with_nothing_left_out(tmp_path):
    names = "aeroplane,bicycle,bird,boat,bottle,bus,car,cat,chair,cow"
    wanted = ["prompts", "--classes", names, "--per-class", 190]
    done = ovamgen(*wanted, "--out", tmp_path / "a.csv")
    with (tmp_path / "a.csv").open(newline="") as file:
        prompts = list(csv.DictReader(file))
    assert len(prompts) >= 1000
    assert f"{len(prompts):,} prompts for 10 classes, 190 of each" in done.stdout
    assert len({row["caption"].lower() for row in prompts}) == len(prompts)
    planned = ovamgen(
        *("plan", "--captions", tmp_path / "a.csv", "--model", "mini"),
        *("--out", tmp_path / "plan", "--json"),
    )
    summary = json.loads(planned.stdout)
    assert summary["total"] == {"available": len(prompts), "taken": len(prompts), "rejected": {}}
    taken = {name: tally["taken"] for name, tally in summary["classes"].items() if tally["taken"]}
    assert taken == dict.fromkeys(names.split(","), 190)
    again = ovamgen(*wanted, "--out", tmp_path / "b.csv")
    assert again.returncode == 0
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
