import gc
import hashlib
import inspect
import os
import warnings

import numpy as np
import pytest
import torch
import webdataset as wds

from ovamgen.corpus.dataset import read_samples, segmentation_dataset
from ovamgen.errors import ConfigError, ShardError
from ovamgen.shards.codec import decode_sample
from ovamgen.storage.store import LocalStore
from tests.finished_run import write_run
from tests.shards.samples import draw, make_spec

pytestmark = [
    # webdataset opens tars and leaves closing them to the garbage collector
    pytest.mark.filterwarnings("ignore:unclosed file:ResourceWarning"),
    pytest.mark.filterwarnings("ignore:.*unclosed file:pytest.PytestUnraisableExceptionWarning"),
]

SIZES = (4, 4, 3)


@pytest.fixture(autouse=True, scope="module")
def close_abandoned_tars():
    """webdataset leaves a tar open where its pipeline is not read to the end.

    Once for all tests of the module: a collection goes over everything that torch has loaded.
    """
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


def _labels():
    """The label maps as they were drawn, in order."""
    return [
        draw(make_spec(index, shard=shard), 32, 48)[1]
        for shard, size in enumerate(SIZES)
        for index in range(size)
    ]


def _digest(image, mask):
    return hashlib.sha256(image.numpy().tobytes() + mask.numpy().tobytes()).hexdigest()


def _digests(pairs):
    return [_digest(*pair) for pair in pairs]


def test_pairs_have_exact_ids_in_order(run):
    pairs = list(segmentation_dataset(run.url))
    assert len(pairs) == 11
    for (image, mask), labels in zip(pairs, _labels(), strict=True):
        assert (image.dtype, image.shape) == (torch.float32, (3, 32, 48))
        assert 0 <= image.min() <= image.max() <= 1
        assert image.max() > 0.3
        assert mask.dtype == torch.int64
        np.testing.assert_array_equal(mask.numpy(), labels)
    assert set(np.unique(pairs[1][1])) == {0, 8, 255}


def test_images_are_rgb_and_scaled_once(run):
    image, _ = next(iter(segmentation_dataset(run.url)))
    pixels = next(read_samples(run.url)).image
    np.testing.assert_allclose(image.numpy().transpose(1, 2, 0), pixels / 255, atol=1e-6)


def test_images_in_8_bits_are_the_pixels_themselves(run):
    given = []

    def augment(image, mask):
        given.append(image.dtype)
        return image, mask

    pairs = list(segmentation_dataset(run.url, dtype="uint8", augment=augment))
    floats = list(segmentation_dataset(run.url))
    samples = list(read_samples(run.url))
    assert set(given) == {torch.uint8}
    for (image, mask), (scaled, labels), sample in zip(pairs, floats, samples, strict=True):
        assert (image.dtype, mask.dtype) == (torch.uint8, torch.int64)
        assert image.is_contiguous()
        np.testing.assert_array_equal(image.numpy().transpose(1, 2, 0), sample.image)
        assert torch.equal(image.float().div(255), scaled)
        assert torch.equal(mask, labels)


def test_another_dtype_is_refused_before_anything_is_read(tmp_path):
    unchecked = inspect.unwrap(segmentation_dataset)  # pytest's own type checks would be first
    with pytest.raises(ConfigError, match="float32 or uint8, got 'float16'"):
        unchecked(str(tmp_path), dtype="float16")


def test_a_run_its_tars_and_a_brace_pattern_are_the_same(run):
    expected = _digests(segmentation_dataset(run.url))
    tars = [f"{run.url}/train-{shard:06d}.tar" for shard in range(3)]
    assert _digests(segmentation_dataset(tars)) == expected
    assert _digests(segmentation_dataset(run.url + "/train-{000000..000002}.tar")) == expected


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("shuffle", [0, 8])
def test_every_sample_is_seen_once_by_workers(run, workers, shuffle):
    dataset = segmentation_dataset(run.url, shuffle=shuffle, seed=3)
    loader = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=workers)
    expected = _digests(segmentation_dataset(run.url))
    seen = _digests(loader)
    assert sorted(seen) == sorted(expected)
    assert len(set(seen)) == 11


@pytest.mark.parametrize(("nodes", "workers"), [(1, 3), (3, 1), (2, 1)])
def test_every_sample_is_seen_once_by_nodes(run, monkeypatch, nodes, workers):
    seen = []
    monkeypatch.setenv("WORLD_SIZE", str(nodes))
    monkeypatch.setenv("NUM_WORKERS", str(workers))
    for rank in range(nodes):
        for worker in range(workers):
            monkeypatch.setenv("RANK", str(rank))
            monkeypatch.setenv("WORKER", str(worker))
            seen += _digests(segmentation_dataset(run.url, shuffle=4, seed=1))
    for name in ("WORLD_SIZE", "NUM_WORKERS", "RANK", "WORKER"):
        monkeypatch.delenv(name)
    assert sorted(seen) == sorted(_digests(segmentation_dataset(run.url)))


