"""Normalisation, the background channel and the factor; masks of every preset by hand or torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from ovamgen.config import CrfConfig, MaskConfig, build_config
from ovamgen.masks.binarise import class_scores, make_label_map

NO_CRF = CrfConfig(enabled=False)


def _settings(**values):
    return MaskConfig(**{"tau": 0.5, "crf": NO_CRF} | values)


def _preset(name, tokens):
    masks = {"preset": name, "crf": {"enabled": False}}
    layer = {"model": {"id": "mini"}, "attribution": {"tokens": tokens}, "masks": masks}
    return build_config(layer).masks


def _image(height, width):
    return np.zeros((height, width, 3), np.uint8)


def _maps(*shape, seed=0):
    return 0.2 + np.random.default_rng(seed).random(shape, dtype=np.float32) ** 2


def _up(maps, height, width, mode="bilinear"):
    given_maps = torch.from_numpy(maps)[None]
    return torch.nn.functional.interpolate(given_maps, (height, width), mode=mode)[0].numpy()


def test_min_max_spreads_the_range():
    maps = np.array([[[1.0, 3.0], [2.0, 1.0]], [[4.0, 4.0], [4.0, 4.0]]], np.float32)
    scores = class_scores(maps, 2, 2, _settings(normalisation="min-max"))
    assert scores.tolist() == [[[0, 1], [0.5, 0]], [[0, 0], [0, 0]]]


@pytest.mark.parametrize("tokens", ["words", "untrained"])
def test_what_the_paper_calls_daam(tokens):
    """Methods 1.7 check 6: bilinear to the image, divided by the maximum there, > 0.4 or 0.8."""
    maps = _maps(1, 9, 17)
    up = _up(maps, 72, 136)[0]
    scores = up / up.max()
    tau = 0.4 if tokens == "words" else 0.8
    labels = make_label_map(maps, [5], _image(72, 136), _preset("daam-ovam", tokens)).labels
    clear = np.abs(scores - tau) > 1e-6
    assert up.max() < 0.99 * maps.max()  # or the two places to divide would be one
    np.testing.assert_array_equal(labels[clear], np.where(scores > tau, 5, 0)[clear])


def test_official_daam():
    """Methods 1.3: bicubic to the image, min-max there, > 0.4."""
    maps = _maps(1, 8, 16)
    up = _up(maps, 64, 128, "bicubic")[0]
    scores = (up - up.min()) / (up.max() - up.min() + 1e-8)
    labels = make_label_map(maps, [5], _image(64, 128), _preset("daam", "words")).labels
    clear = np.abs(scores - 0.4) > 1e-5
    np.testing.assert_array_equal(labels[clear], np.where(scores > 0.4, 5, 0)[clear])


@pytest.mark.parametrize(
    ("preset", "tokens", "tau", "low"),
    [
        ("ovam-voc-sim", "words", 0.4, 0.85),
        ("ovam-voc-sim", "untrained", 0.75, 0.95),
        ("ovam-coco-cap", "words", 0.5, 0.91),
        ("ovam-coco-cap", "untrained", 0.8, 0.99),
    ],
)
def test_ovams_rows(preset, tokens, tau, low):
    """Methods 2.6: the constant factor makes the threshold tau / low."""
    maps = _maps(1, 8, 8)
    up = _up(maps, 64, 64)[0]
    scores = up / up.max()
    labels = make_label_map(maps, [2], _image(64, 64), _preset(preset, tokens)).labels
    clear = np.abs(scores - tau / low) > 1e-6
    np.testing.assert_array_equal(labels[clear], np.where(scores > tau / low, 2, 0)[clear])


@pytest.mark.parametrize(
    ("preset", "tokens", "tau"),
    [
        ("attn2mask-supplementary", "words", 0.5),
        ("attn2mask-supplementary", "untrained", 0.8),
        ("attn2mask-notebook-voc-sim", "words", 0.4),
        ("attn2mask-notebook-coco-cap", "untrained", 0.6),
    ],
)
def test_a_background_channel_is_a_threshold(preset, tokens, tau):
    """Methods 4, checks 1 and 5: argmax of [1 - h - beta, h] is h > (1 - beta) / 2."""
    settings = _preset(preset, tokens)
    maps = _maps(1, 9, 17)
    spread = (maps - maps.min()) / (maps.max() - maps.min())
    up = _up(spread, 72, 136)[0]
    channel = _up((1 - spread - settings.beta).astype(np.float32), 72, 136)[0]
    np.testing.assert_allclose(channel, 1 - up - settings.beta, atol=1e-5)
    labels = make_label_map(maps, [9], _image(72, 136), settings).labels
    assert settings.tau == pytest.approx(tau)
    clear = np.abs(up - tau) > 1e-5
    np.testing.assert_array_equal(labels[clear], np.where(channel < up, 9, 0)[clear])
    np.testing.assert_array_equal(labels[clear], np.where(up > tau, 9, 0)[clear])


def test_the_background_wins_ties_and_the_lower_id_next():
    maps = np.array([[[0.0, 1.0, 0.5]], [[1.0, 1.0, 0.0]]], np.float32)
    settings = _settings(tau=None, beta=0.0, normalisation="min-max").resolved(words=True)
    labels = make_label_map(maps, [8, 3], _image(1, 3), settings).labels
    assert labels.tolist() == [[3, 3, 0]]


@given(
    arrays.arrays(np.float32, (2, 3, 4), elements=st.floats(0, 1, width=16)),
    st.floats(-0.875, 0.875),
)
def test_the_two_routes_agree_for_several_classes_too(maps, beta):
    """1 - max_k h_k - beta < h_j only for the largest h, and there iff h > (1 - beta) / 2."""
    by_beta = _settings(tau=None, beta=beta).resolved(words=True)
    by_tau = _settings(tau=(1 - beta) / 2)
    one = make_label_map(maps, [4, 6], _image(3, 4), by_beta).labels
    other = make_label_map(maps, [4, 6], _image(3, 4), by_tau).labels
    clear = np.abs(class_scores(maps, 3, 4, by_tau) - (1 - beta) / 2).min(0) > 1e-5
    np.testing.assert_array_equal(one[clear], other[clear])


def test_maps_that_carry_the_received_factor_are_not_normalised_again():
    maps = np.array([[[0.6, 0.9], [0.2, 0.0]]], np.float16)
    scores = class_scores(maps, 2, 2, _settings(self_attention="received"))
    np.testing.assert_array_equal(scores, maps.astype(np.float32))
    spread = class_scores(maps, 2, 2, _settings(self_attention="affinity"))
    assert spread.max() == 1
