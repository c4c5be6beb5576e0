import dataclasses

import numpy as np
import pytest

from ovamgen.errors import ShardError
from ovamgen.report import selection
from ovamgen.report.selection import choose_samples
from ovamgen.shards.shard_record import publish_shard
from ovamgen.storage.store import LocalStore
from tests.shards.samples import CLASSES, FINGERPRINT, draw, make_failure, make_sample, make_spec


def publish(store, shard, class_numbers, **values):
    samples = [
        make_sample(make_spec(index, shard=shard, targets=[CLASSES[number]]), **values)
        for index, number in enumerate(class_numbers)
    ]
    return publish_shard(
        store,
        shard_index=shard,
        split="train",
        samples=samples,
        failures=[make_failure(99, shard=shard)],
        fingerprint=FINGERPRINT,
    )


@pytest.fixture
def store(tmp_path):
    return LocalStore(tmp_path)


def _shown(store, records, count):
    return [
        (item.sample.metadata["class_names"][0], item.sample.key[5:])
        for item in choose_samples(store, records, count)
    ]


def test_classes_take_turns_in_the_order_of_keys(store):
    records = [publish(store, 0, [3, 3, 3, 1]), publish(store, 1, [1, 0, 3])]
    assert _shown(store, records, 5) == [
        ("aeroplane", "100001"),
        ("cat", "000003"),
        ("person", "000000"),
        ("cat", "100000"),
        ("person", "000001"),
    ]
    assert len(_shown(store, records, 99)) == 7
    assert _shown(store, records[::-1], 5) == _shown(store, records, 5)


def test_more_classes_than_room_are_spread(store):
    record = publish(store, 0, [0, 1, 2, 3, 4])
    assert [name for name, _ in _shown(store, [record], 2)] == ["aeroplane", "diningtable"]


def test_unsafe_samples_are_not_shown(store):
    record = publish(store, 0, [0, 1], unsafe=True)
    assert _shown(store, [record], 2) == []


def test_a_few_shards_of_many_are_looked_into(store, monkeypatch):
    monkeypatch.setattr(selection, "MAX_SHARDS", 2)
    records = [publish(store, shard, [0]) for shard in range(4)]
    assert [key for _, key in _shown(store, records, 9)] == ["000000", "200000"]


def test_pixels_and_previews_are_those_of_the_sample(store):
    record = publish(store, 0, [4, 2])
    (item,) = [i for i in choose_samples(store, [record], 9) if i.sample.key.endswith("1")]
    _, labels, _ = draw(make_spec(1, targets=[CLASSES[2]]))
    np.testing.assert_array_equal(item.sample.labels, labels)
    assert item.previews == make_sample(make_spec(1, targets=[CLASSES[2]])).previews


def test_a_tar_that_lacks_a_sample_of_its_metadata_is_named(store):
    record = publish(store, 0, [0, 1])
    other = publish(store, 1, [0])
    store.put(record.name, store.read(other.name))
    with pytest.raises(ShardError, match=r"must hold \d+ samples that were asked for, got"):
        choose_samples(store, [record], 2)


def test_damaged_metadata_is_named(store):
    record = publish(store, 0, [0])
    store.put("metadata/000000.parquet", b"PAR1")
    with pytest.raises(ShardError, match="cannot be read as Parquet"):
        choose_samples(store, [record], 2)


def test_shards_without_samples_are_passed_over(store):
    record = dataclasses.replace(publish(store, 0, []), name="not-there.tar")
    assert choose_samples(store, [record], 2) == ()