def test_fewer_shards_than_workers_is_said_and_works(run, monkeypatch):
    for name, value in {"WORLD_SIZE": 2, "RANK": 0, "NUM_WORKERS": 2, "WORKER": 0}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.warns(UserWarning, match="3 shards for 2 nodes with 2 workers each: 1 workers get"):
        assert len(list(segmentation_dataset(run.url))) == 4
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORKER", "1")
    assert list(segmentation_dataset(run.url)) == []


def test_shuffle_is_by_seed_and_changes_from_epoch_to_epoch(run):
    plain = _digests(segmentation_dataset(run.url))
    dataset = segmentation_dataset(run.url, shuffle=8, seed=1)
    first, second = _digests(dataset), _digests(dataset)
    assert first == _digests(segmentation_dataset(run.url, shuffle=8, seed=1))
    assert len({tuple(order) for order in (plain, first, second)}) == 3
    assert first != _digests(segmentation_dataset(run.url, shuffle=8, seed=2))


def test_resampled_goes_on_and_is_by_seed(run):
    one = segmentation_dataset(run.url, resampled=True, seed=4).with_epoch(30)
    other = segmentation_dataset(run.url, resampled=True, seed=4).with_epoch(30)
    digests = _digests(one)
    assert len(digests) == 30
    assert digests == _digests(other)
    assert set(digests) <= set(_digests(segmentation_dataset(run.url)))


def _flip(image, mask):
    return image.flip(-1), mask.flip(-1)


def test_augment_is_given_both(run):
    pairs = list(segmentation_dataset(run.url, augment=_flip))
    for (image, mask), (plain, labels) in zip(pairs, segmentation_dataset(run.url), strict=True):
        assert torch.equal(image.flip(-1), plain)
        assert torch.equal(mask.flip(-1), labels)


@pytest.mark.parametrize(
    "augment",
    [lambda image, mask: (image[:, :8], mask), lambda image, mask: (image, mask.float())],
)
def test_augment_that_breaks_the_pair_is_named(run, augment):
    with pytest.raises(ShardError, match="see to augment"):
        next(iter(segmentation_dataset(run.url, augment=augment)))


def test_folders_without_shards_are_refused(tmp_path):
    for read in (segmentation_dataset, lambda root: next(read_samples(root))):
        with pytest.raises(ConfigError, match="at least one finished shard"):
            read(str(tmp_path))
    with pytest.raises(ConfigError, match="empty list"):
        segmentation_dataset([])


def test_read_samples_gives_what_was_written(run):
    samples = list(read_samples(run.url))
    assert [sample.key for sample in samples] == [
        f"{shard:06d}{index:05d}" for shard, size in enumerate(SIZES) for index in range(size)
    ]
    for sample, labels in zip(samples, _labels(), strict=True):
        np.testing.assert_array_equal(sample.labels, labels)
        assert sample.heatmaps is None
    assert samples[0].caption == make_spec(0).caption


def test_read_samples_gives_heatmaps_where_they_were_stored(tmp_path):
    store, _ = write_run(tmp_path, 1, heatmaps=True)
    sample = next(read_samples(store.url))
    assert sample.heatmaps.shape == (5, 4, 6)
    assert sample.heatmap_class_ids == (1, 8, 11, 15, 20)
    assert len(list(segmentation_dataset(store.url))) == 3


def test_a_cut_tar_is_an_error_for_checks(tmp_path):
    store, _ = write_run(tmp_path, 1)
    os.truncate(tmp_path / "train-000000.tar", 5000)
    with pytest.raises(ShardError, match=r"train-000000\.tar must be .* it was cut"):
        list(read_samples(store.url))


@pytest.mark.parametrize(("decoder", "exact"), [("l8", True), ("pil", True)])
def test_webdatasets_own_decoders_give_the_ids(run, decoder, exact):
    """Conventions 3.2: what mode L is for."""
    tars = wds.SimpleShardList([f"{run.url}/train-000000.tar"])
    pipeline = wds.DataPipeline(tars, wds.tarfile_to_samples(), wds.decode(decoder))
    for sample, labels in zip(pipeline, _labels()[:4], strict=True):
        mask = np.asarray(sample["mask.png"])
        if decoder == "pil":
            assert mask.shape == (32, 48, 3)
            mask = mask[..., 1]
        np.testing.assert_array_equal(mask, labels)
        assert {0, 255} < set(np.unique(mask))
        assert sample["json"]["key"] == sample["__key__"]
        assert sample["txt"] == sample["json"]["caption"]


def test_every_member_set_is_the_same(run):
    store = LocalStore(run.url)
    tars = wds.SimpleShardList([f"{store.url}/{name}" for name in store.list("train-")])
    pipeline = wds.DataPipeline(tars, wds.tarfile_to_samples())
    members = [{k: v for k, v in s.items() if not k.startswith("__")} for s in pipeline]
    assert {tuple(m) for m in members} == {("jpg", "json", "mask.png", "txt")}
    assert len({decode_sample(m).key for m in members}) == 11
