import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydensecrf.densecrf import DenseCRF2D

from ovamgen.config import CrfConfig, MaskConfig, build_config
from ovamgen.errors import ConfigError, SampleError
from ovamgen.masks.binarise import make_label_map

NO_CRF = CrfConfig(enabled=False)


def _settings(**values):
    return MaskConfig(**{"tau": 0.5, "crf": NO_CRF} | values)


def _image(height=4, width=4):
    return np.zeros((height, width, 3), np.uint8)


def _maps(*rows):
    return np.array(rows, np.float32)


def test_threshold_is_strict_and_after_division_by_the_maximum():
    maps = _maps([[2.0, 1.0], [1.5, 0.0]])
    result = make_label_map(maps, [7], _image(2, 2), _settings(tau=0.5))
    np.testing.assert_array_equal(result.labels, [[7, 0], [7, 0]])
    assert result.scores == (0.875,)
    assert result.areas == (0.5,)


def test_several_claims_go_to_the_larger_score_and_ties_to_the_lower_id():
    first = [[1.0, 0.6], [0.7, 0.0]]
    second = [[0.8, 1.0], [0.7, 0.6]]
    result = make_label_map(_maps(first, second), [9, 3], _image(2, 2), _settings())
    np.testing.assert_array_equal(result.labels, [[9, 3], [3, 3]])
    np.testing.assert_allclose(result.scores, [1.0, (1.0 + 0.7 + 0.6) / 3], rtol=1e-6)
    assert result.areas == (0.25, 0.75)


def test_order_of_targets_does_not_change_the_labels():
    rng = np.random.default_rng(0)
    maps = rng.random((3, 8, 8), dtype=np.float32)
    image = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
    settings = _settings(tau=0.4, crf=CrfConfig())
    one = make_label_map(maps, [5, 2, 11], image, settings)
    other = make_label_map(maps[[2, 0, 1]], [11, 5, 2], image, settings)
    np.testing.assert_array_equal(one.labels, other.labels)
    assert one.scores == (other.scores[1], other.scores[2], other.scores[0])


def test_zero_map_is_legal_and_empty():
    result = make_label_map(np.zeros((1, 2, 2), np.float16), [1], _image(), _settings())
    assert not result.labels.any()
    assert result.scores == result.areas == (0.0,)


def test_constant_map_claims_everything():
    result = make_label_map(np.full((1, 2, 2), 0.25, np.float16), [1], _image(), _settings())
    assert (result.labels == 1).all()
    assert result.scores == result.areas == (1.0,)


def test_factor_comes_before_the_threshold_and_is_not_normalised_away():
    maps = _maps([[1.0, 0.77], [0.0, 0.0]])
    plain = make_label_map(maps, [4], _image(2, 2), _settings(tau=0.75))
    scaled = make_label_map(
        maps,
        [4],
        _image(2, 2),
        _settings(tau=0.75, self_attention="constant", self_attention_low=0.95),
    )
    np.testing.assert_array_equal(plain.labels, [[4, 4], [0, 0]])
    np.testing.assert_array_equal(scaled.labels, [[4, 0], [0, 0]])
    np.testing.assert_allclose(scaled.scores, [0.95], rtol=1e-6)


def test_published_20k_settings_in_their_order():
    """Methods 7.4 computed again with torch: heat/max * 0.95 at map size, bicubic, clamp."""
    torch = pytest.importorskip("torch")
    masks = build_config(
        {"model": {"id": "mini"}, "masks": {"preset": "ovam-cvpr24", "crf": {"enabled": False}}}
    ).masks
    heat = np.random.default_rng(5).random((1, 16, 24), dtype=np.float32) ** 2
    factored = torch.from_numpy(heat)[None] / float(heat.max()) * 0.95
    up = torch.nn.functional.interpolate(factored, (128, 192), mode="bicubic", align_corners=False)
    up = up.clamp(0, 1)[0, 0].numpy()
    result = make_label_map(heat, [2], _image(128, 192), masks)
    clear = np.abs(up - 0.75) > 1e-5
    np.testing.assert_array_equal(result.labels[clear], np.where(up > 0.75, 2, 0)[clear])
    np.testing.assert_allclose(result.scores[0], up[up > 0.75].mean(), rtol=1e-4)


def test_one_target_equals_two_label_crf():
    """Methods 3, called directly."""
    rng = np.random.default_rng(2)
    y, x = np.mgrid[:12, :20]
    heat = np.exp(-((y - 5) ** 2 + (x - 12) ** 2) / 20).astype(np.float32)[None]
    image = rng.integers(0, 80, (48, 80, 3), dtype=np.uint8)
    image[10:34, 36:64] += 120
    hard = make_label_map(heat, [15], image, _settings(tau=0.4)).labels == 15

    field = DenseCRF2D(80, 48, 2)
    probabilities = np.stack([1 - hard, hard]).astype(np.float32).clip(0.01, 0.99)
    field.setUnaryEnergy(-np.log(probabilities).reshape(2, -1))
    field.addPairwiseBilateral(sxy=80, srgb=13, rgbim=image, compat=10)
    field.addPairwiseGaussian(sxy=3, compat=3)
    expected = np.argmax(field.inference(5), axis=0).reshape(48, 80)

    refined = make_label_map(heat, [15], image, _settings(tau=0.4, crf=CrfConfig()))
    np.testing.assert_array_equal(refined.labels, expected * 15)
    assert (refined.labels == 15).sum() != hard.sum(), "the scene must need refining"


