import json
import re

import pytest
import yaml

from ovamgen.errors import ShardError
from ovamgen.shards.card import ClassCount
from ovamgen.shards.manifest import count_classes, write_indexes
from ovamgen.shards.shard_record import publish_shard
from ovamgen.storage.store import LocalStore
from tests.shards.samples import (
    CLASSES,
    FINGERPRINT,
    make_failure,
    make_sample,
    make_samples,
    make_spec,
)

RUN_INFO = {
    "fingerprint": FINGERPRINT,
    "ovamgen_version": "0.1.0",
    "model": {
        "id": "stable-diffusion-v1-5/stable-diffusion-v1-5",
        "revision": "451f4fe",
        "trained": True,
    },
    "config": {
        "plan": {"captions": "/home/someone/captions_val2017.json", "seed": 0},
        "synthesis": {"scheduler": "PNDM", "steps": 30, "guidance": 7.5},
        "masks": {"preset": "paper", "tau": 0.8},
    },
}


def _run(root, order=(0, 1)):
    store = LocalStore(root)
    records = []
    for shard in order:
        samples = make_samples(3, shard=shard)
        samples.append(make_sample(make_spec(3, shard=shard, targets=[CLASSES[1], CLASSES[2]])))
        records.append(
            publish_shard(
                store,
                shard_index=shard,
                split="train",
                samples=samples,
                failures=[make_failure(4, shard=shard)],
                fingerprint=FINGERPRINT,
            )
        )
    return store, records


@pytest.fixture
def run(tmp_path):
    store, records = _run(tmp_path / "out")
    write_indexes(store, records, RUN_INFO)
    return store, records


def test_manifest_and_wids_index_by_hand(run):
    store, records = run
    manifest = json.loads(store.read("manifest.json"))
    assert (manifest["samples"], manifest["failed"], manifest["run"]) == (8, 2, RUN_INFO)
    assert [shard["name"] for shard in manifest["shards"]] == [
        "train-000000.tar",
        "train-000001.tar",
    ]
    assert manifest["shards"][1]["sha256"] == records[1].sha256
    assert json.loads(store.read("index.json")) == {
        "__kind__": "wids-shard-index-v1",
        "wids_version": 1,
        "name": "ovamgen",
        "shardlist": [
            {
                "url": record.name,
                "nsamples": 4,
                "filesize": record.size_bytes,
                "md5sum": record.md5,
            }
            for record in records
        ],
    }


def test_equal_runs_give_equal_files_whatever_order_shards_came_in(tmp_path, run):
    store, _ = run
    other, records = _run(tmp_path / "other", order=(1, 0))
    write_indexes(other, records, dict(reversed(RUN_INFO.items())))
    for name in ("manifest.json", "index.json", "README.md"):
        assert store.read(name) == other.read(name)


def test_classes_are_counted_once_for_every_sample_that_shows_them(run):
    store, records = run
    assert count_classes(store, records) == [
        ClassCount(1, "aeroplane", "aeroplane", 2),
        ClassCount(8, "cat", "cat", 4),
        ClassCount(11, "diningtable", "dining table", 4),
    ]


def test_damaged_metadata_is_named(run):
    store, records = run
    store.put("metadata/000001.parquet", b"PAR1 no")
    with pytest.raises(ShardError, match=r"metadata/000001.parquet .* cannot be read as Parquet"):
        count_classes(store, records)


def _card(store):
    text = store.read("README.md").decode()
    _, header, body = text.split("---\n", 2)
    return yaml.safe_load(header), body


def test_card(run):
    header, body = _card(run[0])
    assert header["size_categories"] == ["n<1K"]
    assert header["task_categories"] == ["image-segmentation"]
    assert header["configs"] == [
        {
            "config_name": "default",
            "data_files": [{"split": "train", "path": ["train-*.tar"]}],
        }
    ]
    assert "stable-diffusion-license" in header["license_link"]
    for line in (
        "| samples | 8 |",
        "| captions that gave no sample | 2 |",
        "| shards | 2 |",
        "| 11 | diningtable | dining table | 4 |",
        "| diffusion model | `stable-diffusion-v1-5/stable-diffusion-v1-5@451f4fe` |",
        "| captions | `captions_val2017.json` |",
        "| threshold tau | `0.8` |",
    ):
        assert line in body.splitlines()
    assert "Open RAIL-M" in body
    assert "random weights" not in body
    assert "/home" not in body
    assert not re.search(r"\n\n\n", body), "no holes where the template left something out"


@pytest.mark.parametrize("info", [{}, {"model": None}, {"config": {"plan": 3}}])
def test_card_of_a_run_that_says_little(run, info):
    store, records = run
    write_indexes(store, records, info)
    header, body = _card(store)
    assert "license_link" not in header
    assert "the terms on the model's own page" in body


def test_card_of_random_weights_says_so(run):
    store, records = run
    write_indexes(store, records, {"model": {"id": "mini", "trained": False}})
    assert "**The diffusion model had random weights." in _card(store)[1]


def test_shards_without_samples_are_kept_out_of_what_loaders_read(tmp_path):
    store, records = _run(tmp_path / "out", order=(1,))
    empty = publish_shard(
        store,
        shard_index=0,
        split="train",
        samples=[],
        failures=[make_failure(0)],
        fingerprint=FINGERPRINT,
    )
    write_indexes(store, [empty, *records], {})
    (data_files,) = _card(store)[0]["configs"][0]["data_files"]
    assert data_files["path"] == ["train-000001.tar"]
    (shard,) = json.loads(store.read("index.json"))["shardlist"]
    assert shard["url"] == "train-000001.tar"
    assert len(json.loads(store.read("manifest.json"))["shards"]) == 2
