"""Parts of a drawing's attention: they add up to the whole, and the image does not change."""

import numpy as np
import pytest
import torch
from torch.nn.functional import interpolate

from ovamgen.config import build_config, fingerprint, identity
from ovamgen.corpus.open import open_corpus
from ovamgen.engine.one_image import attribute
from ovamgen.errors import ConfigError
from ovamgen.generation import generate
from ovamgen.integrity.verify import verify
from ovamgen.shards.arrays import decode_npz
from ovamgen.shards.codec import HEATMAPS
from tests.golden.reference import TINY_SD
from tests.runs import run_config

WHOLE, HALF, QUARTER = (8, 16), (4, 8), (2, 4)
"""Cells of the layers at 64 x 128 pixels."""


def maps(tmp_path, method="ovam", steps=4, **chosen):
    """The maps of the text "a cat", the image, and the largest value that a map could have."""
    config = build_config(
        {
            "model": {"id": str(TINY_SD), "device": "cpu"},
            "synthesis": {"steps": steps, "height": 64, "width": 128, "scheduler": "DDIM"},
            "attribution": {"method": method, **chosen},
            "runtime": {"cpu_threads": 1},
        }
    )
    out = tmp_path / "maps.npz"
    done = attribute(config, prompt="a cat", texts=["a cat"], out=out)
    with np.load(out) as archive:
        return torch.from_numpy(archive["text_0"]), archive["image"], done.maximum


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return maps(tmp_path_factory.mktemp("whole"))


def test_calls_add_up_to_all_of_them(whole, tmp_path):
    """DDIM with 4 steps calls the UNet at 751, 501, 251 and 1."""
    early, image, most = maps(tmp_path, calls=[501, 999])
    late, _, rest = maps(tmp_path, calls=[0, 500])
    torch.testing.assert_close(early + late, whole[0], rtol=1e-5, atol=1e-4)
    assert (most, rest) == (whole[2] / 2, whole[2] / 2)
    np.testing.assert_array_equal(image, whole[1])
    one, _, least = maps(tmp_path, calls=[501, 501])
    assert least == whole[2] / 4
    with pytest.raises(AssertionError):
        torch.testing.assert_close(2 * one, early, rtol=1e-3, atol=1e-3)


def test_layers_add_up_to_all_of_them(whole, tmp_path):
    parts = [maps(tmp_path, resolutions=[size[0]]) for size in (WHOLE, HALF, QUARTER)]
    assert [tuple(part.shape[1:]) for part, _, _ in parts] == [WHOLE, HALF, QUARTER]
    total = sum(
        interpolate(part[None], size=WHOLE, mode="bilinear", align_corners=False)[0]
        for part, _, _ in parts
    )
    torch.testing.assert_close(total, whole[0], rtol=1e-5, atol=1e-4)
    assert sum(most for *_, most in parts) == whole[2]
    np.testing.assert_array_equal(parts[1][1], whole[1])
    both, _, _ = maps(tmp_path, resolutions=[4, 2], calls=[501, 501])
    assert tuple(both.shape[1:]) == HALF


@pytest.mark.parametrize("method", ["daam", "attn2mask"])
def test_other_methods_read_the_chosen_layers(method, tmp_path):
    chosen, image, most = maps(tmp_path, method, resolutions=[8])
    every, same, all_of_them = maps(tmp_path, method)
    assert 0 < most <= all_of_them
    assert not torch.equal(interpolate(chosen[None], every.shape[1:])[0], every)
    np.testing.assert_array_equal(image, same)


@pytest.mark.parametrize(
    ("chosen", "message"),
    [
        ({"resolutions": [8, 64]}, r"names 64, and the layers .* have 2, 4, 8 cells"),
        ({"calls": [600, 700]}, r"timesteps from 600 to 700, .* called at 751 to 1$"),
        ({"calls": [700, 600]}, r"two timesteps from 0 to 1000, the lower one first"),
        ({"resolutions": [0]}, "attribution.resolutions"),
        ({"method": "attn2mask", "calls": [1, 2]}, "attn2mask has its own choice"),
        ({"method": "datasetdm", "resolutions": [16]}, "datasetdm has its own choice"),
    ],
)
def test_what_is_not_there_is_said(chosen, message, tmp_path):
    with pytest.raises(ConfigError, match=message):
        maps(tmp_path, **chosen)
    assert not (tmp_path / "maps.npz").exists()


def test_fingerprints_of_what_reads_all_stay(tmp_path):
    plain, chosen = (
        run_config(tmp_path, attribution=attribution) for attribution in ({}, {"resolutions": [16]})
    )
    assert "resolutions" not in plain.attribution.model_dump()
    assert fingerprint(plain, {}) != fingerprint(chosen, {})


@pytest.mark.parametrize(("kind", "sides"), [("received", 8), ("affinity", 16), ("iterated", 16)])
def test_chosen_layers_beside_self_attention_of_larger_ones(kind, sides, tmp_path):
    """The factor is fitted to the maps, a matrix makes them as large as it is."""
    config = run_config(
        tmp_path,
        count=1,
        synthesis={"steps": 2},
        attribution={"resolutions": [8]},
        masks={"self_attention": kind, "self_attention_low": 0.5},
        shards={"heatmaps": True},
        runtime={"runner": "local"},
    )
    assert "small_maps_version" in identity(config, {})
    plain = config.model_copy(update={"attribution": run_config(tmp_path).attribution})
    assert "small_maps_version" not in identity(plain, {})
    generate(config)
    corpus = open_corpus(config.out)
    [(_, members)] = list(corpus.read(corpus.records[0]))
    maps = decode_npz(members[HEATMAPS], "maps")[0]
    assert maps.shape == (20, sides, sides)
    assert maps.max() > 0


def test_a_corpus_of_chosen_attention(tmp_path):
    config = run_config(
        tmp_path,
        count=2,
        synthesis={"steps": 2},
        attribution={"resolutions": [8]},
        shards={"heatmaps": True},
        runtime={"runner": "local"},
    )
    generate(config)
    assert verify(config.out).ok
    corpus = open_corpus(config.out)
    [(_, members), _] = list(corpus.read(corpus.records[0]))
    assert decode_npz(members[HEATMAPS], "maps")[0].shape == (20, 8, 8)
    wrong = run_config(
        tmp_path / "wrong", count=2, attribution={"resolutions": [5]}, runtime={"runner": "local"}
    )
    with pytest.raises(ConfigError, match="have 8, 16 cells"):
        generate(wrong)
