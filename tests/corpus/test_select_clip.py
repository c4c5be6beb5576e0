"""CLIP scores of a selection, by a small CLIP with random weights: a real one in every part."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from ovamgen.classes.loading import default_classes
from ovamgen.corpus.dataset import read_samples
from ovamgen.corpus.open import open_corpus
from ovamgen.corpus.select.clip import ClipScorer, class_texts
from ovamgen.corpus.select.filters import SelectionSettings
from ovamgen.corpus.select.select import select
from ovamgen.errors import ConfigError, ShardError
from tests.corpus.corpora import write_corpus

PLAIN = SelectionSettings(area_quantiles=None, drop_uniform=False)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A CLIP of 32 x 32 pixels that reads letters."""
    path = tmp_path_factory.mktemp("clip")
    letters = "abcdefghijklmnopqrstuvwxyz"
    tokens = [
        *letters,
        *(f"{letter}</w>" for letter in letters),
        "<|startoftext|>",
        "<|endoftext|>",
    ]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    (path / "vocab.json").write_text(json.dumps(vocabulary))
    (path / "merges.txt").write_text("#version: 0.2\n")
    tokenizer = CLIPTokenizer.from_pretrained(path, model_max_length=40)
    tokenizer.save_pretrained(path)
    torch.manual_seed(3)
    size = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 2}
    end = vocabulary["<|endoftext|>"]
    text = {**size, "num_attention_heads": 2, "vocab_size": len(tokens), "eos_token_id": end}
    text |= {"max_position_embeddings": 40, "bos_token_id": end - 1, "pad_token_id": end}
    vision = {**size, "num_attention_heads": 2, "image_size": 32, "patch_size": 8}
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)
    CLIPModel(config).save_pretrained(path)
    CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    ).save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    """30 + 20 samples."""
    return write_corpus(tmp_path_factory.mktemp("corpus") / "run", (30, 20))[0]


def reference(folder, samples):
    """The notebook's score by transformers alone: one image and two texts at a time."""
    model = CLIPModel.from_pretrained(folder).eval()
    tokenizer = CLIPTokenizer.from_pretrained(folder)
    processor = CLIPImageProcessorPil.from_pretrained(folder)
    names = {1: "aeroplane", 8: "cat", 11: "dining table", 15: "person", 20: "tv monitor"}
    found = {}
    for sample in samples:
        pixels = processor(Image.fromarray(sample.image), return_tensors="pt")["pixel_values"]
        scores = []
        for class_id in sample.metadata["class_ids"]:
            texts = [f"a {names[class_id]}", f"not a {names[class_id]}"]
            inputs = tokenizer(texts, padding=True, return_tensors="pt")
            with torch.inference_mode():
                logits = model(pixel_values=pixels, **inputs).logits_per_image[0]
            scores.append(float(logits.softmax(0)[0]))
        found[sample.key] = scores
    return found


def test_the_texts_are_the_notebooks():
    texts = class_texts(default_classes())
    assert len(texts) == 20
    assert texts[19] == ("a tv monitor", "not a tv monitor")
    assert texts[10] == ("a dining table", "not a dining table")
    assert texts[15] == ("a potted plant", "not a potted plant")


def test_scores_and_selection_are_the_published_ones(folder, corpus, tmp_path):
    samples = list(read_samples(corpus.url))
    expected = reference(folder, samples)
    done = select(corpus.url, str(tmp_path / "view"), PLAIN, clip=str(folder))
    table = pd.read_parquet(tmp_path / "view" / "selection.parquet")
    for row in table.itertuples():
        np.testing.assert_allclose(row.clip_scores, expected[row.key], atol=2e-5)
    pairs = table[["key", "class_ids", "clip_scores"]].explode(["class_ids", "clip_scores"])
    pairs = pairs.astype({"clip_scores": float})
    quantile = pairs.groupby("class_ids")["clip_scores"].transform(lambda s: s.quantile(0.25))
    passes = (pairs.clip_scores > quantile).groupby(pairs.key).all()
    kept = (tmp_path / "view" / "keys.txt").read_text().split()
    assert kept == sorted(passes.index[passes])
    assert 10 < len(kept) < 45
    assert done.funnel.dropped == {"clip_quantile": 50 - len(kept)}
    assert not any("not scored" in note for note in done.funnel.notes)
    info = json.loads((tmp_path / "view" / "selection.json").read_text())
    assert len(info["clip_sha256"]) == 64


def test_scores_are_kept_to_go_on_from(folder, corpus, tmp_path, monkeypatch):
    out = tmp_path / "view"
    score_shard = ClipScorer.score_shard

    def second_fails(self, source, record):
        if record.shard_index == 1:
            raise KeyboardInterrupt
        return score_shard(self, source, record)

    monkeypatch.setattr(ClipScorer, "score_shard", second_fails)
    with pytest.raises(KeyboardInterrupt):
        select(corpus.url, str(out), PLAIN, clip=str(folder))
    assert (out / "INCOMPLETE.json").exists()
    assert not (out / "selection.json").exists()
    scored = []

    def counted(self, source, record):
        scored.append(record.shard_index)
        return score_shard(self, source, record)

    monkeypatch.setattr(ClipScorer, "score_shard", counted)
    select(corpus.url, str(out), PLAIN, clip=str(folder))
    assert scored == [1]
    assert len(open_corpus(str(out), source=corpus.url).view.keys) > 0


def test_damaged_scores_are_named(folder, corpus, tmp_path):
    out = tmp_path / "view"
    select(corpus.url, str(out), PLAIN, clip=str(folder))
    (out / "clip" / "000000.parquet").write_bytes(b"nothing")
    with pytest.raises(ShardError, match=r"clip/000000\.parquet is damaged .*remove it"):
        select(corpus.url, str(out), PLAIN, clip=str(folder))


def test_folders_without_a_clip_are_refused(tmp_path, corpus, folder):
    with pytest.raises(ConfigError, match=r"expects the folder of a CLIP model .*nowhere"):
        select(corpus.url, str(tmp_path / "view"), PLAIN, clip=str(tmp_path / "nowhere"))
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    with pytest.raises(ConfigError, match="cannot be loaded as a CLIP model"):
        select(corpus.url, str(tmp_path / "view"), PLAIN, clip=str(broken))
    assert not (tmp_path / "view").exists()
