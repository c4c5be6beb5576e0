"""``ovamgen train`` and ``ovamgen evaluate segmentor`` as a user calls them."""

import json

import pytest
from typer.testing import CliRunner

from ovamgen.cli import app
from ovamgen.errors import ConfigError
from tests.pictures.voc_folders import write_voc


def invoke(*arguments):
    result = CliRunner().invoke(app, [*map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_train_then_evaluate(tmp_path):
    voc = write_voc(tmp_path / "voc", {"train": 6, "val": 2})
    train = ("train", "--real", voc, "--out", tmp_path / "out", "--size", "small", "--steps", 2)
    done = invoke(*train, "--batch-size", 4, "--crop", 32, "--set", "augment.flip=false")
    assert done.exit_code == 0
    assert "steps          2 (2 taken now)" in done.stdout
    asked = ("evaluate", "segmentor", "--checkpoint", tmp_path / "out", "--voc", voc)
    scored = invoke(*asked, "--split", "val", "--out", tmp_path / "scores", "--json")
    told = json.loads(scored.stdout)
    assert told == json.loads((tmp_path / "scores/scores.json").read_text())
    assert told["images"] == 2
    assert not (tmp_path / "scores/predictions").exists()
    again = (*asked, "--split", "val", "--out", tmp_path / "scores", "--predictions")
    text = invoke(*again).stdout
    assert "mIoU over 21 classes with background (VOC)" in text
    assert len(list((tmp_path / "scores/predictions").glob("*.png"))) == 2


def test_bad_calls(tmp_path):
    with pytest.raises(ConfigError, match="give --shards, --real, or both"):
        invoke("train", "--out", tmp_path / "out")
    with pytest.raises(ConfigError, match="did you mean 'poly_power'"):
        invoke("train", "--real", "x", "--out", tmp_path / "out", "--set", "poly_powr=1")
    with pytest.raises(ConfigError, match="'small' or 'resnet50'"):
        invoke("train", "--real", "x", "--out", tmp_path / "out", "--size", "huge")
    assert not (tmp_path / "out").exists()


def test_settings_come_from_a_file_and_flags_win(tmp_path, repository):
    from ovamgen.config import read_config_file
    from ovamgen.segmentor.settings import build_settings

    file = read_config_file(repository / "jobs/configs/train-segmentor.yaml")
    settings = build_settings(file, {"steps": 7})
    assert (settings.size, settings.steps) == ("resnet50", 7)
    assert settings.crop_px == 512
