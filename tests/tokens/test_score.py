"""Scoring a bank, through the command line."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from ovamgen.attribution.token_bank import TokenBank
from ovamgen.cli import app
from ovamgen.errors import ConfigError
from ovamgen.pictures.sample_folder import save_mask
from ovamgen.tokens.score import score_bank
from tests.golden.reference import tiny_sd


def bank(path, *names, width=24, **provenance):
    pairs = np.random.default_rng(0).normal(size=(len(names), 2, width)).astype(np.float32)
    made = TokenBank(class_names=names, pairs=pairs, provenance=provenance)
    made.save(path)
    return str(path)


def test_scores_of_pairs_and_words(training, tmp_path):
    path = bank(tmp_path / "b.safetensors", "cat", "diningtable", "dog")
    arguments = ["tokens", "score", path, "--samples", str(training.root), "--words"]
    done = CliRunner().invoke(app, [*arguments, "--json"])
    assert done.exit_code == 0, done.output
    scores = json.loads(done.stdout)
    assert scores["samples"] == {"cat": 2, "diningtable": 1}
    assert scores["classes_without_samples"] == ["dog"]
    for kind in ("optimised", "words"):
        table = scores["maps"][kind]
        for entry in (*table["classes"].values(), table["mean"]):
            best = max(entry["iou"])
            assert entry["best_iou"] == best
            assert entry["iou"][round(entry["best_tau"] * 100) - 1] == best
            assert entry["iou_at_0.8"] == entry["iou"][79]
        classes = table["classes"].values()
        mean = np.mean([entry["iou_at_0.4"] for entry in classes])
        assert table["mean"]["iou_at_0.4"] == pytest.approx(mean, abs=2e-4)
    text = CliRunner().invoke(app, arguments).stdout
    assert "diningtable" in text
    assert "no samples: dog" in text


def test_samples_without_an_annotation_are_left_out(training, tmp_path):
    save_mask(training.annotation(training.samples[1]), tmp_path / "cat-2.png")
    path = bank(tmp_path / "b.safetensors", "cat", "diningtable")
    said = []
    scores = score_bank(
        TokenBank.load(path), samples=str(training.root), annotations=str(tmp_path), say=said.append
    )
    assert scores.samples == {"cat": 1}
    assert said[0] == "left out, since no sample of theirs is annotated: diningtable"
    done = CliRunner().invoke(app, ["tokens", "score", path, "--words"])
    assert isinstance(done.exception, ConfigError)
    assert "give --samples FOLDER" in str(done.exception)


def test_a_bank_of_another_model(training, tmp_path):
    wide = bank(tmp_path / "wide.safetensors", "cat", width=768)
    with pytest.raises(ConfigError, match="rows of width 768"):
        score_bank(TokenBank.load(wide), samples=str(training.root))
    other = bank(tmp_path / "other.safetensors", "cat", model="sd15", model_digest="0" * 64)
    said = []
    score_bank(TokenBank.load(other), samples=str(training.root), say=said.append)
    assert any(line.startswith("WARNING") and "made with sd15" in line for line in said)
    own = tiny_sd().info.digest
    same = bank(tmp_path / "same.safetensors", "cat", model_digest=own)
    said.clear()
    score_bank(TokenBank.load(same), samples=str(training.root), say=said.append)
    assert not any("WARNING" in line for line in said)


def test_what_cannot_be_scored(training, tmp_path):
    dogs = TokenBank.load(bank(tmp_path / "dogs.safetensors", "dog"))
    with pytest.raises(ConfigError, match="samples of the bank's classes"):
        score_bank(dogs, samples=str(training.root))
    cats = TokenBank.load(bank(tmp_path / "cats.safetensors", "cat"))
    with pytest.raises(ConfigError, match="no annotated sample of cat: paint one"):
        score_bank(cats, samples=str(training.root), annotations=str(tmp_path))
    with pytest.raises(ConfigError, match="--model is mini"):
        score_bank(cats, samples=str(training.root), model="mini")
