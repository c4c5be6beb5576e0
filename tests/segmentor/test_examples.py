import io
import tarfile

import numpy as np
import pyarrow as pa
import pytest

from ovamgen.corpus.dataset import read_samples
from ovamgen.corpus.view import Keys, write_view
from ovamgen.errors import ConfigError, ShardError
from ovamgen.segmentor.examples import ShardExamples
from ovamgen.shards.arrays import encode_jpeg, encode_png
from ovamgen.shards.shard_record import read_records
from ovamgen.storage.store import LocalStore


def write_tar(path, samples):
    with tarfile.open(path, "w") as tar:
        for key, members in samples.items():
            for extension, content in members.items():
                header = tarfile.TarInfo(f"{key}.{extension}")
                header.size = len(content)
                tar.addfile(header, io.BytesIO(content))
    return str(path)


JPG = encode_jpeg(np.zeros((16, 24, 3), np.uint8), 90)


def test_samples_by_number_are_those_read_in_order(run):
    examples = ShardExamples(run.url)
    expected = list(read_samples(run.url))
    assert len(examples) == len(expected) == 11
    for index in (10, 0, 4, 3):
        example = examples.read(index)
        assert example.name == expected[index].key
        np.testing.assert_array_equal(example.image, expected[index].image)
        np.testing.assert_array_equal(example.labels, expected[index].labels)


def test_a_run_and_its_tars_are_the_same_data(run):
    by_run = ShardExamples(run.url)
    by_tars = ShardExamples(run.url + "/train-{000000..000002}.tar")
    assert by_tars.digest() == by_run.digest()
    assert ShardExamples(run.url + "/train-000001.tar").digest() != by_run.digest()


def test_of_a_view_only_the_selected_samples_are_seen(run, tmp_path):
    keys = Keys(["00000000002", "00000200000"])
    table = pa.table({"key": list(keys), "kept": [True, True]})
    shards = {str(r.shard_index): r.sha256 for r in read_records(run).values()}
    write_view(LocalStore(tmp_path / "view"), run, keys, table, {"shards": shards, "settings": {}})
    examples = ShardExamples(str(tmp_path / "view"), run.url)
    assert [examples.read(index).name for index in range(len(examples))] == list(keys)


def test_shards_without_masks_are_refused_before_training(tmp_path):
    url = write_tar(
        tmp_path / "a.tar",
        {
            "00": {"jpg": JPG, "mask.png": encode_png(np.zeros((16, 24), np.uint8))},
            "01": {"jpg": JPG, "txt": b""},
        },
    )
    with pytest.raises(ShardError, match=r"a\.tar: sample 01 must have the member mask\.png"):
        ShardExamples(url)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (encode_png(np.full((16, 24), 21, np.uint8)), "values 0 to 20 and 255 .* got 21 in 384"),
        (encode_png(np.zeros((16, 20), np.uint8)), "pixels L of 16 x 24, got L of 16 x 20"),
        (b"nothing", "cannot be read as PNG"),
    ],
    ids=["class 21", "other size", "no PNG"],
)
def test_bad_masks_are_named(tmp_path, mask, message):
    url = write_tar(tmp_path / "a.tar", {"00": {"jpg": JPG, "mask.png": mask}})
    with pytest.raises(ShardError, match=f"mask of sample 00 in a.tar .*{message}"):
        ShardExamples(url).read(0)


def test_no_shards(tmp_path):
    with pytest.raises(ConfigError, match="at least one finished shard"):
        ShardExamples(str(tmp_path))
    write_tar(tmp_path / "x-000000.tar", {})
    with pytest.raises(ConfigError, match=r"x-000001\.tar does not exist"):
        ShardExamples(str(tmp_path / "x-{000000..000001}.tar"))
    with pytest.raises(ConfigError, match="at least one sample"):
        ShardExamples(str(tmp_path / "x-000000.tar"))
    with pytest.raises(ConfigError, match="plain tars"):
        ShardExamples(str(tmp_path / "x.tar.gz"))
    (tmp_path / "bad.tar").write_bytes(b"x" * 2000)
    with pytest.raises(ShardError, match=r"bad\.tar cannot be read as a tar"):
        ShardExamples(str(tmp_path / "bad.tar"))