def test_soft_unaries_are_the_scores_and_what_they_leave_over():
    maps = _maps([[1.0, 0.2], [0.4, 0.0]], [[0.5, 1.0], [0.5, 0.1]])
    crf = CrfConfig(unary="soft", bilateral_weight=0, gaussian_weight=0)
    result = make_label_map(maps, [3, 8], _image(2, 2), _settings(tau=0.9, crf=crf))
    # Background 0, 0, .5 (a tie with class 8: the lower label), .9.
    np.testing.assert_array_equal(result.labels, [[3, 8], [0, 0]])


def test_ignore_band_is_half_open_and_counts_every_target():
    maps = _maps([[1.0, 0.5], [0.3, 0.1]], [[0.0, 0.0], [0.6, 1.0]])
    settings = _settings(tau=0.55, ignore_low=0.5, ignore_high=0.6)
    result = make_label_map(maps, [1, 2], _image(2, 2), settings)
    np.testing.assert_array_equal(result.labels, [[1, 255], [2, 2]])
    assert result.areas == (0.25, 0.5)
    both = make_label_map(maps, [1, 2], _image(2, 2), _settings(ignore_low=0.3, ignore_high=0.61))
    np.testing.assert_array_equal(both.labels, [[1, 255], [255, 2]])


def test_half_precision_and_wide_images():
    heat = np.zeros((1, 4, 8), np.float16)
    heat[0, :, 6:] = 0.7
    labels = make_label_map(heat, [12], _image(32, 64), _settings(tau=0.8)).labels
    assert labels.shape == (32, 64)
    assert labels[:, 56:].all()
    assert not labels[:, :44].any()


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    targets=st.integers(1, 4),
    tau=st.floats(0.05, 0.95),
    interpolation=st.sampled_from(["bilinear", "bicubic"]),
    crf=st.booleans(),
)
def test_laws_of_every_label_map(seed, targets, tau, interpolation, crf):
    rng = np.random.default_rng(seed)
    maps = rng.random((targets, 4, 6)).astype(np.float16) * rng.integers(0, 2, (targets, 1, 1))
    ids = rng.choice(np.arange(1, 21), targets, replace=False).tolist()
    image = rng.integers(0, 256, (16, 24, 3), dtype=np.uint8)
    settings = _settings(tau=tau, interpolation=interpolation, crf=CrfConfig(enabled=crf))
    result = make_label_map(maps.astype(np.float16), ids, image, settings)
    assert set(np.unique(result.labels)) <= {0, *ids}
    assert len(result.scores) == len(result.areas) == targets
    for class_id, score, area in zip(ids, result.scores, result.areas, strict=True):
        assert area == (result.labels == class_id).mean()
        assert (score > 0) <= (area > 0)
        assert 0 <= score <= 1
        if not crf and area:
            assert score > tau - 1e-6


@pytest.mark.parametrize(
    ("maps", "ids", "message"),
    [
        (np.ones((2, 2, 2)), [3, 3], "must differ"),
        (np.ones((2, 2, 2)), [3], "one class id for each"),
        (np.ones((0, 2, 2)), [3], "one class id for each"),
        (np.ones((1, 2, 2)), [0], "1..254"),
        (np.ones((1, 2, 2)), [255], "1..254"),
        (np.full((1, 2, 2), np.nan), [1], "finite"),
        (np.full((1, 2, 2), np.inf), [1], "finite"),
        (np.full((1, 2, 2), -0.1), [1], "not negative"),
    ],
)
def test_unusable_maps_and_ids_are_refused(maps, ids, message):
    with pytest.raises(SampleError, match=message):
        make_label_map(maps.astype(np.float32), ids, _image(), _settings())


def test_no_class_is_background_all_over():
    nothing = np.ones((0, 2, 2), np.float32)
    found = make_label_map(nothing, [], _image(), _settings())
    assert found.labels.shape == _image().shape[:2]
    assert not found.labels.any()
    assert (found.scores, found.areas) == ((), ())


def test_unresolved_tau_is_refused():
    with pytest.raises(ConfigError, match="tau"):
        make_label_map(np.ones((1, 2, 2), np.float32), [1], _image(), _settings(tau=None))


def test_masks_and_shards_start_without_torch():
    modules = (
        "ovamgen.masks.binarise, ovamgen.masks.crf, ovamgen.masks.resize, ovamgen.shards.codec, "
        "ovamgen.shards.writer, ovamgen.shards.shard_record, ovamgen.storage.store"
    )
    code = f"import sys, {modules}; print('torch' in sys.modules, 'ray' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]
