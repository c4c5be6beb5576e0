"""One sample made again: equal where nothing changed, and the difference where something did."""

import dataclasses
import io
import tarfile

import pyarrow.parquet as pq
import pytest

from ovamgen.errors import ConfigError
from ovamgen.integrity.replay import replay
from tests.fakes import DiscEngine

KEY = "00000100004"


class Brighter(DiscEngine):
    """As another version of a library would draw."""

    def synthesise(self, specs):
        batch = super().synthesise(specs)
        batch.images[..., 2] += 3
        return batch


@pytest.fixture
def failed(pristine):
    """Key of the sample that failed."""
    rows = [
        row
        for path in sorted((pristine / "metadata").iterdir())
        for row in pq.read_table(path, columns=["key", "status"]).to_pylist()
    ]
    (key,) = [row["key"] for row in rows if row["status"] == "failed"]
    return key


def _neighbour(key):
    """Another sample of the same batch of three."""
    index = int(key[6:])
    return f"{key[:6]}{index + 1 if index % 3 == 0 else index - 1:05d}"


def test_a_sample_comes_out_as_it_is_stored(pristine, tmp_path):
    done = replay(str(pristine), KEY, out=str(tmp_path / "both"), factory=DiscEngine)
    assert (done.image_max_abs_diff, done.mask_pixels_different) == (0, 0)
    assert done.image_sha256_equal
    assert done.mask_sha256_equal
    assert done.members_equal
    assert done.metadata_different == done.versions_different == done.settings_different == ()
    with tarfile.open(pristine / "train-000001.tar") as tar:
        jpeg = tar.extractfile(f"{KEY}.jpg").read()
    for side in ("stored", "replayed"):
        assert (tmp_path / "both" / f"{KEY}.{side}.jpg").read_bytes() == jpeg
    assert len(done.saved) == 6


def test_a_neighbour_of_a_failed_sample_is_drawn_in_a_batch_of_the_planned_size(pristine, failed):
    """The disc engine writes the size of the batch into a pixel."""
    done = replay(str(pristine), _neighbour(failed), factory=DiscEngine)
    assert done.image_sha256_equal


def test_a_difference_is_measured(pristine):
    done = replay(str(pristine), KEY, factory=Brighter)
    assert 3 <= done.image_max_abs_diff <= 40
    assert (done.image_sha256_equal, done.members_equal) == (False, False)
    assert any(line.startswith("image_sha256: ") for line in done.metadata_different)
    assert "bits differ" in "\n".join(done.lines())


def test_other_settings_are_named(pristine):
    sharper = {"masks": {"crf": {"enabled": False}}}
    done = replay(str(pristine), KEY, overrides=(sharper,), factory=DiscEngine)
    assert "masks.crf.enabled: true -> false" in done.settings_different
    assert done.mask_pixels_different > 0
    assert done.image_max_abs_diff == 0


def test_a_failed_sample_fails_again_and_is_compared_by_its_reason(pristine, failed):
    done = replay(str(pristine), failed, factory=DiscEngine)
    assert done.stored_failure == done.failure
    assert "bad luck" in done.failure
    assert done.image_max_abs_diff is None
    assert "fails the same way" in "\n".join(done.lines())


def test_a_failed_sample_that_can_be_made_now(pristine, failed):
    class Patient(DiscEngine):
        def synthesise(self, specs):
            mild = [dataclasses.replace(s, prompt=s.prompt.replace("poison", "")) for s in specs]
            return dataclasses.replace(super().synthesise(mild), specs=tuple(specs))

    done = replay(str(pristine), failed, factory=Patient)
    assert done.failure == ""
    assert "made this time" in "\n".join(done.lines())


@pytest.mark.parametrize("key", ["00000100009", "5", "", "0000010000x", "99999999999"])
def test_an_unknown_key_is_told_the_range(pristine, key):
    with pytest.raises(ConfigError, match=r"keys go from 00000000000 to 00000200005, near it"):
        replay(str(pristine), key, factory=DiscEngine)


def test_a_shard_that_is_not_there_yet_is_told(out):
    (out / "manifests" / "000001.json").unlink()
    with pytest.raises(ConfigError, match="its shard 1 is not finished"):
        replay(str(out), KEY, factory=DiscEngine)


def test_what_took_a_worker_down_is_not_tried_here(out, failed):
    path = out / "metadata" / f"{failed[:6]}.parquet"
    table = pq.read_table(path)
    rows = table.to_pylist()
    rows[int(failed[6:])]["reason"] = "the worker process died 3 times while making this sample"
    sink = io.BytesIO()
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), sink)
    path.write_bytes(sink.getvalue())
    with pytest.raises(ConfigError, match="would take this process down"):
        replay(str(out), failed, factory=DiscEngine)
    assert replay(str(out), _neighbour(failed), factory=DiscEngine).image_sha256_equal
