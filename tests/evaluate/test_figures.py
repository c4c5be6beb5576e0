"""``evaluate figures``: a picture for each class, by words and by tokens, for the right reasons."""

import json
from dataclasses import replace

import pytest
from PIL import Image
from typer.testing import CliRunner

from ovamgen.cli import app
from ovamgen.errors import ConfigError
from ovamgen.evaluate import recording
from ovamgen.evaluate.figures import MOST_CLASSES, class_pictures, read_thresholds
from ovamgen.evaluate.setups import make_setup
from ovamgen.pictures.picture_set import PictureTarget, open_pictures
from tests.evaluate.conftest import tiny
from tests.golden.reference import TINY_SD, tiny_sd
from tests.voc import VOC_CLASSES


def run(folder, out, *options):
    command = ["evaluate", "figures", "--dataset", folder, "--out", out, "--model", TINY_SD]
    command += ["--device", "cpu", "--tokens", "untrained", "--steps", 2]
    command += ["--set", "synthesis.height=64", "--set", "synthesis.width=64", *options]
    return CliRunner().invoke(app, [str(part) for part in command])


def test_every_class_is_shown_by_words_and_by_tokens(voc_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "load_pipeline", lambda _: tiny_sd())
    out = tmp_path / "figures"
    done = run(voc_folder, out)
    assert done.exit_code == 0, done.output
    assert "2 classes, a picture each" in done.stdout
    stems = [
        "s3-heatmaps-ovam-voc-sim", "s4-masks-daam-ovam", "s5-masks-ovam-voc-sim",
        "heatmaps-daam-ovam",
    ]  # fmt: skip
    files = {path.name for path in out.iterdir() if path.is_file()}
    assert files == {f"{stem}.{kind}" for stem in stems for kind in ("png", "pdf")}
    # two classes, two presets, words and pairs: no other picture is drawn
    assert len(list(out.rglob("*.npz"))) == 2 * 2 * 2
    first = (out / "s5-masks-ovam-voc-sim.png").read_bytes()
    with Image.open(out / "s5-masks-ovam-voc-sim.png") as picture:
        assert min(picture.size) > 300
    # nothing is drawn again, and other thresholds show other masks
    monkeypatch.setattr("ovamgen.evaluate.recording._record_one", None)
    rows = [
        {"name": f"{preset}-{tokens}", "tuned": {"tau": 0.99}}
        for preset in ("ovam-voc-sim", "daam-ovam")
        for tokens in ("words", "tokens")
    ]
    tuned = tmp_path / "comparison.json"
    tuned.write_text(json.dumps({"rows": rows}))
    assert run(voc_folder, out, "--thresholds", tuned).exit_code == 0
    assert (out / "s5-masks-ovam-voc-sim.png").read_bytes() != first
    assert run(voc_folder, out).exit_code == 0
    assert (out / "s5-masks-ovam-voc-sim.png").read_bytes() == first


def test_the_picture_of_a_class_is_told_by_key_and_shows_it_alone(voc_folder):
    pictures = open_pictures(voc_folder)
    assert [picture.key for picture in class_pictures(pictures)] == ["val_000", "val_001"]
    cat, dog = (picture.targets[0] for picture in pictures.pictures[:2])
    first, *others = pictures.pictures
    both = replace(first, targets=(cat, dog))
    assert [p.key for p in class_pictures(replace(pictures, pictures=(both, *others)))] == [
        "val_002",
        "val_001",
    ]
    # of very large sets some, from both ends
    entries = [VOC_CLASSES[0].model_copy(update={"id": number}) for number in range(1, 201)]
    many = tuple(
        replace(first, targets=(PictureTarget(entry=entry, word_included=True),))
        for entry in entries
    )
    shown = [p.targets[0].entry.id for p in class_pictures(replace(pictures, pictures=many))]
    assert len(shown) == MOST_CLASSES
    assert (shown[0], shown[-1]) == (1, 196)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "cannot be read: No such file"),
        ("[]", "must be the comparison.json"),
        ('{"rows": [{"name": 1}]}', "must be the comparison.json"),
        ('{"rows": [{"name": "a", "tuned": {"tau": 0.5}}]}', "has no row ovam-"),
    ],
)
def test_thresholds_of_something_else(tmp_path, text, message):
    path = tmp_path / "comparison.json"
    if text is not None:
        path.write_text(text)
    setup = make_setup(tiny(attribution={"tokens": "untrained"}))
    with pytest.raises(ConfigError, match=message):
        read_thresholds(path, [setup])


def test_what_is_wrong_is_found_before_anything_is_drawn(voc_folder, tmp_path, monkeypatch):
    monkeypatch.setattr(recording, "load_pipeline", None)
    for options, message in (
        (["--presets", "nothing"], "unknown preset 'nothing'"),
        (["--split", "test"], "no split 'test'"),
        (["--thresholds", tmp_path / "no.json"], "--thresholds"),
        (["--presets", "grounded"], "needs a head"),
    ):
        done = run(voc_folder, tmp_path / "o", *options)
        assert isinstance(done.exception, ConfigError), done.output
        assert message in str(done.exception)
    assert not (tmp_path / "o").exists()
