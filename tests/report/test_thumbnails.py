import io
import shutil
import tarfile

import numpy as np
import pytest
from PIL import Image

from ovamgen.classes.loading import default_classes
from ovamgen.errors import ShardError
from ovamgen.report.corpus import read_corpus
from ovamgen.report.sampling import Sampler
from ovamgen.report.statistics import gather
from ovamgen.report.thumbnails import SIDE_PX, _size, _stored, make_thumbnails
from ovamgen.shards.arrays import decode_png
from ovamgen.shards.codec import decode_sample
from ovamgen.shards.reader import read_tar
from ovamgen.storage.store import open_store
from tests.report.corpora import make_corpus

VOC = default_classes()


def choices_of(folder, count):
    store = open_store(str(folder))
    records = read_corpus(store).records
    sampler = Sampler(count)
    gather(store, records, VOC, each_row=sampler.add)
    return store, records, sampler.choose()


def pixels(webp):
    return np.asarray(Image.open(io.BytesIO(webp)), np.int16)


def test_thumbnails_are_those_of_the_samples(corpus):
    store, records, choices = choices_of(corpus, 12)
    thumbnails = make_thumbnails(store, records, choices, VOC, max_bytes=10**7)
    assert [thumbnail.choice for thumbnail in thumbnails] == choices
    samples = {}
    for record in records:
        with store.open(record.name) as file:
            for key, members in read_tar(file, record.name):
                samples[key] = decode_sample(members)
    for thumbnail in thumbnails:
        sample = samples[thumbnail.choice.candidate.key]
        assert thumbnail.metadata == sample.metadata
        assert (thumbnail.height, thumbnail.width) == sample.labels.shape
        image, heatmap, mask = map(pixels, (thumbnail.image, thumbnail.heatmap, thumbnail.mask))
        assert np.abs(image - sample.image).mean() < 8
        painted = np.ptp(mask, axis=2) > 30  # the overlay is grey where nothing is painted
        assert (painted & (sample.labels > 0)).sum() >= 0.4 * painted.sum()
        assert heatmap.shape == mask.shape == image.shape


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 64), (64, 64)),
        ((512, 512), (256, 256)),
        ((256, 512), (128, 256)),
        ((8, 2048), (64, 256)),
    ],
)
def test_sizes_keep_the_shape_within_reason(size, expected):
    assert _size(*size) == expected
    assert max(expected) <= SIDE_PX


def test_beyond_the_budget_the_least_wanted_are_left_out(corpus):
    store, records, choices = choices_of(corpus, 12)
    whole = make_thumbnails(store, records, choices, VOC, max_bytes=10**7)
    budget = sum(thumbnail.page_bytes for thumbnail in whole[:5])
    kept = make_thumbnails(store, records, choices, VOC, max_bytes=budget)
    assert sum(thumbnail.page_bytes for thumbnail in kept) <= budget
    ranks = [choices.index(thumbnail.choice) for thumbnail in kept]
    assert ranks == sorted(ranks)
    assert ranks[:4] == [0, 1, 2, 3], "the most wanted stay"


def test_stored_heatmaps_stand_in_for_previews(tmp_path):
    folder = make_corpus(tmp_path, 4, troubles=False, shards={"heatmaps": True})
    store = open_store(str(folder))
    record = read_corpus(store).records[0]
    with store.open(record.name) as file:
        _, members = next(read_tar(file, record.name))
    sample = decode_sample(members)
    maps = [decode_png(data) for data in _stored(sample)]
    assert len(maps) == len(sample.metadata["class_ids"])
    assert all(one.max() == 255 for one in maps)


def test_a_sample_that_is_not_in_its_tar_is_an_error(corpus, tmp_path):
    folder = shutil.copytree(corpus, tmp_path / "out")
    store, records, choices = choices_of(folder, 500)
    tar = folder / records[0].name
    with tarfile.open(tar) as file:
        first = file.getnames()[0].split(".")[0]
    data = tar.read_bytes().replace(first.encode() + b".", b"99999999999.")
    tar.write_bytes(data)
    with pytest.raises(ShardError, match=rf"{records[0].name}"):
        make_thumbnails(store, records, choices, VOC, max_bytes=10**7)
