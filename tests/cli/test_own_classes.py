"""Own classes through the whole chain on the embedded model, typed as a person types them."""

import json

import numpy as np
import pytest
from PIL import Image

from ovamgen.corpus.dataset import read_samples
from ovamgen.corpus.open import open_corpus
from tests.command_line import ovamgen

VEHICLE = '{id: 9, name: vehicle, phrases: [car, bus, train], colour: "#ff8800"}'
SETS = {
    2: ["{name: cat}", VEHICLE],
    3: ["{name: cat}", "{name: dog}", VEHICLE],
    4: ["{name: cat}", "{id: 3, name: dog}", "{id: 5, name: bird}", VEHICLE],
}


def typed(*words):
    done = ovamgen(*words)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def refused(*words):
    done = ovamgen(*words)
    assert done.returncode == 2, (words, done.stdout)
    assert done.stderr.count("\n") == 1
    return done.stderr


def class_file(folder, count):
    path = folder / "own.yaml"
    lines = "".join(f"  - {entry}\n" for entry in SETS[count])
    path.write_text(f"name: own{count}\nclasses:\n{lines}")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3, 4])
def test_from_the_file_to_a_scored_network(count, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    own = class_file(tmp_path, count)
    typed("prompts", "--classes", own, "--per-class", 4, "--out", "captions.csv")
    typed(
        *("generate", "--captions", "captions.csv", "--classes", own, "--model", "mini"),
        *("--steps", 4, "--runner", "local", "--out", "corpus"),
    )
    own.unlink()
    typed("verify", "corpus")
    corpus = open_corpus("corpus")
    classes = corpus.classes
    ids = [entry.id for entry in classes.classes]
    assert len(ids) == count
    assert classes.by_name("vehicle").id == 9
    seen = set()
    for sample in read_samples("corpus"):
        targets = sample.metadata["class_ids"]
        assert set(targets) <= set(ids)
        assert set(np.unique(sample.labels)) <= {0, 255, *targets}
        seen |= set(targets)
    assert seen == set(ids)
    card = (tmp_path / "corpus/README.md").read_text()
    for entry in classes.classes:
        assert entry.name in card
    typed("report", "corpus", "--out", "page.html")
    assert "vehicle" in (tmp_path / "page.html").read_text()
    typed(
        "select", "corpus", "--classes", "cat,vehicle", "--area-quantiles", "none", "--out", "some"
    )
    assert open_corpus("some").classes == classes
    typed("export", "voc", "corpus", "--out", "voc")
    folder = tmp_path / "voc/VOCdevkit/VOC2012"
    masks = sorted((folder / "SegmentationClass").glob("*.png"))
    with Image.open(masks[0]) as mask:
        palette = np.array(mask.getpalette()).reshape(-1, 3)
    assert palette[9].tolist() == [0xFF, 0x88, 0]
    typed("export", "hf", "corpus", "--out", "hf")
    typed("train", "--shards", "corpus", "--size", "small", "--steps", 2, "--out", "network")
    for voc, split in (("mini", "val"), ("voc", "train")):
        score = ("evaluate", "segmentor", "--checkpoint", "network", "--voc", voc)
        typed(*score, "--split", split, "--limit", 4, "--out", f"scores-{voc}")
        scores = json.loads((tmp_path / f"scores-{voc}/scores.json").read_text())
        assert "vehicle" in json.dumps(scores)
    # a corpus of VOC's classes is not to be trained on together with it, nor this network scored
    other = ("generate", "--captions", "demo", "--model", "mini", "--limit", 2, "--steps", 2)
    typed(*other, "--runner", "local", "--out", "other")
    typed("export", "voc", "other", "--out", "other-voc")
    typed("train", "--shards", "other", "--size", "small", "--steps", 1, "--out", "voc-network")
    said = refused(
        *("evaluate", "segmentor", "--checkpoint", "voc-network", "--voc", "voc"),
        *("--split", "train", "--out", "refused"),
    )
    assert f"own{count}" in said
    assert "voc" in said
    said = refused(*other, "--classes", "cat,dog", "--runner", "local", "--out", "other")
    assert "class set: voc" in said


BAD = {
    "a name twice": "[{name: cat}, {name: cat}]",
    "id 0": "[{id: 0, name: cat}]",
    "id 255": "[{id: 255, name: cat}]",
    "too many": "[" + ", ".join(f"{{name: c{i}}}" for i in range(255)) + "]",
    "a word twice": "[{name: cat, synonyms: [pet]}, {name: dog, synonyms: [pet]}]",
    "none": "[]",
    "an unknown key": "[{name: cat, color: '#ff0000'}]",
}
TOLD = {
    "a name twice": "two classes have the name 'cat'",
    "id 0": "must be from 1 to 254",
    "id 255": "must be from 1 to 254",
    "too many": "at most 254 classes, since masks have eight bits, got 255",
    "a word twice": "'pet' names both cat and dog",
    "none": "at least one class, got an empty list",
    "an unknown key": "unknown key 'color': did you mean 'colour'",
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("command", ["plan", "generate", "samples"])
def test_a_bad_class_file_is_refused_in_one_line(case, command, tmp_path):
    path = tmp_path / "bad.yaml"
    path.write_text(f"name: bad\nclasses: {BAD[case]}\n")
    out = tmp_path / "out"
    given = ["--classes", path, "--model", "mini", "--out", out]
    said = refused(command, *given, *([] if command == "samples" else ["--captions", "demo"]))
    assert TOLD[case] in said
    assert not out.exists()


def test_a_bank_that_lacks_a_class_is_refused(tmp_path):
    said = refused(
        *("generate", "--captions", "demo", "--classes", "cat,zebra", "--model", "mini"),
        *("--tokens", "own", "--runner", "local", "--out", tmp_path / "out"),
    )
    assert "token bank own lacks zebra" in said
    assert not (tmp_path / "out").exists()


def test_the_page_shows_the_file_that_it_uses(repository):
    page = (repository / "docs/own-classes.md").read_text("utf-8")
    shown = page.split("```yaml\n")[1].split("```")[0]
    assert shown == (repository / "jobs/classes/pets.yaml").read_text("utf-8")
